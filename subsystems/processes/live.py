"""A process while it is in memory."""

import asyncio
import weakref
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, Literal, NamedTuple, TypeVar

from ..llm.messages import Delta
from ..storage.messages import Key, Pid, ProcessRecord, State
from .messages import DoubtfulCall
from .stream import DeltaStream
from .syscall import Suspended, Turnstile

T = TypeVar("T")


class Waiting(NamedTuple):
    """What a syscall waits for: letters, a human, a process, a time (seconds since 1970).

    It may do so outside of memory.
    """

    kind: Literal["receive", "wait", "ask", "sleep"]
    child: Pid | None = None
    until: float | None = None


FOR_LETTERS = Waiting("receive")
LAST_WORDS_S = 5.0
"""For what somebody who is cut must still say, and for the clean-up of its program."""


class Live:
    """The task that runs a process, and what others must know of it."""

    __slots__ = (
        "bells",
        "commands",
        "deadlines",
        "doomed",
        "doubts",
        "error",
        "followed_until",
        "fresh",
        "leaves_as",
        "open",
        "parked_in",
        "record",
        "rests",
        "rung",
        "says",
        "sealed",
        "since",
        "streams",
        "taking",
        "task",
        "turnstile",
        "verdict",
        "waits",
        "waits_in",
    )

    def __init__(self, record: ProcessRecord, *, fresh: bool) -> None:
        self.record = record
        self.fresh = fresh  # its step has begun in this life, so the log has nothing of it
        self.sealed = False  # nothing more is journaled: it is being parked or killed
        self.verdict: State | Literal["lost"] | None = None  # what a signal has made of it
        self.error: Exception | None = None  # why it was stopped
        self.leaves_as: State | None = None  # when all that goes on is waiting
        self.turnstile = Turnstile()
        self.doubts: tuple[DoubtfulCall, ...] = ()  # why it is to stop
        self.rests = False  # it leaves before its next syscall, too
        self.followed_until = float("-inf")  # somebody elsewhere wants to hear of its commits
        self.doomed: float | None = None  # TERM reached it outside of memory: grace in seconds
        self.commands: dict[int, str] = {}  # numbers and signals of those that it is obeying
        self.task: asyncio.Task[Any] | None = None
        self.open = 0  # syscalls under way, on all branches
        self.says = ""  # the kind of the last that began
        self.waits: tuple[Waiting, ...] = ()  # what those of them wait for that wait
        self.deadlines: tuple[float, ...] = ()  # of the timeouts around them
        self.parked_in: tuple[Waiting, ...] | None = None  # what it waited for when it was cut
        self.waits_in = ""  # the syscall it has blocked in last, and since when
        self.since = 0.0
        self.rung = 0  # how often it was called, so that no call is missed
        self.bells: list[asyncio.Future[None]] | None = None  # of branches that wait for a call
        self.taking: dict[Key, int] | None = None  # letters that syscalls hold, not yet committed
        self.streams: list[weakref.ref[DeltaStream]] | None = None

    def idle_since(self, moment: float) -> bool:
        """Has it, on all its branches, only waited for others since then?"""
        return self.only_waits and self.since <= moment

    @property
    def doing(self) -> str:
        """What it waits in, or the first word of the syscall that it is in; or it works."""
        return self.waits_in or (self.says.partition(":")[0] if self.open else "work")

    @property
    def only_waits(self) -> bool:
        return 0 < self.open == len(self.waits)

    # Syscalls

    def begin(self, kind: str) -> None:
        """A syscall is under way."""
        self.open += 1
        self.says = kind

    def end(self, key: Key) -> None:
        """It is over; its letter is committed with it, or free for others again."""
        self.open -= 1
        if self.taking:
            self.taking.pop(key, None)
        if self.doubts:
            self.rest()

    # Waiting

    def block(self, waiting: Waiting) -> None:
        """A syscall begins to wait for somebody else."""
        self.waits = (*self.waits, waiting)
        if self.leaves_as is not None and self.only_waits:
            self.seal(self.leaves_as)
            raise Suspended
        self.waits_in, self.since = waiting.kind, asyncio.get_running_loop().time()

    def unblock(self, waiting: Waiting) -> None:
        at = self.waits.index(waiting)
        self.waits = self.waits[:at] + self.waits[at + 1 :]
        self.waits_in = self.waits_in if self.sealed else ""  # parked: what it was parked in

    async def wait(self, waiting: Waiting, work: Coroutine[Any, Any, T]) -> T:
        """Await something that may take long."""
        try:
            self.block(waiting)
            return await work
        finally:
            work.close()
            self.unblock(waiting)

    def bell(self) -> "asyncio.Future[None]":
        """Rings when a letter arrives, or something else happens to the process."""
        bell = asyncio.get_running_loop().create_future()
        self.bells = [*(self.bells or ()), bell]
        return bell

    def wake(self) -> None:
        """A letter has arrived, an answer."""
        self.rung += 1
        bells, self.bells = self.bells, None
        for bell in bells or ():
            if not bell.done():
                bell.set_result(None)

    @contextmanager
    def deadline(self, moment: float) -> Iterator[None]:
        """What goes on in here is over then."""
        self.deadlines = (*self.deadlines, moment)
        try:
            yield
        finally:
            at = self.deadlines.index(moment)
            self.deadlines = self.deadlines[:at] + self.deadlines[at + 1 :]

    # Leaving

    def leave_with(self, verdict: State) -> None:
        """The kernel is ending: leave now if all that goes on is waiting, else at the next wait."""
        self.leaves_as = verdict
        if self.only_waits:
            self.cut(verdict, sealed=True)

    def doubt(self, call: DoubtfulCall) -> None:
        """Nobody knows how this came out: nothing begins any more, and what has begun ends."""
        self.doubts = (*self.doubts, call)
        self.turnstile.shut, self.leaves_as = True, "stopped"

    def rest(self) -> None:
        """Something has ended. In doubt, it leaves when nothing is left that will end."""
        if self.doubts and self.only_waits and not self.sealed:
            self.cut("stopped", sealed=True)

    def come_to_rest(self) -> None:
        """Leave as soon as nothing is under way but waiting, and come back."""
        if not self.doubts:  # else it is to stop, and does so then
            self.rests = True
            self.leave_with("parked")

    def cut(self, verdict: "State | Literal['lost']", *, sealed: bool) -> None:
        """Interrupt the program. Sealed, it cannot say anything more."""
        if sealed:
            self.seal(verdict)
        self.verdict = verdict
        if self.task is not None:
            self.task.cancel()

    def seal(self, verdict: "State | Literal['lost']", error: Exception | None = None) -> None:
        """Nothing more is journaled. What it waits for now is what can wake it."""
        if not self.sealed:
            self.parked_in = self._waits_for() if self.only_waits else ()
        self.sealed, self.verdict, self.error = True, verdict, error or self.error

    def _waits_for(self) -> tuple[Waiting, ...]:
        return (*self.waits, *(Waiting("sleep", until=moment) for moment in self.deadlines))

    def parked(self, record: ProcessRecord) -> ProcessRecord:
        """The record with what may wake it."""
        waits = self.parked_in or ()
        times = [waiting.until for waiting in waits if waiting.until is not None]
        return replace(
            record,
            waits_in=_KINDS[frozenset({waiting.kind for waiting in waits})],
            waits_for=tuple({w.child: None for w in waits if w.child is not None}),
            wake_at=min(times, default=None),
        )

    # Streams

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


class _Kinds(dict[frozenset[str], tuple[str, ...]]):
    """Each combination of kinds as one tuple, which ten thousand parked processes share."""

    def __missing__(self, kinds: frozenset[str]) -> tuple[str, ...]:
        return self.setdefault(kinds, tuple(sorted(kinds)))


_KINDS = _Kinds()
