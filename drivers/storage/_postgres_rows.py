"""Queries and what they give: the rows of a statement as the words of storage."""

import json
from collections.abc import Callable
from dataclasses import fields
from typing import Any

from ...subsystems.storage import driver as d
from ._postgres_batch import decoded, floats, place

Query = tuple[str, tuple[Any, ...], Callable[[list[Any]], Any]]
"""The statement's name, its values, and what makes the reply of its rows."""


SPENT = tuple(field.name for field in fields(d.Spent))


def asked(query: d.Request[Any], namespace: str) -> Query:
    """How a query is answered."""
    values: tuple[Any, ...]
    match query:
        case d.ReadLog():
            return "read_log", (query.pid, query.step), lambda rows: tuple(map(_entry, rows))
        case d.ReadPages():
            return "read_pages", (query.pid, query.after), lambda rows: tuple(map(_page, rows))
        case d.ReadLetters():
            return "read_letters", (query.pid, query.limit), lambda rows: tuple(map(_letter, rows))
        case d.ReadProcess():
            values = (namespace, query.pid if query.key is None else None, query.key)
            return "read_process", values, lambda rows: record(rows[0]) if rows else None
        case d.FindProcesses():
            which = (query.name, query.role, query.tag, query.parent, query.tenant)
            values = (namespace, *which, query.ended, query.limit)
            return "find_processes", values, lambda rows: tuple(map(record, rows))
        case d.ReadCommands():
            return "read_commands", (query.pid,), lambda rows: tuple(map(_command, rows))
        case d.ReadQuestions():
            at = (None, None) if query.key is None else place(query.key)
            values = (namespace, query.number, query.pid, *at)
            return "read_questions", values, lambda rows: tuple(map(_question, rows))
        case d.FindAlarms():
            names, versions = zip(*query.programs, strict=True) if query.programs else ((), ())
            values = (namespace, names, versions, query.limit)
            return "find_alarms", values, lambda rows: tuple(map(_alarm, rows))
        case d.FindTenures():
            values = (namespace, query.pids)
            return "find_tenures", values, lambda rows: tuple(d.Tenure(**row) for row in rows)
        case d.FindExpired() | d.ForgetExpired():
            over = query.expiry
            whose = (over.after_s, over.states, over.tenant, over.but_tenants, over.keys_after_s)
            name = "find_expired" if isinstance(query, d.FindExpired) else "forget_expired"
            values = (namespace, *whose, query.limit)
            return name, values, lambda rows: tuple(d.Expired(**row) for row in rows)
        case d.FindLineage():
            values = (namespace, query.pid)
            return "find_lineage", values, lambda rows: d.Lineage(**rows[0]) if rows else None
        case d.FindStranded():
            values = (namespace, query.pids)
            return "find_stranded", values, lambda rows: tuple(row["pid"] for row in rows)
        case d.ReadRates():
            return "read_rates", (namespace,), lambda rows: tuple(map(_rate, rows))
        case d.FindMemories():
            values = (namespace, query.tenant, query.terms, query.tags, query.limit)
            return "find_memories", values, lambda rows: tuple(map(_memory, rows))
        case d.FindSimilar():
            numbers = floats(query.vector)
            near = (query.embedder, len(numbers), str(numbers), query.least)
            values = (namespace, query.tenant, *near, query.tags, query.limit)
            return "find_similar", values, lambda rows: tuple(map(_memory, rows))
        case d.FindUnembedded():
            values = (namespace, query.embedder, query.dimensions, query.limit)
            return "find_unembedded", values, lambda rows: tuple(map(_memory, rows))
        case d.ReadRecord():
            values = (namespace, query.collection, query.key)
            return "read_record", values, lambda rows: _kept(rows[0]) if rows else None
        case d.FindRecords():
            values = (namespace, query.collection, query.prefix, query.after, query.limit)
            return "find_records", values, lambda rows: tuple(map(_kept, rows))
        case d.ReadAccounts():
            values = (namespace, query.ended)
            return "read_accounts", values, lambda rows: tuple(d.Account(**row) for row in rows)
        case d.ReadSpent():
            values = (namespace, query.by, query.since)
            return "read_spent", values, lambda rows: tuple(map(_spent, rows))
    raise TypeError(f"storage cannot answer {type(query).__name__}")


def record(row: Any) -> d.ProcessRecord:
    """A process, with the epoch of its lease."""
    return d.ProcessRecord(
        pid=d.Pid(row["pid"]),
        program=row["program"],
        version=row["version"],
        state_json=decoded(row["state_json"]),
        key=row["key"],
        name=row["name"],
        role=row["role"],
        tags=tuple(row["tags"]),
        parent=row["parent"],
        process_class=row["class"],
        priority=row["priority"],
        tenant=row["tenant"],
        state=row["state"],
        epoch=row["epoch"],
        step=row["step"],
        result=_text(row["result"]),
        error=_text(row["error"]),
        error_kind=row["error_kind"],
        bound=row["bound"],
        silent=row["silent"],
        waits_in=tuple(row["waits_in"].split(",")) if row["waits_in"] else (),
        waits_for=tuple(row["waits_for"] or ()),
        wake_at=row["wake_at"],
        clock=row["clock"],
        bare=row["bare"],
        quotas=tuple(row["quotas"]),
        bounds=tuple(row["bounds"]),
    )


def _entry(row: Any) -> d.Entry:
    step, path, kind, mark, effect, attempts, settled, failed, body, epoch, note, *times = row
    began_at, took_s, rule, erased = times
    return d.Entry(
        key=f"{step}:{path}",
        kind=kind,
        fingerprint=mark.hex(),
        effect=effect,
        attempts=attempts,
        settled=settled,
        failed=failed,
        body="" if erased else decoded(body),
        epoch=epoch,
        note=note,
        began_at=began_at,
        took_s=took_s,
        rule=rule,
        erased=erased,
    )


def _page(row: Any) -> d.Page:
    number, role, pinned, tool_call_id, step, path, text = row
    if text is None:
        raise d.Erased(f"the text of page {number} was erased; its process cannot go on")
    return d.Page(
        role=role,
        text=decoded(text),
        entry=None if step is None else f"{step}:{path}",
        tool_call_id=tool_call_id,
        pinned=pinned,
        number=number,
    )


def _letter(row: Any) -> d.Letter:
    return d.Letter(number=row["number"], sender=row["sender"], body=json.loads(row["body"]))


def _command(row: Any) -> d.Command:
    return d.Command(number=row["number"], signal=row["signal"], grace_s=row["grace_s"])


def _question(row: Any) -> d.Question:
    return d.Question(
        number=row["number"],
        pid=row["pid"],
        key=f"{row['step']}:{row['path']}",
        text=decoded(row["text"]),
        choices=tuple(json.loads(row["choices"])),
        deadline=row["deadline"],
        answer=_text(row["answer"]),
        receipt=row["receipt"],
        closed=row["closed"],
    )


def _alarm(row: Any) -> d.Alarm:
    return d.Alarm(pid=row["pid"], at=row["wake_at"])


def _rate(row: Any) -> d.SharedRate:
    return d.SharedRate(**row)


def _memory(row: Any) -> d.Memory:
    return d.Memory(
        number=row["number"],
        tenant=row["tenant"],
        pid=row["pid"],
        text=decoded(row["text"]),
        tags=tuple(row["tags"]),
        terms=tuple(row["terms"]),
    )


def _kept(row: Any) -> d.Record:
    body = json.loads(decoded(row["body"]))
    return d.Record(collection=row["collection"], key=row["key"], body=body, at=row["at"])


def _spent(row: Any) -> tuple[str, d.Spent]:
    whose, *used = row
    return whose, d.Spent(**dict(zip(SPENT, used, strict=True)))


def _text(body: bytes | None) -> str | None:
    return None if body is None else decoded(body)
