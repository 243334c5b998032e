"""A process while it is in memory."""

import asyncio
import weakref
from collections.abc import Coroutine
from typing import Any, TypeVar

from ..llm.messages import Delta
from ..storage.messages import Key, ProcessRecord, State
from .stream import DeltaStream
from .syscall import Suspended

T = TypeVar("T")
PARKABLE = frozenset({"receive", "wait"})
"""Waits that a process may spend outside of memory."""


class Live:
    """The task that runs a process, and what others must know of it."""

    __slots__ = (
        "bells",
        "called",
        "fresh",
        "leaves_as",
        "open",
        "parkable",
        "record",
        "sealed",
        "since",
        "streams",
        "taking",
        "task",
        "verdict",
        "waiting",
        "waits_in",
    )

    def __init__(self, record: ProcessRecord, *, fresh: bool) -> None:
        self.record = record
        self.fresh = fresh  # its step has begun in this life, so the log has nothing of it
        self.sealed = False  # nothing more is journaled: it is being parked or killed
        self.called = False  # back into memory, while it was leaving
        self.verdict: State | None = None  # what a signal has made of it
        self.leaves_as: State | None = None  # the kernel is ending: the next wait is the last
        self.task: asyncio.Task[Any] | None = None
        self.open = 0  # syscalls under way, on all branches
        self.waiting = 0  # those of them that wait for somebody else
        self.parkable = 0  # those of these that may do so outside of memory
        self.waits_in = ""  # the syscall it has blocked in last, and since when
        self.since = 0.0
        self.bells: list[asyncio.Future[None]] | None = None  # of branches that wait for letters
        self.taking: dict[Key, int] | None = None  # letters that syscalls hold, not yet committed
        self.streams: list[weakref.ref[DeltaStream]] | None = None

    def idle_since(self, moment: float) -> bool:
        """Has it, on all its branches, only waited for others since then?"""
        return 0 < self.open == self.parkable and self.since <= moment

    def block(self, kind: str) -> None:
        """A syscall begins to wait for somebody else."""
        if self.leaves_as is not None:
            self.verdict, self.sealed = self.leaves_as, True
            raise Suspended
        self.waits_in, self.since = kind, asyncio.get_running_loop().time()
        self.waiting += 1
        self.parkable += kind in PARKABLE

    def unblock(self, kind: str) -> None:
        self.waits_in = self.waits_in if self.sealed else ""  # parked: what it was parked in
        self.waiting -= 1
        self.parkable -= kind in PARKABLE

    async def wait(self, kind: str, work: Coroutine[Any, Any, T]) -> T:
        """Await something that may take long."""
        try:
            self.block(kind)
        except Suspended:
            work.close()
            raise
        try:
            return await work
        finally:
            self.unblock(kind)

    def bell(self) -> "asyncio.Future[None]":
        """Rings when a letter arrives."""
        bell = asyncio.get_running_loop().create_future()
        self.bells = [*(self.bells or ()), bell]
        return bell

    def leave_with(self, verdict: State) -> None:
        """The kernel is ending: leave now if all that goes on is waiting, else at the next wait."""
        self.leaves_as = verdict
        if 0 < self.open == self.waiting:
            self.cut(verdict, sealed=True)

    def cut(self, verdict: State, *, sealed: bool) -> None:
        """Interrupt the program. Sealed, it cannot say anything more."""
        self.verdict, self.sealed = verdict, self.sealed or sealed
        if self.task is not None:
            self.task.cancel()

    def wake(self) -> None:
        """A letter has arrived."""
        bells, self.bells = self.bells, None
        for bell in bells or ():
            if not bell.done():
                bell.set_result(None)

    def open_stream(self) -> DeltaStream:
        stream = DeltaStream()
        self.streams = [*(self.streams or ()), weakref.ref(stream)]
        return stream

    def close_streams(self) -> None:
        for stream in filter(None, (reference() for reference in self.streams or ())):
            stream.close()
        self.streams = None

    def sink(self) -> Any:
        """Where deltas go, if anybody reads them."""
        return self._emit if self.streams else None

    async def _emit(self, delta: Delta) -> None:
        for reference in tuple(self.streams or ()):
            stream = reference()
            moved = None if stream is None else stream.put(delta)
            while moved is not None:
                stream = None  # a reader that goes away must not be kept by who waits for it
                await moved.wait()
                stream = reference()
                moved = None if stream is None else stream.behind()
        self.streams = [r for r in self.streams or () if r() is not None] or None
