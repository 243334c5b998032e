"""A process while it is in memory."""

import asyncio
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from ..llm.messages import Delta
from ..storage.messages import ProcessRecord, State
from .messages import Blocked
from .stream import DeltaStream


class Live:
    """The task that runs a process, and what others must know of it."""

    __slots__ = ("doing", "letter", "record", "sealed", "streams", "taking", "task", "verdict")

    def __init__(self, record: ProcessRecord) -> None:
        self.record = record
        self.sealed = False  # nothing more is journaled: it is being parked or killed
        self.verdict: State | None = None  # what a signal has made of it
        self.task: asyncio.Task[Any] | None = None
        self.doing: Blocked | None = None
        self.letter: asyncio.Future[None] | None = None  # resolved when one arrives
        self.taking: set[int] | None = None  # letters that branches hold, not yet committed
        self.streams: list[weakref.ref[DeltaStream]] | None = None

    @contextmanager
    def blocked(self, kind: str, now: float) -> Iterator[None]:
        """Mark a wait; in some kinds the process may be parked meanwhile."""
        self.doing = Blocked(kind=kind, since=now)
        try:
            yield
        finally:
            self.doing = None

    def cut(self, verdict: State, *, sealed: bool) -> None:
        """Interrupt the program. Sealed, it cannot say anything more."""
        self.verdict, self.sealed = verdict, self.sealed or sealed
        if self.task is not None:
            self.task.cancel()

    def ring(self) -> None:
        """A letter has arrived."""
        if self.letter is not None and not self.letter.done():
            self.letter.set_result(None)

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
