"""Envelopes: what the kernel knows of a message on its way. It never looks inside the message.

Ids are numbers here and hexadecimal (W3C trace context) wherever they are shown.
"""

import copy
import itertools
import random
from collections.abc import Callable
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Generic

import anyio

from .message import Meter, R, Request, Sink

if TYPE_CHECKING:
    from .gate import Gate
    from .subscription import Subscription

_ids = itertools.count(1 << 32)
_TRACES = random.randbytes(8).hex()  # this run's half of every trace id


class Envelope:
    """Who said something, when, and because of what. Made by the kernel only.

    `sent_at` is in seconds of the kernel's clock. `origin` is what the caller's subsystem
    wants carried along (for processes: who is calling); what is said underneath inherits it.
    """

    __slots__ = ("cause_id", "id", "origin", "root_id", "sender", "sent_at")

    def __init__(
        self,
        above: "Envelope | None",
        sender: str,
        sent_at: float,
        origin: object = None,
        *,
        id: int | None = None,
    ) -> None:
        self.id = next(_ids) if id is None else id
        self.sender = sender
        self.sent_at = sent_at
        if above is None:
            self.cause_id, self.root_id, self.origin = 0, self.id, origin
        else:
            self.cause_id, self.root_id = above.id, above.root_id
            self.origin = above.origin if origin is None else origin

    @property
    def trace_id(self) -> str:
        return f"{_TRACES}{self.root_id:016x}"

    @property
    def span_id(self) -> str:
        return f"{self.id:016x}"

    @property
    def cause(self) -> str | None:
        """The span that caused this one; None at the root of a trace."""
        return f"{self.cause_id:016x}" if self.cause_id else None


class Call(Envelope, Generic[R]):
    """A request on its way to its handler, as guards see it.

    A guard may put another `message` or `address` in place before it proceeds. One that has
    alternatives proceeds with an impatient call: nobody below it waits then or tries again,
    and a NotNow comes back at once.
    """

    __slots__ = (
        "_meter", "aborted", "address", "gate", "lent", "message", "parent", "patient", "permit", "sink"
    )  # fmt: skip

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
        self.id = next(_ids)  # what Envelope's does, without the call: this is the hot path
        self.sender = sender
        self.sent_at = sent_at
        self.parent: Call[Any] | None = None
        if above is None:
            self.cause_id, self.root_id, self.origin = 0, self.id, origin
        else:
            self.cause_id, self.root_id = above.id, above.root_id
            self.origin = above.origin if origin is None else origin
            if isinstance(above, Call):
                self.parent = above
        self.message = message
        self.address = address
        self.patient = True
        self.sink = sink
        self.gate: Gate | None = None  # the one it is inside of
        self.permit = False  # it holds one of that gate's permits
        self.lent: list[tuple[Call[Any], Gate]] | None = None  # permits, in a long wait
        self.aborted: Callable[[], BaseException] | None = None
        self._meter: Meter | None = None

    @property
    def meter(self) -> Meter:
        """What this call has used so far; the driver fills it, guards read it."""
        if self._meter is None:
            self._meter = Meter()
        return self._meter

    @property
    def deadline(self) -> float:
        """When the caller gives up, on the kernel's clock; `math.inf` if never."""
        return anyio.current_effective_deadline()

    def twin(self) -> "Call[R]":
        """A copy that shares the meter, for a guard that proceeds twice, or elsewhere."""
        self.meter  # noqa: B018 - made now, so that both have the same
        twin = copy.copy(self)
        twin.gate, twin.permit, twin.lent, twin.aborted = None, False, None, None
        return twin


Told = tuple[int, Envelope | None, str, float]
"""An event's envelope before anybody looks at it: id, what it was said under, sender, sent_at.

Most handlers of events never say anything, and an envelope costs a fifth of a delivery.
"""

current: ContextVar[Envelope | Told | None] = ContextVar("aoskernel_current", default=None)
"""What is being handled in this task, None in an application's own code; read it by `here`."""


def here() -> Envelope | None:
    """The envelope being handled in this task; None in an application's own code."""
    told = current.get()
    if isinstance(told, tuple):
        number, above, sender, sent_at = told
        told = Envelope(above, sender, sent_at, id=number)
        current.set(told)
    return told


def told(sender: str, sent_at: float) -> Told:
    """The envelope of an event that is being published here."""
    return next(_ids), here(), sender, sent_at


hearing: "ContextVar[Subscription | None]" = ContextVar("aoskernel_hearing", default=None)
"""The subscription this task works off; None where it works off none."""


def is_within(gate: "Gate") -> bool:
    """Does what this task does stand inside the gate, in whichever frame of its chain?"""
    above = current.get()
    while isinstance(above, Call):
        if above.gate is gate:
            return True
        above = above.parent
    heard = hearing.get()
    return heard is not None and heard in gate.inside
