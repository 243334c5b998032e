"""What the scheduler tells."""

from ...kernel.message import Event, Value


class Turn(Value):
    """A call that waits for a slot, as a decision shows it. `waited_s` in seconds."""

    call: str
    origin: str
    key: tuple[int, ...]
    waited_s: float


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
