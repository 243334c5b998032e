"""Rows of a statement as the words of storage."""

import json
from dataclasses import fields
from typing import Any

from ...subsystems.storage import driver as d
from ._postgres_values import decoded

SPENT = tuple(field.name for field in fields(d.Spent))


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
        user=row["user_id"],
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


def entry(row: Any) -> d.Entry:
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


def page(row: Any) -> d.Page:
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


def letter(row: Any) -> d.Letter:
    return d.Letter(number=row["number"], sender=row["sender"], body=json.loads(row["body"]))


def command(row: Any) -> d.Command:
    return d.Command(number=row["number"], signal=row["signal"], grace_s=row["grace_s"])


def question(row: Any) -> d.Question:
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


def alarm(row: Any) -> d.Alarm:
    return d.Alarm(pid=row["pid"], at=row["wake_at"])


def memory(row: Any) -> d.Memory:
    return d.Memory(
        number=row["number"],
        tenant=row["tenant"],
        pid=row["pid"],
        text=decoded(row["text"]),
        tags=tuple(row["tags"]),
        terms=tuple(row["terms"]),
    )


def kept(row: Any) -> d.Record:
    body = json.loads(decoded(row["body"]))
    return d.Record(collection=row["collection"], key=row["key"], body=body, at=row["at"])


def spent(row: Any) -> tuple[str, d.Spent]:
    whose, *used = row
    return whose, d.Spent(**dict(zip(SPENT, used, strict=True)))


def _text(body: bytes | None) -> str | None:
    return None if body is None else decoded(body)
