"""Storage in this process's memory: for tests and first steps; gone when the process ends.

Rows are kept as a database would keep them, flat and immutable, so that what is read back is
what was written, and ten thousand parked processes stay small.
"""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import anyio

from ...subsystems.storage import driver as d
from ._memory_process import Process
from ._memory_reading import READERS, find_expired
from ._memory_store import Store
from ._memory_writing import WRITERS


@dataclass(kw_only=True)
class MemoryStorage:
    """Everything in dictionaries; nothing survives the end of the operating-system process."""

    _store: Store = field(default_factory=Store, init=False)
    _users: int = field(default=0, init=False)
    _pids: Iterator[int] = field(default_factory=lambda: itertools.count(1), init=False)

    async def start(self) -> None:
        """Several kernels may use one object, as they would one database."""
        self._users += 1

    async def run(self, ring: d.Ring) -> None:
        """Ring for what others do."""
        self._store.doors.append(ring)
        try:
            await anyio.sleep_forever()
        finally:
            self._store.doors.remove(ring)

    async def stop(self) -> None:
        """What was kept stays as long as this object, for the next owner."""
        self._users = max(self._users - 1, 0)
        if not self._users:
            self._store.programs.clear()
            self._store.seats.lapse()
            self._store.accounts.assume(lambda pid: not pid)
            for process in self._store.processes.values():
                process.owned = False

    def lapse(self) -> None:
        """As if all leases had run out: whoever holds a process may be frozen, or dead."""
        self._store.programs.clear()
        self._store.seats.lapse()
        for process in self._store.processes.values():
            if process.owned:
                process.lapsed = True
                process.amend(replace(process.record, silent=process.epoch))

    async def new_pid(self) -> d.Pid:
        return d.Pid(next(self._pids))

    async def commit(self, commit: d.Commit) -> None:
        store = self._store
        self._check_owner(commit)
        kinds = {write.__class__ for write in commit.writes}
        if d.AddProcess in kinds:
            self._check_keys(commit)
        if d.Reserve in kinds:
            store.accounts.check(commit.writes)
        process = store.processes.get(commit.pid)
        if process is None:
            process = store.processes[commit.pid] = Process()
        rung: set[d.Pid] = set()
        for write in commit.writes:
            called = WRITERS[type(write)](store, commit.pid, process, write)
            if called is not None:
                rung |= called
        for ring in store.doors if rung else ():
            ring(rung)

    def _check_owner(self, commit: d.Commit) -> None:
        """What comes from outside of all processes nobody owns."""
        pid, process = commit.pid, self._store.of(commit.pid)
        if commit.epoch != process.epoch:
            raise d.Fenced(
                f"process {pid} belongs to epoch {process.epoch}, this was {commit.epoch}"
            )
        if pid and not process.owned and (process.row or not _bears(commit)):
            raise d.Fenced(f"nobody owns process {pid}, or it is not there")

    def _check_keys(self, commit: d.Commit) -> None:
        for write in commit.writes:
            if isinstance(write, d.AddProcess) and write.record.key in self._store.keys:
                raise d.KeyTaken(f"there is a process with the key {write.record.key!r}")

    async def claim(self, claim: d.ClaimProcesses) -> tuple[d.ProcessRecord, ...]:
        store = self._store
        store.programs.update(claim.programs or ())
        store.accounts.assume(store.has_ended)
        pids = list(store.processes) if claim.pid is None else [claim.pid]
        claimed = (record for pid in pids if (record := self._claim(pid, claim)) is not None)
        taken = {record.pid: record for record in itertools.islice(claimed, claim.limit)}
        store.accounts.assume(taken.__contains__)
        return tuple(taken.values())

    def _claim(self, pid: d.Pid, claim: d.ClaimProcesses) -> d.ProcessRecord | None:
        process = self._store.of(pid)
        if process.is_held or not process.row or process.state not in claim.states:
            return None
        if claim.programs is not None and process.program not in claim.programs:
            return None
        record = process.record
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
        for ring in self._store.doors:
            ring({pid})

    def _is_due(self, record: d.ProcessRecord, moment: float) -> bool:
        waits, pid, store = record.waits_in, record.pid, self._store
        return (
            record.state != "parked"
            or not waits
            or (record.wake_at is not None and record.wake_at <= moment)
            or ("receive" in waits and bool(store.of(pid).letters))
            or ("ask" in waits and store.calls.is_answered(pid))
            or bool(store.calls.commands(pid))
            or any(map(store.has_ended, record.waits_for))
        )

    async def forget(self, order: d.ForgetExpired) -> tuple[d.Expired, ...]:
        store, gone = self._store, find_expired(self._store, order)
        for one in gone:
            store.calls.forget(one.pid)
            store.accounts.close(one.pid)
            process = store.processes.pop(one.pid)
            if not one.whole:
                kept = store.processes[one.pid] = Process(epoch=process.epoch, since=process.since)
                kept.amend(replace(process.record, bare=True, state_json="null"))
            elif one.key is not None:
                del store.keys[one.key]
        return gone

    async def draw(self, draw: d.DrawRate) -> d.Drawn:
        return self._store.rates.draw(draw)

    async def hold(self, hold: d.HoldSeats) -> d.Held:
        return self._store.seats.hold(hold)

    async def hear_seats(self, tell: d.TellSeats) -> None:
        with self._store.seats.heard_by(tell):
            await anyio.sleep_forever()

    async def read(self, query: d.Query[Any]) -> Any:
        return READERS[type(query)](self._store, query)


def _bears(commit: d.Commit) -> bool:
    """Itself, that is."""
    births = (write.record.pid for write in commit.writes if isinstance(write, d.AddProcess))
    return commit.pid in births
