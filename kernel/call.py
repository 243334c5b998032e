"""Envelopes: what the kernel knows of a message on its way. It never looks inside the message.

Ids are numbers here and hexadecimal (W3C trace context) wherever they are shown.
"""

import itertools
import random
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Generic

import anyio

from .message import Meter, R, Request, Sink

if TYPE_CHECKING:

    from .gate import Gate

_ids = itertools.count(1 << 32)
_TRACES = random.getrandbits(64) << 64  # this run's half of every trace id that begins here


class Envelope:
    """Who said something, when, and because of what. Made by the kernel only.

    `sent_at` is in seconds of the kernel's monotonic clock. `origin` is whatever the
    caller's subsystem wants carried along (for processes: who is calling); calls made
    underneath inherit it.
    """

    __slots__ = ("cause_id", "id", "origin", "sender", "sent_at", "trace")

    def __init__(
        self, above: "Envelope | None", sender: str, sent_at: float, origin: object = None
    ) -> None:
        self.id = next(_ids)
        self.sender = sender
        self.sent_at = sent_at
        if above is None:
            self.cause_id = 0
            self.trace = _TRACES | self.id
            self.origin = origin
        else:
            self.cause_id = above.id
            self.trace = above.trace
            self.origin = above.origin if origin is None else origin

    @property
    def trace_id(self) -> str:
        return f"{self.trace:032x}"

    @property
    def span_id(self) -> str:
        return f"{self.id:016x}"

    @property
    def cause(self) -> str | None:
        """The span that caused this one; None at the root of a trace."""
        return f"{self.cause_id:016x}" if self.cause_id else None


class Call(Envelope, Generic[R]):
    """A request on its way to its handler, as guards see it."""

    __slots__ = ("_meter", "aborted", "address", "gate", "message", "parent", "permit", "sink")

    def __init__(
        self,
        message: Request[R],
        address: str,
        above: Envelope | None,
        sender: str,
        sent_at: float,
        sink: Sink | None,
        origin: object,
    ) -> None:
        self.id = next(_ids)  # what Envelope's does, without the call: this runs for every request
        self.sender = sender
        self.sent_at = sent_at
        if above is None:
            self.cause_id = 0
            self.trace = _TRACES | self.id
            self.origin = origin
            self.parent: Call[Any] | None = None
        else:
            self.cause_id = above.id
            self.trace = above.trace
            self.origin = above.origin if origin is None else origin
            self.parent = above if above.__class__ is Call else None  # type: ignore[assignment]
        self.message = message
        self.address = address
        self.sink = sink
        self.gate: Gate | None = None  # the gate this call is inside of
        self.permit = False  # it holds one of the gate's permits
        self.aborted: BaseException | None = None
        self._meter: Meter | None = None

    @property
    def meter(self) -> Meter:
        """What this call has used so far; the driver fills it, guards read it."""
        if self._meter is None:
            self._meter = Meter()
        return self._meter

    @property
    def deadline(self) -> float:
        """When the caller gives up, on the kernel's monotonic clock; `math.inf` if never."""
        return anyio.current_effective_deadline()

    def is_inside(self, gate: "Gate") -> bool:
        """Does the chain of calls that led here already stand inside this gate?"""
        above = self.parent
        while above is not None:
            if above.gate is gate:
                return True
            above = above.parent
        return False


current: ContextVar[Envelope | None] = ContextVar("aoskernel_current", default=None)
"""The envelope being handled in this task; None in an application's own code."""
