"""How each query is answered from what is kept in memory."""

import itertools
import time
from collections.abc import Callable
from typing import Any

from ...subsystems.storage import driver as d
from ._memory_expired import expired
from ._memory_process import BODY, Process, entry
from ._memory_store import Store


def find_expired(store: Store, query: d.FindExpired | d.ForgetExpired) -> tuple[d.Expired, ...]:
    """Which processes are over, the longest ended first."""
    held = store.accounts.holders()
    kept = ((p.record, p.since) for p in store.processes.values() if p.row)
    return tuple(expired(kept, query.expiry, time.time(), query.limit, held))


def _read_log(store: Store, query: d.ReadLog) -> tuple[d.Entry, ...]:
    prefix = "" if query.step is None else f"{query.step}:"
    log = store.of(query.pid).log or {}
    return tuple(entry(key, row) for key, row in log.items() if key.startswith(prefix))


def _read_pages(store: Store, query: d.ReadPages) -> tuple[d.Page, ...]:
    process = store.of(query.pid)
    log, pages = process.log or {}, (process.pages or [])[query.after :]
    return tuple(
        d.Page(
            role=role,
            text=text if key is None else log[key][BODY],
            entry=key,
            tool_call_id=call,
            pinned=pinned,
            number=number,
        )
        for number, (role, text, key, call, pinned) in enumerate(pages, query.after + 1)
    )


def _read_letters(store: Store, query: d.ReadLetters) -> tuple[d.Letter, ...]:
    letters = store.of(query.pid).letters or {}
    return tuple(itertools.islice(letters.values(), query.limit))


def _read_questions(store: Store, query: d.ReadQuestions) -> tuple[d.Question, ...]:
    found = store.calls.questions(query)
    return tuple(q for q in found if query.number or not store.has_ended(q.pid))


def _read_accounts(store: Store, query: d.ReadAccounts) -> tuple[d.Account, ...]:
    every = store.accounts.read()
    if query.ended:
        return every
    return tuple(a for a in every if not store.has_ended(_pid(a.scope)))


def _pid(scope: str) -> d.Pid:
    """The process that it is the scope of, or nobody."""
    kind, _, number = scope.partition(":")
    return d.Pid(int(number) if kind == "process" else 0)


def _find_alarms(store: Store, query: d.FindAlarms) -> tuple[d.Alarm, ...]:
    sleepers = store.calls.sleepers
    ours = [pid for pid in sleepers if store.processes[pid].program in query.programs]
    return tuple(store.calls.alarms(ours)[: query.limit])


def _find_stranded(store: Store, query: d.FindStranded) -> tuple[d.Pid, ...]:
    return tuple(pid for pid in query.pids if _is_stranded(store, store.of(pid)))


def _is_stranded(store: Store, process: Process) -> bool:
    if process.is_held or not process.row:
        return False
    return not process.has_ended and process.program not in store.programs


def _find_tenures(store: Store, query: d.FindTenures) -> tuple[d.Tenure, ...]:
    found = ((pid, store.of(pid)) for pid in query.pids)
    return tuple(
        d.Tenure(pid=pid, kernel=1 if process.is_held else None, since=process.since)
        for pid, process in found
        if process.row
    )


def _find_lineage(store: Store, query: d.FindLineage) -> d.Lineage | None:
    own = root = store.of(query.pid)
    if not own.row:
        return None
    at = query.pid
    while (above := root.parent) is not None and store.of(above).row:
        at, root = above, store.of(above)
    return d.Lineage(pid=query.pid, born=own.born, parent=own.parent, root=at, root_born=root.born)


def _read_process(store: Store, query: d.ReadProcess) -> d.ProcessRecord | None:
    pid = query.pid if query.key is None else store.keys.get(query.key)
    process = None if pid is None else store.processes.get(pid)
    return process.record if process is not None and process.row else None


def _find_processes(store: Store, query: d.FindProcesses) -> tuple[d.ProcessRecord, ...]:
    records = (process.record for process in store.processes.values() if process.row)
    found = (r for r in records if _matches(r, query))
    return tuple(itertools.islice(found, query.limit))


def _matches(record: d.ProcessRecord, query: d.FindProcesses) -> bool:
    return (
        (query.ended or record.state not in d.ENDED)
        and query.name in (None, record.name)
        and query.role in (None, record.role)
        and query.parent in (None, record.parent)
        and query.tenant in (None, record.tenant)
        and (query.tag is None or query.tag in record.tags)
    )


READERS: dict[type, Callable[[Store, Any], Any]] = {
    d.ReadLog: _read_log,
    d.ReadPages: _read_pages,
    d.ReadLetters: _read_letters,
    d.ReadCommands: lambda store, query: store.calls.commands(query.pid),
    d.ReadQuestions: _read_questions,
    d.ReadRates: lambda store, query: store.rates.read(),
    d.ReadSeats: lambda store, query: store.seats.read(),
    d.FindAlarms: _find_alarms,
    d.FindStranded: _find_stranded,
    d.FindTenures: _find_tenures,
    d.FindExpired: find_expired,
    d.FindLineage: _find_lineage,
    d.ReadProcess: _read_process,
    d.FindProcesses: _find_processes,
    d.FindMemories: lambda store, query: store.memories.find(query),
    d.FindSimilar: lambda store, query: store.memories.similar(query),
    d.FindUnembedded: lambda store, query: store.memories.unembedded(query),
    d.ReadRecord: lambda store, query: store.records.read(query),
    d.FindRecords: lambda store, query: store.records.find(query),
    d.ReadAccounts: _read_accounts,
    d.ReadSpent: lambda store, query: store.accounts.spent(query),
}
