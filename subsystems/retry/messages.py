"""What retry tells."""

from ...kernel.message import Event


class Retried(Event, topic="retry.retried"):
    """A call has failed and is made again, after `pause_s` seconds.

    `what` is its topic, `address` where it went; `attempt` counts those that have failed, in
    earlier lives of the process too. `error` is the class of what went wrong, and `reason` what
    it said.
    """

    call: str
    caller: str
    what: str
    address: str
    attempt: int
    error: str
    reason: str
    pause_s: float


class GaveUp(Event, topic="retry.gave_up"):
    """A call that might have worked later is not made again; `why` says what forbids it."""

    call: str
    caller: str
    what: str
    address: str
    attempt: int
    error: str
    why: str
