"""What failover tells."""

from ...kernel.message import Event


class Moved(Event, topic="failover.moved"):
    """A call to `alias` goes on to the model `to`, because `left` did not answer it.

    `error` is the class of what went wrong there, and `reason` what it said.
    """

    call: str
    caller: str
    alias: str
    left: str
    to: str
    error: str
    reason: str
