"""A PostgreSQL as the disk: commits, reads, and the kernel's hold on its processes."""

from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import Any, TypeVar, cast

import anyio

from ...subsystems.storage import driver as d
from ._postgres_claim import Claim
from ._postgres_commits import Commits
from ._postgres_connections import Connections, Settings
from ._postgres_doorbell import Doorbell
from ._postgres_erasing import Erasure
from ._postgres_line import Connection
from ._postgres_neighbours import is_dead, myself
from ._postgres_queries import asked
from ._postgres_rows import record
from ._postgres_sealing import Sealer
from ._postgres_seats import Holding
from ._postgres_sql import sql

__all__ = ["Database", "Settings"]

T = TypeVar("T")
SEPARATOR = "\x1f"
"""Between a program's name and its version."""
BY_KEYS = "set local enable_seqscan = off; set local enable_hashjoin = off"
"""What is deleted is found by its keys; before a table is analyzed, plans would read all of it."""
PIDS = 64
"""Process numbers that are taken at once; the sequence steps by as many."""


class Database:
    """One kernel's place among those that use a database."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._connections = Connections(settings)
        self._commits = Commits(self._connections, settings.namespace, audit=settings.audit)
        self._sealer = Sealer(self._connections, self._commits.chains)
        self._pids: Iterator[int] = iter(())
        self._unwanted: list[Claim] = []
        self._programs: set[tuple[str, str]] = set()
        self._doorbell = Doorbell(self._connections, settings.namespace)

    async def start(self) -> None:
        """Connect, bring the schema up to date, and take a place. Raises StorageError."""
        at, self._unwanted = self.settings, []
        self._commits = Commits(self._connections, at.namespace, audit=at.audit)
        self._sealer = Sealer(self._connections, self._commits.chains)
        self._commits.kernel = await self._connections.open(
            lambda connection: connection.fetchval(sql("enter"), *self._place(0))
        )
        self._entered()
        await self._doorbell.open()  # what is read from here on, others change audibly
        await self._bury("read_neighbours")  # a restart need not wait for its own lease

    def _place(self, former: int) -> tuple[str, float, int, str, str]:
        """What there is to say of this kernel when it takes a place."""
        return self.settings.namespace, self.settings.lease_s, former, *myself()

    def _entered(self) -> None:
        self._doorbell.kernel = self._commits.kernel
        self._programs = set()  # nobody there knows them yet

    async def run(self, ring: d.Ring) -> None:
        """Write commits, keep the kernel's place and hear of others until cancelled."""
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._keep_place, ring, name="lease")
            tasks.start_soon(self._doorbell.listen, ring, name="doorbell")
            tasks.start_soon(self._sealer.run, name="sealer")
            await self._commits.run()

    async def stop(self) -> None:
        """Give up the place, with all processes, and the connections."""
        with anyio.move_on_after(5, shield=True):
            try:
                self._commits.close()
                await self._sealer.seal_last()
                await self._leave()
            finally:
                self._doorbell.close()  # of a kernel that was started and never ran
                await self._connections.close()

    async def _leave(self) -> None:
        if self._commits.kernel:
            with suppress(d.StorageError):
                await self._connections.run(sql("leave"), self._commits.kernel)
            self._commits.kernel = 0

    async def commit(self, commit: d.Commit) -> None:
        """Have it written with whatever else is waiting. Raises Fenced, StorageError."""
        await self._commits.put(commit)

    async def new_pid(self) -> d.Pid:
        """A number that nobody has had."""
        pid = next(self._pids, None)
        if pid is None:
            ((first,),) = await self._connections.read("next_pids")
            self._pids = iter(range(first, first + PIDS))
            pid = next(self._pids)
        return d.Pid(pid)

    async def claim(self, claim: d.ClaimProcesses) -> tuple[d.ProcessRecord, ...]:
        """Take over what nobody owns."""
        await self._bury("read_silent")
        await self._know(claim.programs or ())
        taking = Claim(claim, self._commits.kernel, self.settings.namespace)
        try:
            rows = await self._connections.use(taking.take)
        except BaseException:
            self._unwanted.append(taking)  # perhaps they are ours, and nobody here knows
            raise
        self._commits.last = max([self._commits.last, *(row["seq"] for row in rows)])
        for row in rows:
            self._commits.fresh.claimed(row["pid"])
        return tuple(record(row) for row in sorted(rows, key=lambda row: row["pid"]))

    async def _know(self, programs: Iterable[tuple[str, str]]) -> None:
        """Tell everybody what this kernel has, when that is news."""
        if self._programs.issuperset(programs):
            return
        self._programs.update(programs)
        told = [SEPARATOR.join(program) for program in self._programs]
        await self._connections.run(sql("know_programs"), self._commits.kernel, told)

    async def _bury(self, which: str) -> None:
        """Those kernels of this machine that died without a word have left."""
        machine, _ = myself()
        found = await self._connections.read(which, machine) if machine else ()
        dead = [row["id"] for row in found if is_dead(row["process"])]
        if dead:
            await self._connections.run(sql("bury"), dead)

    async def forget(self, order: d.ForgetExpired) -> tuple[d.Expired, ...]:
        """Delete what is over. Sent again, for its answer was lost, it goes on with what is left."""
        name, values, made = asked(order, self.settings.namespace)

        async def work(connection: Connection) -> list[Any]:
            async with connection.transaction():
                await connection.execute(BY_KEYS)
                rows: list[Any] = await connection.fetch(sql(name), *values)
                return rows

        gone: tuple[d.Expired, ...] = made(await self._connections.use(work))
        for one in gone:
            self._commits.fresh.forget(one.pid)
        return gone

    async def erase(self, order: d.EraseBodies) -> int:
        """Leave of these bodies only what stands for them."""
        return await self._connections.use(Erasure(order, self.settings.namespace).do)

    async def draw(self, draw: d.DrawRate) -> d.Drawn:
        """Take from a rate that kernels share; one that nobody knows yet is full."""
        at = self.settings.namespace, draw.name
        values = draw.each_s, draw.burst, draw.least, draw.most, draw.owed
        while not (rows := await self._connections.read("draw_rate", *at, *values)):
            await self._connections.read("open_rate", *at)
        return d.Drawn(*rows[0])

    async def hold(self, hold: d.HoldSeats) -> d.Held:
        """Hold places that kernels share; nothing without a place among the kernels."""
        return await self._connections.use(Holding(hold, self._commits.kernel, self.settings).do)

    async def hear_seats(self, tell: d.TellSeats) -> None:
        """Until cancelled."""
        self._doorbell.tell = tell
        try:
            await anyio.sleep_forever()
        finally:
            self._doorbell.tell = None

    async def read(self, query: d.Query[T]) -> T:
        """Answer a query from what is committed."""
        if isinstance(query, d.ReadPages):
            return cast(T, await self._read_pages(query))
        return await self._read(query)

    async def _read_pages(self, query: d.ReadPages) -> tuple[d.Page, ...]:
        """From memory what was written a moment ago, so that commits need not be waited for."""
        fresh = self._commits.fresh
        known = fresh.take(query.pid, query.after)
        if known is not None:
            return known
        reading = fresh.begin(query.pid)
        await self._commits.settled(query.pid)
        pages = await self._read(query)
        reading.after = pages[-1].number if pages else query.after
        return pages

    async def _read(self, query: d.Query[T]) -> T:
        name, values, made = asked(query, self.settings.namespace)
        reply: T = made(await self._connections.read(name, *values))
        return reply

    # The place among the kernels

    async def _keep_place(self, ring: d.Ring) -> None:
        while True:
            await anyio.sleep(self.settings.lease_s / 3)
            with suppress(d.StorageError):
                await self._renew(ring)
                await self._give_back()
                await self._connections.run(sql("sweep_records"))
                await self._connections.run(sql("sweep_seats"), self.settings.namespace)

    async def _renew(self, ring: d.Ring) -> None:
        at = self._commits.kernel, self.settings.lease_s
        if not await self._connections.run(sql("renew"), *at):
            await self._enter()
            ring(None)  # who has taken processes of ours could not tell us by our number

    async def _enter(self) -> None:
        async with self._commits.renumbered():
            at = self._place(self._commits.kernel)
            ((self._commits.kernel,),) = await self._connections.run(sql("enter"), *at)
        self._entered()

    async def _give_back(self) -> None:
        """What a claim has taken that was cut short, before anybody was told."""
        while self._unwanted:
            await self._connections.run(sql("give_back"), *self._unwanted[-1].which())
            self._unwanted.pop()
