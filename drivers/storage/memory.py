"""Storage in this process's memory: for tests and first steps; gone when the process ends.

Rows are kept as a database would keep them, flat and immutable, so that what is read back is
what was written, and ten thousand parked processes stay small.
"""

import itertools
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, fields, replace
from operator import attrgetter
from typing import Any, cast

import anyio

from ...subsystems.storage import driver as d
from ._accounts import Accounts
from ._calls import Calls
from ._expired import expired
from ._memories import Memories
from ._rates import Rates
from ._records import Records

_Row = tuple[str, str, Any, int, bool, bool, str, int, str, float | None, float | None, str]
"""Of the log: kind, fingerprint, effect, attempts, settled, failed, body, epoch, note, times, rule."""
_FIELDS = tuple(field.name for field in fields(d.ProcessRecord))
_OFTEN = _FIELDS.index("bound")  # the fields from there on are the same in most processes
_HEAD, _REST = attrgetter(*_FIELDS[:_OFTEN]), attrgetter(*_FIELDS[_OFTEN:])
_SHARED: dict[tuple[Any, ...], tuple[Any, ...]] = {}
_STATE, _WAITS_FOR = _FIELDS.index("state"), _FIELDS.index("waits_for") - _OFTEN
_PROGRAM = slice(_FIELDS.index("program"), _FIELDS.index("program") + 2)  # and its version
_PARENT = _FIELDS.index("parent")
_NO_INTENT: _Row = ("", "", "none", 0, False, False, "", 0, "", None, None, "")


@dataclass(slots=True)
class _Process:
    """All that is kept of one process."""

    epoch: int = 0
    owned: bool = False
    lapsed: bool = False  # the owner's lease has run out; it may write until another claims
    record: tuple[Any, ...] = ()
    born: float = 0.0
    since: float = 0.0
    log: dict[str, _Row] | None = None
    pages: list[tuple[Any, ...]] | None = None
    letters: dict[int, d.Letter] | None = None

    @property
    def is_held(self) -> bool:
        """By a kernel that lives."""
        return self.owned and not self.lapsed

    def put(self, record: d.ProcessRecord) -> None:
        if not self.record or self.record[_STATE] != record.state:
            self.since = time.time()
            self.born = self.born or self.since
        self.record = _row(record)


@dataclass(kw_only=True)
class MemoryStorage:
    """Everything in dictionaries; nothing survives the end of the operating-system process."""

    _processes: dict[d.Pid, _Process] = field(default_factory=dict, init=False)
    _keys: dict[str, d.Pid] = field(default_factory=dict, init=False)
    _memories: Memories = field(default_factory=Memories, init=False)
    _records: Records = field(default_factory=Records, init=False)
    _calls: Calls = field(default_factory=Calls, init=False)
    _accounts: Accounts = field(default_factory=Accounts, init=False)
    _rates: Rates = field(default_factory=Rates, init=False)
    _users: int = field(default=0, init=False)
    _programs: set[tuple[str, str]] = field(default_factory=set, init=False)
    _doors: list[d.Ring] = field(default_factory=list, init=False)
    _numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1), init=False)
    _pids: Iterator[int] = field(default_factory=lambda: itertools.count(1), init=False)

    async def start(self) -> None:
        """Several kernels may use one object, as they would one database."""
        self._users += 1

    async def run(self, ring: d.Ring) -> None:
        """Ring for what others do."""
        self._doors.append(ring)
        try:
            await anyio.sleep_forever()
        finally:
            self._doors.remove(ring)

    async def stop(self) -> None:
        """What was kept stays as long as this object, for the next owner."""
        self._users = max(self._users - 1, 0)
        if not self._users:
            self._programs.clear()
            self._accounts.assume(lambda pid: not pid)
            for process in self._processes.values():
                process.owned = False

    def lapse(self) -> None:
        """As if all leases had run out: whoever holds a process may be frozen, or dead."""
        self._programs.clear()
        for process in self._processes.values():
            if process.owned:
                process.lapsed = True
                process.record = _row(replace(_record(process.record), silent=process.epoch))

    async def new_pid(self) -> d.Pid:
        return d.Pid(next(self._pids))

    async def commit(self, commit: d.Commit) -> None:
        self._check_owner(commit)
        kinds = {write.__class__ for write in commit.writes}
        if d.AddProcess in kinds:
            self._check_keys(commit)
        if d.Reserve in kinds:
            self._accounts.check(commit.writes)
        process = self._processes.get(commit.pid)
        if process is None:
            process = self._processes[commit.pid] = _Process()
        rung: set[d.Pid] = set()
        for write in commit.writes:
            called = _WRITERS[type(write)](self, commit.pid, process, write)
            if called is not None:
                rung |= called
        for ring in self._doors if rung else ():
            ring(rung)

    def _called(self, pid: d.Pid) -> set[d.Pid] | None:
        """The process itself; but a kernel that is alone knows what it did."""
        return {pid} if len(self._doors) > 1 else None

    def _check_owner(self, commit: d.Commit) -> None:
        """What comes from outside of all processes nobody owns."""
        pid, process = commit.pid, self._of(commit.pid)
        if commit.epoch != process.epoch:
            raise d.Fenced(
                f"process {pid} belongs to epoch {process.epoch}, this was {commit.epoch}"
            )
        if pid and not process.owned and (process.record or not _bears(commit)):
            raise d.Fenced(f"nobody owns process {pid}, or it is not there")

    def _check_keys(self, commit: d.Commit) -> None:
        for write in commit.writes:
            if isinstance(write, d.AddProcess) and write.record.key in self._keys:
                raise d.KeyTaken(f"there is a process with the key {write.record.key!r}")

    async def claim(self, claim: d.ClaimProcesses) -> tuple[d.ProcessRecord, ...]:
        self._programs.update(claim.programs or ())
        self._accounts.assume(self._has_ended)
        pids = list(self._processes) if claim.pid is None else [claim.pid]
        claimed = (record for pid in pids if (record := self._claim(pid, claim)) is not None)
        taken = {record.pid: record for record in itertools.islice(claimed, claim.limit)}
        self._accounts.assume(taken.__contains__)
        return tuple(taken.values())

    def _claim(self, pid: d.Pid, claim: d.ClaimProcesses) -> d.ProcessRecord | None:
        process = self._of(pid)
        row = process.record
        if process.is_held or not row or row[_STATE] not in claim.states:
            return None
        if claim.programs is not None and row[_PROGRAM] not in claim.programs:
            return None
        record = _record(row)
        if claim.due_by is not None and not self._is_due(record, claim.due_by):
            return None
        if process.lapsed:
            self._tell_owner(pid)
        process.epoch, process.owned, process.lapsed = process.epoch + 1, True, False
        record = replace(record, state="running", epoch=process.epoch)
        process.put(record)
        return record

    def _tell_owner(self, pid: d.Pid) -> None:
        """Of all that hear it, it is the one to whom that is news."""
        for ring in self._doors:
            ring({pid})

    def _is_due(self, record: d.ProcessRecord, moment: float) -> bool:
        waits, pid = record.waits_in, record.pid
        return (
            record.state != "parked"
            or not waits
            or (record.wake_at is not None and record.wake_at <= moment)
            or ("receive" in waits and bool(self._of(pid).letters))
            or ("ask" in waits and self._calls.is_answered(pid))
            or bool(self._calls.commands(pid))
            or any(self._has_ended(child) for child in record.waits_for)
        )

    def _has_ended(self, pid: d.Pid) -> bool:
        record = self._of(pid).record
        return bool(record) and record[_STATE] in d.ENDED

    def _bear(self, pid: d.Pid, process: _Process, write: d.AddProcess) -> None:
        born = self._processes.setdefault(write.record.pid, _Process())
        born.put(write.record)
        born.owned = True
        if write.record.key is not None:
            self._keys[write.record.key] = write.record.pid
        if write.record.bound:
            self._calls.bear(write.record)

    def _save(self, pid: d.Pid, process: _Process, write: d.SaveProcess) -> set[d.Pid] | None:
        saved, record = self._processes[write.record.pid], write.record
        self._calls.save(_record(saved.record) if saved.record[-1][_WAITS_FOR] else None, record)
        saved.put(record)
        saved.owned = record.state == "running"
        if record.state == "parked" and not record.waits_in:
            return self._called(record.pid)  # whoever has its program may take it
        if record.state not in d.ENDED:
            return None
        return self._calls.end(record.pid) | (self._called(record.pid) or set())

    def _intend(self, pid: d.Pid, process: _Process, write: d.Intend) -> None:
        log = process.log = process.log if process.log is not None else {}
        attempts = log[write.key][3] if write.key in log else 0
        log[write.key] = (
            write.kind, write.fingerprint, write.effect, attempts + 1, False, False, "",
            process.epoch, write.note, time.time(), None, write.rule,
        )  # fmt: skip

    def _annotate(self, pid: d.Pid, process: _Process, write: d.Annotate) -> None:
        if process.log is not None and write.key in process.log:
            *head, _, began_at, took_s, rule = process.log[write.key]
            process.log[write.key] = cast(_Row, (*head, write.note, began_at, took_s, rule))

    def _settle(self, pid: d.Pid, process: _Process, write: d.Settle) -> None:
        log = process.log = process.log if process.log is not None else {}
        begun = log.get(write.key, _NO_INTENT)
        _, _, effect, attempts, _, _, _, epoch, note, began_at, _, rule = begun
        log[write.key] = (
            write.kind, write.fingerprint, effect, attempts, True, write.failed, write.body,
            epoch, note, began_at, write.took_s, rule,
        )  # fmt: skip

    def _add_page(self, pid: d.Pid, process: _Process, write: d.AddPage) -> None:
        page = write.page
        pages = process.pages = process.pages if process.pages is not None else []
        pages.append((page.role, page.text, page.entry, page.tool_call_id, page.pinned))

    def _post(self, pid: d.Pid, process: _Process, write: d.PostLetter) -> set[d.Pid] | None:
        box = self._processes.setdefault(write.to, _Process())
        letters = box.letters = box.letters if box.letters is not None else {}
        number = next(self._numbers)
        letters[number] = d.Letter(number=number, sender=pid or None, body=write.body)
        return self._called(write.to)

    def _take(self, pid: d.Pid, process: _Process, write: d.TakeLetter) -> None:
        if process.letters is not None:
            process.letters.pop(write.number, None)
            process.letters = process.letters or None

    def _command(self, pid: d.Pid, process: _Process, write: d.PostCommand) -> set[d.Pid] | None:
        self._calls.post(write.to, write.signal, write.grace_s)
        return self._called(write.to)

    def _obey(self, pid: d.Pid, process: _Process, write: d.TakeCommand) -> None:
        self._calls.obey(pid, write.number)

    def _announce(self, pid: d.Pid, process: _Process, write: d.Announce) -> set[d.Pid] | None:
        return self._called(pid)

    def _ask(self, pid: d.Pid, process: _Process, write: d.PutQuestion) -> None:
        self._calls.put(pid, write)

    def _close(self, pid: d.Pid, process: _Process, write: d.CloseQuestion) -> None:
        self._calls.close(pid, write.key)

    def _answer(self, pid: d.Pid, process: _Process, write: d.AnswerQuestion) -> set[d.Pid] | None:
        return set(self._calls.answer(write))

    def _remember(self, pid: d.Pid, process: _Process, write: d.AddMemory) -> None:
        self._memories.add(write.memory)

    def _embed(self, pid: d.Pid, process: _Process, write: d.AddVector) -> None:
        self._memories.embed(write)

    def _put(self, pid: d.Pid, process: _Process, write: d.PutRecord) -> None:
        self._records.put(write)

    def _drop(self, pid: d.Pid, process: _Process, write: d.DropRecord) -> None:
        self._records.drop(write)

    async def forget(self, order: d.ForgetExpired) -> tuple[d.Expired, ...]:
        gone = self._find_expired(order)
        for one in gone:
            self._calls.forget(one.pid)
            self._accounts.close(one.pid)
            process = self._processes.pop(one.pid)
            if not one.whole:
                record = replace(_record(process.record), bare=True, state_json="null")
                kept = self._processes[one.pid] = _Process(epoch=process.epoch)
                kept.record, kept.since = _row(record), process.since
            elif one.key is not None:
                del self._keys[one.key]
        return gone

    def _limit(self, pid: d.Pid, process: _Process, write: d.PutAccount) -> set[d.Pid]:
        self._accounts.put(write)
        return {d.Pid(0)}

    def _lift(self, pid: d.Pid, process: _Process, write: d.RaiseCeiling) -> set[d.Pid]:
        self._accounts.lift(write)
        return {d.Pid(0)}

    def _reserve(self, pid: d.Pid, process: _Process, write: d.Reserve) -> None:
        self._accounts.reserve(pid, write)

    def _spend(self, pid: d.Pid, process: _Process, write: d.Spend) -> None:
        self._accounts.spend(pid, write)

    async def draw(self, draw: d.DrawRate) -> d.Drawn:
        return self._rates.draw(draw)

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
                text=text if entry is None else log[entry][6],
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

    def _read_questions(self, query: d.ReadQuestions) -> tuple[d.Question, ...]:
        found = self._calls.questions(query)
        return tuple(q for q in found if query.number or not self._has_ended(q.pid))

    def _read_accounts(self, query: d.ReadAccounts) -> tuple[d.Account, ...]:
        every = self._accounts.read()
        if query.ended:
            return every
        return tuple(a for a in every if not self._has_ended(_pid(a.scope)))

    def _find_alarms(self, query: d.FindAlarms) -> tuple[d.Alarm, ...]:
        ours = [
            pid
            for pid in self._calls.sleepers
            if self._processes[pid].record[_PROGRAM] in query.programs
        ]
        return tuple(self._calls.alarms(ours)[: query.limit])

    def _find_stranded(self, query: d.FindStranded) -> tuple[d.Pid, ...]:
        return tuple(pid for pid in query.pids if self._is_stranded(self._of(pid)))

    def _is_stranded(self, process: _Process) -> bool:
        if process.is_held or not process.record:
            return False
        record = _record(process.record)
        is_known = (record.program, record.version) in self._programs
        return record.state not in d.ENDED and not is_known

    def _find_tenures(self, query: d.FindTenures) -> tuple[d.Tenure, ...]:
        found = ((pid, self._of(pid)) for pid in query.pids)
        return tuple(
            d.Tenure(pid=pid, kernel=1 if process.is_held else None, since=process.since)
            for pid, process in found
            if process.record
        )

    def _find_expired(self, query: d.FindExpired | d.ForgetExpired) -> tuple[d.Expired, ...]:
        held = self._accounts.holders()
        kept = ((_record(p.record), p.since) for p in self._processes.values() if p.record)
        return tuple(expired(kept, query.expiry, time.time(), query.limit, held))
        return tuple(expired(kept, query.expiry, time.time(), query.limit))

    def _find_lineage(self, query: d.FindLineage) -> d.Lineage | None:
        own = root = self._of(query.pid)
        if not own.record:
            return None
        at, parent = query.pid, own.record[_PARENT]
        while (above := root.record[_PARENT]) is not None and self._of(above).record:
            at, root = above, self._of(above)
        return d.Lineage(pid=query.pid, born=own.born, parent=parent, root=at, root_born=root.born)

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


def _pid(scope: str) -> d.Pid:
    """The process that it is the scope of, or nobody."""
    kind, _, number = scope.partition(":")
    return d.Pid(int(number) if kind == "process" else 0)


def _row(record: d.ProcessRecord) -> tuple[Any, ...]:
    """The fields, of which the last is what most processes share."""
    rest = _REST(record)
    has_bounds = record.quotas or record.bounds
    if not (record.waits_for or record.wake_at is not None or record.clock or has_bounds):
        rest = _SHARED.setdefault(rest, rest)
    return (*_HEAD(record), rest)


def _record(row: tuple[Any, ...]) -> d.ProcessRecord:
    return d.ProcessRecord(**dict(zip(_FIELDS, (*row[:-1], *row[-1]), strict=True)))


def _entry(key: str, row: _Row) -> d.Entry:
    kind, mark, effect, attempts, settled, failed, body, epoch, note, began_at, took_s, rule = row
    return d.Entry(
        key=key,
        kind=kind,
        fingerprint=mark,
        effect=effect,
        attempts=attempts,
        settled=settled,
        failed=failed,
        body=body,
        epoch=epoch,
        note=note,
        began_at=began_at,
        took_s=took_s,
        rule=rule,
    )


def _bears(commit: d.Commit) -> bool:
    """Itself, that is."""
    births = (write.record.pid for write in commit.writes if isinstance(write, d.AddProcess))
    return commit.pid in births


def _matches(record: d.ProcessRecord, query: d.FindProcesses) -> bool:
    return (
        (query.ended or record.state not in d.ENDED)
        and query.name in (None, record.name)
        and query.role in (None, record.role)
        and query.parent in (None, record.parent)
        and query.tenant in (None, record.tenant)
        and (query.tag is None or query.tag in record.tags)
    )


_WRITERS: dict[type, Callable[[MemoryStorage, d.Pid, _Process, Any], set[d.Pid] | None]] = {
    d.AddProcess: MemoryStorage._bear,
    d.SaveProcess: MemoryStorage._save,
    d.Intend: MemoryStorage._intend,
    d.Annotate: MemoryStorage._annotate,
    d.Settle: MemoryStorage._settle,
    d.AddPage: MemoryStorage._add_page,
    d.PostLetter: MemoryStorage._post,
    d.TakeLetter: MemoryStorage._take,
    d.PostCommand: MemoryStorage._command,
    d.TakeCommand: MemoryStorage._obey,
    d.Announce: MemoryStorage._announce,
    d.PutQuestion: MemoryStorage._ask,
    d.CloseQuestion: MemoryStorage._close,
    d.AnswerQuestion: MemoryStorage._answer,
    d.AddMemory: MemoryStorage._remember,
    d.AddVector: MemoryStorage._embed,
    d.PutRecord: MemoryStorage._put,
    d.DropRecord: MemoryStorage._drop,
    d.PutAccount: MemoryStorage._limit,
    d.RaiseCeiling: MemoryStorage._lift,
    d.Reserve: MemoryStorage._reserve,
    d.Spend: MemoryStorage._spend,
}
_READERS: dict[type, Callable[[MemoryStorage, Any], Any]] = {
    d.ReadLog: MemoryStorage._read_log,
    d.ReadPages: MemoryStorage._read_pages,
    d.ReadLetters: MemoryStorage._read_letters,
    d.ReadCommands: lambda storage, query: storage._calls.commands(query.pid),
    d.ReadQuestions: MemoryStorage._read_questions,
    d.ReadRates: lambda storage, query: storage._rates.read(),
    d.FindAlarms: MemoryStorage._find_alarms,
    d.FindStranded: MemoryStorage._find_stranded,
    d.FindTenures: MemoryStorage._find_tenures,
    d.FindExpired: MemoryStorage._find_expired,
    d.FindLineage: MemoryStorage._find_lineage,
    d.ReadProcess: MemoryStorage._read_process,
    d.FindProcesses: MemoryStorage._find_processes,
    d.FindMemories: lambda storage, query: storage._memories.find(query),
    d.FindSimilar: lambda storage, query: storage._memories.similar(query),
    d.FindUnembedded: lambda storage, query: storage._memories.unembedded(query),
    d.ReadRecord: lambda storage, query: storage._records.read(query),
    d.FindRecords: lambda storage, query: storage._records.find(query),
    d.ReadAccounts: lambda storage, query: storage._accounts.read(),
    d.ReadAccounts: MemoryStorage._read_accounts,
    d.ReadSpent: lambda storage, query: storage._accounts.spent(query),
}
