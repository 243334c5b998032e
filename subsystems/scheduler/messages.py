"""What the scheduler tells."""

from ...kernel.message import Event, Request, Value
from ..storage.messages import ProcessClass


class Turn(Value):
    """A call that waits for a slot, as a decision shows it. `waited_s` in seconds."""

    call: str
    origin: str
    key: tuple[int, ...]
    waited_s: float


class LaneState(Value):
    """The slots of one address, and how many calls of each class wait for one."""

    address: str
    slots: int
    busy: int
    waiting: dict[ProcessClass, int]


class ReadLanes(Request[tuple[LaneState, ...]], topic="scheduler.read_lanes", effect="none"):
    """How do the models' slots stand? Those that nobody has asked for yet are not told of."""


class Decided(Event, topic="scheduler.decided"):
    """A slot of `address` went to `chosen`; `runner_up` would have been next."""

    address: str
    chosen: Turn
    runner_up: Turn | None


class Waiting(Event, topic="scheduler.waiting"):
    """A call has to wait for a slot of `address`; `depth` calls wait now."""

    address: str
    call: str
    origin: str
    depth: int
