"""What others may say to long-term memory."""

from ...kernel.message import Request
from ..storage.messages import AddMemory, Memory, Pid


class Remember(Request[AddMemory], topic="memory.remember", effect="none"):
    """Make the write that remembers this text; whoever asked commits it with its outcome."""

    tenant: str
    pid: Pid | None = None
    text: str
    tags: tuple[str, ...] = ()


class Recall(Request[tuple[Memory, ...]], topic="memory.recall", effect="none"):
    """What the tenant's processes remembered, best match first.

    All `tags` must be there; of the query's words, more is better, and one is enough.
    """

    tenant: str
    query: str = ""
    tags: tuple[str, ...] = ()
    limit: int = 10
