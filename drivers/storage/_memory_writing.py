"""What each write does to what is kept in memory; where it calls processes, it says which."""

import time
from collections.abc import Callable
from typing import Any, cast

from ...subsystems.storage import driver as d
from ._memory_process import LogRow, Process
from ._memory_store import Store

Called = set[d.Pid] | None
Writer = Callable[[Store, d.Pid, Process, Any], Called]
"""Takes the process whose commit it is, and the write."""

_NO_INTENT: LogRow = ("", "", "none", 0, False, False, "", 0, "", None, None, "")


def _called(store: Store, pid: d.Pid) -> Called:
    """The process itself; but a kernel that is alone knows what it did."""
    return {pid} if len(store.doors) > 1 else None


# Processes


def _bear(store: Store, pid: d.Pid, process: Process, write: d.AddProcess) -> None:
    record = write.record
    born = store.processes.setdefault(record.pid, Process())
    born.put(record)
    born.owned = True
    if record.key is not None:
        store.keys[record.key] = record.pid
    if record.bound:
        store.calls.bear(record)


def _save(store: Store, pid: d.Pid, process: Process, write: d.SaveProcess) -> Called:
    saved, record = store.processes[write.record.pid], write.record
    store.calls.save(saved.record if saved.waits_for_others else None, record)
    saved.put(record)
    saved.owned = record.state == "running"
    if record.state == "parked" and not record.waits_in:
        return _called(store, record.pid)  # whoever has its program may take it
    if record.state not in d.ENDED:
        return None
    return store.calls.end(record.pid) | (_called(store, record.pid) or set())


# The log


def _intend(store: Store, pid: d.Pid, process: Process, write: d.Intend) -> None:
    log = process.log = process.log if process.log is not None else {}
    attempts = log[write.key][3] if write.key in log else 0
    log[write.key] = (
        write.kind, write.fingerprint, write.effect, attempts + 1, False, False, "",
        process.epoch, write.note, time.time(), None, write.rule,
    )  # fmt: skip


def _annotate(store: Store, pid: d.Pid, process: Process, write: d.Annotate) -> None:
    if process.log is not None and write.key in process.log:
        *head, _, began_at, took_s, rule = process.log[write.key]
        process.log[write.key] = cast(LogRow, (*head, write.note, began_at, took_s, rule))


def _settle(store: Store, pid: d.Pid, process: Process, write: d.Settle) -> None:
    log = process.log = process.log if process.log is not None else {}
    begun = log.get(write.key, _NO_INTENT)
    _, _, effect, attempts, _, _, _, epoch, note, began_at, _, rule = begun
    log[write.key] = (
        write.kind, write.fingerprint, effect, attempts, True, write.failed, write.body,
        epoch, note, began_at, write.took_s, rule,
    )  # fmt: skip


def _add_page(store: Store, pid: d.Pid, process: Process, write: d.AddPage) -> None:
    page = write.page
    pages = process.pages = process.pages if process.pages is not None else []
    pages.append((page.role, page.text, page.entry, page.tool_call_id, page.pinned))


# Calls from outside


def _post(store: Store, pid: d.Pid, process: Process, write: d.PostLetter) -> Called:
    box = store.processes.setdefault(write.to, Process())
    letters = box.letters = box.letters if box.letters is not None else {}
    number = next(store.letters)
    letters[number] = d.Letter(number=number, sender=pid or None, body=write.body)
    return _called(store, write.to)


def _take(store: Store, pid: d.Pid, process: Process, write: d.TakeLetter) -> None:
    if process.letters is not None:
        process.letters.pop(write.number, None)
        process.letters = process.letters or None


def _command(store: Store, pid: d.Pid, process: Process, write: d.PostCommand) -> Called:
    store.calls.post(write.to, write.signal, write.grace_s)
    return _called(store, write.to)


def _obey(store: Store, pid: d.Pid, process: Process, write: d.TakeCommand) -> None:
    store.calls.obey(pid, write.number)


def _announce(store: Store, pid: d.Pid, process: Process, write: d.Announce) -> Called:
    return _called(store, pid)


def _ask(store: Store, pid: d.Pid, process: Process, write: d.PutQuestion) -> None:
    store.calls.put(pid, write)


def _close(store: Store, pid: d.Pid, process: Process, write: d.CloseQuestion) -> None:
    store.calls.close(pid, write.key)


def _answer(store: Store, pid: d.Pid, process: Process, write: d.AnswerQuestion) -> Called:
    return set(store.calls.answer(write))


# What services keep


def _remember(store: Store, pid: d.Pid, process: Process, write: d.AddMemory) -> None:
    store.memories.add(write.memory)


def _embed(store: Store, pid: d.Pid, process: Process, write: d.AddVector) -> None:
    store.memories.embed(write)


def _put(store: Store, pid: d.Pid, process: Process, write: d.PutRecord) -> None:
    store.records.put(write)


def _drop(store: Store, pid: d.Pid, process: Process, write: d.DropRecord) -> None:
    store.records.drop(write)


# Accounts


def _limit(store: Store, pid: d.Pid, process: Process, write: d.PutAccount) -> Called:
    store.accounts.put(write)
    return {d.Pid(0)}


def _lift(store: Store, pid: d.Pid, process: Process, write: d.RaiseCeiling) -> Called:
    store.accounts.lift(write)
    return {d.Pid(0)}


def _reserve(store: Store, pid: d.Pid, process: Process, write: d.Reserve) -> None:
    store.accounts.reserve(pid, write)


def _spend(store: Store, pid: d.Pid, process: Process, write: d.Spend) -> None:
    store.accounts.spend(pid, write)


WRITERS: dict[type, Writer] = {
    d.AddProcess: _bear,
    d.SaveProcess: _save,
    d.Intend: _intend,
    d.Annotate: _annotate,
    d.Settle: _settle,
    d.AddPage: _add_page,
    d.PostLetter: _post,
    d.TakeLetter: _take,
    d.PostCommand: _command,
    d.TakeCommand: _obey,
    d.Announce: _announce,
    d.PutQuestion: _ask,
    d.CloseQuestion: _close,
    d.AnswerQuestion: _answer,
    d.AddMemory: _remember,
    d.AddVector: _embed,
    d.PutRecord: _put,
    d.DropRecord: _drop,
    d.PutAccount: _limit,
    d.RaiseCeiling: _lift,
    d.Reserve: _reserve,
    d.Spend: _spend,
}
