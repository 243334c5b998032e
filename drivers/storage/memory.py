"""Storage in this process's memory: for tests and first steps; gone when the process ends.

Rows are kept as a database would keep them, flat and immutable, so that what is read back is
what was written, and ten thousand parked processes stay small.
"""

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, fields, replace
from operator import attrgetter
from typing import Any

from ...subsystems.storage import driver as d
from ._memories import Memories

_Row = tuple[str, str, Any, int, bool, bool, str]
"""Of the log: kind, fingerprint, effect, attempts, settled, failed, body."""
_FIELDS = tuple(field.name for field in fields(d.ProcessRecord))
_RECORD = attrgetter(*_FIELDS)
_NO_INTENT: _Row = ("", "", "none", 0, False, False, "")


@dataclass(slots=True)
class _Process:
    """All that is kept of one process."""

    epoch: int = 0
    owned: bool = False
    record: tuple[Any, ...] = ()
    log: dict[str, _Row] | None = None
    pages: list[tuple[Any, ...]] | None = None
    letters: dict[int, d.Letter] | None = None


@dataclass(kw_only=True)
class MemoryStorage:
    """Everything in dictionaries; nothing survives the end of the operating-system process."""

    _processes: dict[d.Pid, _Process] = field(default_factory=dict, init=False)
    _keys: dict[str, d.Pid] = field(default_factory=dict, init=False)
    _memories: Memories = field(default_factory=Memories, init=False)
    _numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1), init=False)
    _pids: Iterator[int] = field(default_factory=lambda: itertools.count(1), init=False)

    async def start(self) -> None:
        """Nothing to acquire."""

    async def run(self) -> None:
        """Nothing goes on beside the calls."""

    async def stop(self) -> None:
        """What was kept stays as long as this object, for the next owner."""
        for process in self._processes.values():
            process.owned = False

    async def new_pid(self) -> d.Pid:
        return d.Pid(next(self._pids))

    async def commit(self, commit: d.Commit) -> None:
        process = self._processes.setdefault(commit.pid, _Process())
        if commit.epoch != process.epoch:
            raise d.Fenced(
                f"process {commit.pid} belongs to epoch {process.epoch}, this was {commit.epoch}"
            )
        self._check_keys(commit)
        for write in commit.writes:
            _WRITERS[type(write)](self, commit.pid, process, write)

    def _check_keys(self, commit: d.Commit) -> None:
        for write in commit.writes:
            if isinstance(write, d.AddProcess) and write.record.key in self._keys:
                raise d.KeyTaken(f"there is a process with the key {write.record.key!r}")

    async def claim(self, claim: d.ClaimProcesses) -> tuple[d.ProcessRecord, ...]:
        pids = list(self._processes) if claim.pid is None else [claim.pid]
        claimed = [record for pid in pids if (record := self._claim(pid, claim)) is not None]
        return tuple(claimed[: claim.limit])

    def _claim(self, pid: d.Pid, claim: d.ClaimProcesses) -> d.ProcessRecord | None:
        process = self._of(pid)
        if process.owned or not process.record:
            return None
        record = _record(process.record)
        is_ours = claim.programs is None or (record.program, record.version) in claim.programs
        if record.state not in claim.states or not is_ours:
            return None
        process.epoch, process.owned = process.epoch + 1, True
        record = replace(record, state="running", epoch=process.epoch)
        process.record = _RECORD(record)
        return record

    def _bear(self, pid: d.Pid, process: _Process, write: d.AddProcess) -> None:
        born = self._processes.setdefault(write.record.pid, _Process())
        born.record, born.owned = _RECORD(write.record), True
        if write.record.key is not None:
            self._keys[write.record.key] = write.record.pid

    def _save(self, pid: d.Pid, process: _Process, write: d.SaveProcess) -> None:
        saved = self._processes[write.record.pid]
        saved.record, saved.owned = _RECORD(write.record), write.record.state == "running"

    def _intend(self, pid: d.Pid, process: _Process, write: d.Intend) -> None:
        log = process.log = process.log if process.log is not None else {}
        attempts = log[write.key][3] if write.key in log else 0
        log[write.key] = (
            write.kind, write.fingerprint, write.effect, attempts + 1, False, False, ""
        )  # fmt: skip

    def _settle(self, pid: d.Pid, process: _Process, write: d.Settle) -> None:
        log = process.log = process.log if process.log is not None else {}
        _, _, effect, attempts, *_ = log.get(write.key, _NO_INTENT)
        log[write.key] = (
            write.kind, write.fingerprint, effect, attempts, True, write.failed, write.body
        )  # fmt: skip

    def _add_page(self, pid: d.Pid, process: _Process, write: d.AddPage) -> None:
        page = write.page
        pages = process.pages = process.pages if process.pages is not None else []
        pages.append((page.role, page.text, page.entry, page.tool_call_id, page.pinned))

    def _post(self, pid: d.Pid, process: _Process, write: d.PostLetter) -> None:
        box = self._processes.setdefault(write.to, _Process())
        letters = box.letters = box.letters if box.letters is not None else {}
        number = next(self._numbers)
        letters[number] = d.Letter(number=number, sender=pid or None, body=write.body)

    def _take(self, pid: d.Pid, process: _Process, write: d.TakeLetter) -> None:
        if process.letters is not None:
            process.letters.pop(write.number, None)
            process.letters = process.letters or None

    def _remember(self, pid: d.Pid, process: _Process, write: d.AddMemory) -> None:
        self._memories.add(write.memory)

    def _embed(self, pid: d.Pid, process: _Process, write: d.AddVector) -> None:
        self._memories.embed(write)

    async def read(self, query: d.Request[Any]) -> Any:
        return _READERS[type(query)](self, query)

    def _read_log(self, query: d.ReadLog) -> tuple[d.Entry, ...]:
        prefix = "" if query.step is None else f"{query.step}:"
        log = self._of(query.pid).log or {}
        return tuple(_entry(key, row) for key, row in log.items() if key.startswith(prefix))

    def _read_pages(self, query: d.ReadPages) -> tuple[d.Page, ...]:
        process = self._of(query.pid)
        log = process.log or {}
        return tuple(
            d.Page(
                role=role,
                text=text if entry is None else log[entry][-1],
                entry=entry,
                tool_call_id=call,
                pinned=pinned,
                number=number,
            )
            for number, (role, text, entry, call, pinned) in enumerate(
                (process.pages or [])[query.after :], query.after + 1
            )
        )

    def _read_letters(self, query: d.ReadLetters) -> tuple[d.Letter, ...]:
        letters = itertools.islice((self._of(query.pid).letters or {}).values(), query.limit)
        return tuple(letters)

    def _read_process(self, query: d.ReadProcess) -> d.ProcessRecord | None:
        pid = query.pid if query.key is None else self._keys.get(query.key)
        process = None if pid is None else self._processes.get(pid)
        if process is None or not process.record:
            return None
        return _record(process.record)

    def _find_processes(self, query: d.FindProcesses) -> tuple[d.ProcessRecord, ...]:
        records = (
            _record(process.record) for process in self._processes.values() if process.record
        )
        found = (r for r in records if _matches(r, query))
        return tuple(itertools.islice(found, query.limit))

    def _of(self, pid: d.Pid) -> _Process:
        return self._processes.get(pid) or _Process()


def _record(row: tuple[Any, ...]) -> d.ProcessRecord:
    return d.ProcessRecord(**dict(zip(_FIELDS, row, strict=True)))


def _entry(key: str, row: _Row) -> d.Entry:
    kind, mark, effect, attempts, settled, failed, body = row
    return d.Entry(
        key=key,
        kind=kind,
        fingerprint=mark,
        effect=effect,
        attempts=attempts,
        settled=settled,
        failed=failed,
        body=body,
    )


def _matches(record: d.ProcessRecord, query: d.FindProcesses) -> bool:
    return (
        (query.ended or record.state not in d.ENDED)
        and query.name in (None, record.name)
        and query.role in (None, record.role)
        and query.parent in (None, record.parent)
        and query.tenant in (None, record.tenant)
        and (query.tag is None or query.tag in record.tags)
    )


_WRITERS: dict[type, Callable[[MemoryStorage, d.Pid, _Process, Any], None]] = {
    d.AddProcess: MemoryStorage._bear,
    d.SaveProcess: MemoryStorage._save,
    d.Intend: MemoryStorage._intend,
    d.Settle: MemoryStorage._settle,
    d.AddPage: MemoryStorage._add_page,
    d.PostLetter: MemoryStorage._post,
    d.TakeLetter: MemoryStorage._take,
    d.AddMemory: MemoryStorage._remember,
    d.AddVector: MemoryStorage._embed,
}
_READERS: dict[type, Callable[[MemoryStorage, Any], Any]] = {
    d.ReadLog: MemoryStorage._read_log,
    d.ReadPages: MemoryStorage._read_pages,
    d.ReadLetters: MemoryStorage._read_letters,
    d.ReadProcess: MemoryStorage._read_process,
    d.FindProcesses: MemoryStorage._find_processes,
    d.FindMemories: lambda storage, query: storage._memories.find(query),
    d.FindSimilar: lambda storage, query: storage._memories.similar(query),
    d.FindUnembedded: lambda storage, query: storage._memories.unembedded(query),
}
