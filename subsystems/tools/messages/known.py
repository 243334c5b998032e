"""What somebody knows of tools, which is so until a toolset changes."""

from collections.abc import Awaitable, Hashable
from typing import Generic, TypeVar

from ....kernel.message import Event
from .finding import ToolsChanged

K = TypeVar("K", bound=Hashable)
T = TypeVar("T")

REMEMBERED = 4096  # names of tools may come from a model
TOOL_CHANGES: tuple[type[Event] | str, ...] = (ToolsChanged, "service.*")
"""To be heard by who knows of tools: a toolset is different, or may have come, gone or been
replaced.
"""


class Known(Generic[K, T]):
    """What was learned of tools. A service that subscribes to TOOL_CHANGES forgets it then.

    What was asked before a change and answered after it is not kept.
    """

    def __init__(self) -> None:
        self._known: dict[K, T] = {}
        self._changes = 0

    def get(self, key: K) -> T | None:
        """None where it is to be learned."""
        return self._known.get(key)

    async def learn(self, key: K, asking: Awaitable[T]) -> T:
        """Wait for what is being asked, and keep it."""
        changes = self._changes
        answer = await asking
        if changes == self._changes:
            if len(self._known) >= REMEMBERED:
                self._known.clear()
            self._known[key] = answer
        return answer

    def forget(self) -> None:
        """A toolset has changed."""
        self._changes += 1
        self._known.clear()
