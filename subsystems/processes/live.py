"""A process while it is in memory."""

import asyncio
import weakref
from collections.abc import Awaitable
from typing import Any, TypeVar

from ..llm.messages import Delta
from ..storage.messages import Key, ProcessRecord, State
from .stream import DeltaStream

T = TypeVar("T")


class Live:
    """The task that runs a process, and what others must know of it."""

    __slots__ = (
        "bells",
        "fresh",
        "record",
        "sealed",
        "since",
        "streams",
        "taking",
        "task",
        "verdict",
        "waits_in",
    )

    def __init__(self, record: ProcessRecord, *, fresh: bool) -> None:
        self.record = record
        self.fresh = fresh  # its step has begun in this life, so the log has nothing of it
        self.sealed = False  # nothing more is journaled: it is being parked or killed
        self.verdict: State | None = None  # what a signal has made of it
        self.task: asyncio.Task[Any] | None = None
        self.waits_in = ""  # the syscall it is blocked in, and since when
        self.since = 0.0
        self.bells: list[asyncio.Future[None]] | None = None  # of branches that wait for letters
        self.taking: dict[Key, int] | None = None  # letters that syscalls hold, not yet committed
        self.streams: list[weakref.ref[DeltaStream]] | None = None

    async def wait(self, kind: str, work: Awaitable[T]) -> T:
        """Await something long; in some kinds of waits the process may be parked meanwhile."""
        self.waits_in, self.since = kind, asyncio.get_running_loop().time()
        try:
            return await work
        finally:
            self.waits_in = ""

    def bell(self) -> "asyncio.Future[None]":
        """Rings when a letter arrives; meanwhile the process waits in receive."""
        loop = asyncio.get_running_loop()
        self.waits_in, self.since = "receive", loop.time()
        bell = loop.create_future()
        self.bells = [*(self.bells or ()), bell]
        return bell

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
