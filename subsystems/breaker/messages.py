"""What others may say to the breaker, and what it tells."""

from typing import Literal

from ...kernel.errors import NotNow
from ...kernel.message import Event, Request, Value

CircuitState = Literal["closed", "open", "half_open"]


class CircuitOpen(NotNow):
    """What stands behind this circuit fails; it is tried again at `until`, when it half-opens.

    The circuit's name is that of an address, or of a tool of one ("tools.web/fetch").
    """

    def __init__(self, circuit: str, until: float, reason: str) -> None:
        super().__init__(until, f"the circuit of {circuit!r} is open: {reason}")
        self.circuit = circuit


class Circuit(Value):
    """How a circuit stands. The rates are of its window; `until` is kernel time.

    `probes` are under way, of those that a half-open circuit lets through.
    """

    name: str
    state: CircuitState
    calls: int
    failure_rate: float
    slow_rate: float
    until: float | None = None
    opened: int = 0
    probes: int = 0


class ReadCircuits(Request[tuple[Circuit, ...]], topic="breaker.read", effect="none"):
    """How does each circuit stand?"""


class Enter(Request[int], topic="breaker.enter", effect="once"):
    """Wait until the circuit of this name lets a call through; the reply is for `Leave`."""

    name: str


def classes_of(error: BaseException) -> tuple[str, ...]:
    """Of an error and of those it was raised from: a tool's failure is a timeout's, too."""
    names: list[str] = []
    cause: BaseException | None = error
    while cause is not None:
        names += [base.__name__ for base in type(cause).__mro__]
        cause = cause.__cause__
    return tuple(names)


class Leave(Request[None], topic="breaker.leave", effect="once"):
    """A call is over: how long it took, and `classes_of` its error, none if it went well."""

    name: str
    turn: int
    seconds: float
    errors: tuple[str, ...] = ()
    cancelled: bool = False


class Opened(Event, topic="breaker.opened", urgent=True):
    """A circuit has opened: nothing goes through before `until` (kernel time), then `probes`.

    `addresses` are those that cannot be called at all meanwhile; none for a single tool's.
    """

    circuit: str
    addresses: tuple[str, ...]
    until: float
    probes: int
    reason: str


class HalfOpened(Event, topic="breaker.half_opened", urgent=True):
    """A circuit lets `probes` calls at once try whether it works again."""

    circuit: str
    addresses: tuple[str, ...]
    probes: int


class Closed(Event, topic="breaker.closed", urgent=True):
    """A circuit's probes went well: it lets everything through again."""

    circuit: str
    addresses: tuple[str, ...]
