"""What policy tells: which calls it refused."""

from ...kernel.message import Event


class CallRefused(Event, topic="policy.refused"):
    """A call was refused.

    `who` is the process that called, or else the sender; `what` is topic:subject, for a tool
    "tools.call:" and its name; `rule` names what decided.
    """

    who: str
    what: str
    rule: str
