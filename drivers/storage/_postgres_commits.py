"""Group commit: whatever waits is written in one statement, and each gets its own answer."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress

import anyio

from ...subsystems.storage import driver as d
from ._postgres_batch import Batch, prepared
from ._postgres_chaining import Chain
from ._postgres_chains import Chains
from ._postgres_connections import Connections
from ._postgres_fresh import FreshPages
from ._postgres_pending import Lease, Pending, fault
from ._postgres_sql import sql
from ._postgres_written import Written

MOST_COMMITS = 512
"""In one statement; what is left over goes into the next."""
MOST_BYTES = 8 << 20
"""Of bodies in one statement, unless a single commit has more."""
MANY = 8
"""Of so many, half go on while what the others put next is being written."""
LAST_WORDS_S = 5.0
LAZY_S = 0.005
"""So long a lazy commit waits for another one to go with."""
AGAIN_S = 1.0
"""So long one waits that could not be written, unless another comes."""


class Commits:
    """The way of one kernel's commits into the database, in their order.

    Each has a number, and the lease of its process (for those from outside of all processes
    the kernel's own row) remembers the last one written. So a statement whose answer was lost
    is simply sent again: what it has written is passed over. `kernel` is whose they are.
    As they keep their order, a lazy one is on the disk as soon as any that came after it is.
    """

    def __init__(self, connections: Connections, namespace: str, *, audit: bool) -> None:
        self.chains = Chains(connections, kept=audit)
        self.kernel = 0
        self.last = 0
        self.fresh = FreshPages()
        self._connections, self._namespace = connections, namespace
        self._sending = anyio.Lock(fast_acquire=True)
        self._queue: deque[Pending] = deque()
        self._writing: Sequence[Pending] = ()
        self._unsure: deque[Sequence[Pending]] = deque()
        self._doubtful: list[Sequence[Pending]] = []
        self._called = asyncio.Event()
        self._soon: asyncio.TimerHandle | None = None
        self._gaps: dict[tuple[d.Pid, int], Exception] = {}  # lazy ones that are not written
        self._closed = False

    @asynccontextmanager
    async def renumbered(self) -> AsyncIterator[None]:
        """Nothing is written while the kernel gets another number, and its processes with it."""
        async with self._sending:
            yield

    async def put(self, commit: d.Commit) -> None:
        """Have it written. Who stops waiting does not stop it. Raises StorageError."""
        if self._closed:
            raise d.StorageUnavailable("storage has ended; nothing was written")
        pending = Pending(self._numbered(commit))
        self._queue.append(pending)
        self._show(pending.written)
        if commit.lazy:
            self._call_soon(LAZY_S)
            return
        self._called.set()
        await pending.settled()

    def _show(self, written: Written) -> None:
        """Let the process that put it read its pages already."""
        for pid in written.bears:
            self.fresh.born(pid)
        if written.leaves:
            self.fresh.left(written.commit.pid)
        elif written.pages is None:
            self.fresh.forget(written.commit.pid)
        else:
            self.fresh.add(written.commit.pid, written.pages)

    def _call_soon(self, seconds: float) -> None:
        if self._soon is None:
            self._soon = asyncio.get_running_loop().call_later(seconds, self._called.set)

    async def settled(self, pid: d.Pid) -> None:
        """Wait until all that this process has put is written, or is known not to be."""
        pending = next((p for p in reversed(self._queue) if p.written.commit.pid == pid), None)
        others = (self._writing, *self._unsure)
        pending = pending or next(
            (p for batch in others for p in batch if p.written.commit.pid == pid), None
        )
        if pending is not None:
            self._called.set()
            with suppress(d.StorageError):  # its next commit is told
                await pending.settled()

    def _numbered(self, commit: d.Commit) -> Written:
        try:
            written = Written(commit, self.last + 1)
        except (TypeError, ValueError, RecursionError) as error:
            raise d.StorageRefused(f"a commit of process {commit.pid}: {error}") from error
        self.last = written.seq
        return written

    async def run(self) -> None:
        """Write until cancelled, and then what is left."""
        try:
            while True:
                await self._called.wait()
                await self._write_all()
        except asyncio.CancelledError:
            with anyio.move_on_after(LAST_WORDS_S, shield=True):
                await self._write(self._writing)  # whatever of it is there is passed over
                await self._write_all()
            raise
        finally:
            self._give_up()

    def close(self) -> None:
        """Nothing is written any more, and nobody waits."""
        self._closed = True
        self._give_up()

    def _give_up(self) -> None:
        unsure = [pending for batch in self._unsure for pending in batch]
        left = [*unsure, *self._writing, *self._queue]
        self._writing, self._unsure, self._queue = (), deque(), deque()
        self._fail(left, d.StorageUnavailable("storage has ended; a commit may not be written"))

    async def _write_all(self) -> None:
        self._called.clear()
        if self._soon is not None:
            self._soon.cancel()
            self._soon = None
        while self._unsure or self._queue:
            self._writing = self._unsure.popleft() if self._unsure else self._next_batch()
            self._doubtful = []
            await self._write(self._writing)
            self._writing = ()
            if self._doubtful:
                self._unsure.extendleft(reversed(self._doubtful))
                self._turn_away()
                self._call_soon(AGAIN_S)
                return

    def _turn_away(self) -> None:
        """The database is away: tell whoever waits, and keep what nobody waits for."""
        told = d.StorageUnavailable("the database is unavailable; nothing was written")
        waiting = [pending for pending in self._queue if not pending.written.commit.lazy]
        self._queue = deque(p for p in self._queue if p.written.commit.lazy)
        self._fail(waiting, told)

    def _next_batch(self) -> Sequence[Pending]:
        batch, taken = Batch(MOST_COMMITS, MOST_BYTES), list[Pending]()
        while self._queue and batch.takes(self._queue[0].written):
            taken.append(self._queue.popleft())
        return taken

    async def _write(self, waiting: Sequence[Pending]) -> None:
        """Write them in one statement; when it is refused, find out whose fault it is."""
        waiting = [pending for pending in waiting if not self._is_behind_a_gap(pending)]
        if not waiting:
            return
        try:
            fenced = await self._send(waiting)
        except (d.KeyTaken, d.Overdrawn, d.StorageRefused) as error:
            if len(waiting) == 1:
                self._fail(waiting, error)
                return
            half = len(waiting) // 2
            await self._write(waiting[:half])
            if self._doubtful:
                self._doubt(waiting[half:], error)
            else:
                await self._write(waiting[half:])
        except d.StorageError as error:
            self._doubt(waiting, error)
        else:
            await self._tell(waiting, fenced)

    def _doubt(self, waiting: Sequence[Pending], error: Exception) -> None:
        """Tell whoever waits. With a lazy one in it, it is sent again as it is, before all else:
        only then is what was written of it passed over.
        """
        told = d.StorageUnavailable(f"{error}; a commit may or may not be written")
        told.__cause__ = error
        for pending in waiting:
            pending.tell(told)
        if any(pending.written.commit.lazy for pending in waiting):
            self._doubtful.append(waiting)
            return
        self._fail(waiting, told)

    async def _send(self, waiting: Sequence[Pending]) -> dict[d.Pid, d.StorageError]:
        """Why nothing was written for these processes."""
        commits = [pending.written for pending in waiting]
        async with self._sending:
            before, absent = await self._send_once(commits)
            if absent and await self.chains.have_moved(before, absent):
                _, absent = await self._send_once(absent)
        return await self._why(absent) if absent else {}

    async def _send_once(
        self, commits: Sequence[Written]
    ) -> tuple[Mapping[d.Pid, Chain] | None, Sequence[Written]]:
        """From where chains went on, and those that found no row to write for."""
        ends = await self.chains.ends(commits)
        made = prepared(commits, self.kernel, self._namespace, ends)
        try:
            rows = await self._connections.run(made.text, *made.values)
        except BaseException:
            self.chains.forget(commits)
            raise
        written = {row["pid"] for row in rows}
        absent = [one for one in commits if one.commit.pid not in written]
        self.chains.follow(made.ends, (one for one in commits if one.commit.pid in written))
        self.chains.forget(absent)
        return ends, absent

    async def _why(self, absent: Sequence[Written]) -> dict[d.Pid, d.StorageError]:
        """Of what found no row to write for: has another epoch begun, or is it there already?"""
        newest = {written.commit.pid: written for written in absent}
        rows = await self._connections.run(sql("read_leases"), list(newest), self.kernel)
        leases = {row["pid"]: Lease(*row[1:]) for row in rows}
        faults = ((pid, fault(one, leases.get(pid))) for pid, one in newest.items())
        return {pid: found for pid, found in faults if found is not None}

    async def _tell(self, waiting: Sequence[Pending], fenced: dict[d.Pid, d.StorageError]) -> None:
        """Told all at once, they would work while the database waits, and wait while it works:
        so half of them are told first, and what they put is being written as the others work.
        """
        half = len(waiting) // 2 if len(waiting) >= MANY and not self._queue else 0
        for place, pending in enumerate(waiting):
            if half and place == half:
                await asyncio.sleep(0)
            error = fenced.get(pending.written.commit.pid)
            if error is not None:
                self._fail([pending], error)
            else:
                pending.tell()

    def _fail(self, waiting: Sequence[Pending], error: Exception) -> None:
        for pending in waiting:
            commit = pending.written.commit
            for pid in (commit.pid, *pending.written.bears):
                self.fresh.left(pid)
            if commit.lazy:
                self._gaps[commit.pid, commit.epoch] = error
            pending.tell(error)

    def _is_behind_a_gap(self, pending: Pending) -> bool:
        commit = pending.written.commit
        error = self._gaps.get((commit.pid, commit.epoch))
        if error is not None:
            pending.tell(d.Fenced(f"what process {commit.pid} wrote before was refused: {error}"))
        return error is not None
