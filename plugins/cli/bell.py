"""A process in another kernel, followed: its owner rings, so that nobody has to look for news."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Self

import anyio

from ...kernel import Event, Kernel
from ...subsystems.processes.messages import Follow
from ...subsystems.storage.messages import ProcessRecord, Rang, ReadProcess

FOLLOW_S = 60.0
"""For so long the owner is asked to ring. Half of it is the longest a loss goes unnoticed."""


class Bell:
    """Gives a process's record when it may have changed, and asks whoever has it to ring.

    Once for each owner, and again in time. A parked one is not asked, which would bring it
    into memory, until something has happened to it.
    """

    def __init__(self, kernel: Kernel, rings: AsyncIterator[Event]) -> None:
        self._kernel, self._rings = kernel, rings
        self._asked: tuple[int, str] | None = None
        self._asked_at = 0.0

    @classmethod
    @asynccontextmanager
    async def of(cls, kernel: Kernel) -> AsyncIterator[Self]:
        """Hear from now on."""
        async with kernel.listen(Rang.topic) as rings:
            yield cls(kernel, rings)

    async def next(self, record: ProcessRecord) -> ProcessRecord:
        """Wait, and read it."""
        if record.state == "running":
            await self._ask(record)
        if await self._rung(record) and record.state == "parked":
            await self._ask(record)
        now = await self._kernel.request(ReadProcess(pid=record.pid))
        assert now is not None
        return now

    async def _ask(self, record: ProcessRecord) -> None:
        at = self._kernel.bus.time()
        if self._asked == (record.epoch, record.state) and at < self._asked_at + FOLLOW_S / 2:
            return
        self._asked, self._asked_at = (record.epoch, record.state), at
        await self._kernel.request(Follow(pid=record.pid, for_s=FOLLOW_S))

    async def _rung(self, record: ProcessRecord) -> bool:
        """Has something happened to it, or its time come?"""
        alarm_s = float("inf")
        if record.state == "parked" and record.wake_at is not None:
            alarm_s = record.wake_at - self._kernel.bus.wall()
        with anyio.move_on_after(alarm_s if 0 < alarm_s < FOLLOW_S / 2 else FOLLOW_S / 2):
            async for ring in self._rings:
                assert isinstance(ring, Rang)
                if ring.pids is None or record.pid in ring.pids:
                    return True
        return alarm_s < FOLLOW_S / 2
