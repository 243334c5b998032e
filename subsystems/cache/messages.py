"""What the cache tells."""

from ...kernel.message import Event
from ..llm.messages import Usage


class CacheHit(Event, topic="cache.hit"):
    """A call was answered from the cache; `saved` is what the reply had cost when it was made."""

    call: str
    caller: str
    address: str
    model: str
    saved: Usage
