"""What a toolset driver must implement.

A driver is a dataclass whose fields are its config. What goes wrong inside a tool it raises
as ToolFailed, in words fit for a model to read.
"""

from typing import Protocol

from pydantic import JsonValue

from ...kernel.message import Effect, Value
from ..llm.messages import JsonObject, ToolSpec
from .messages import BadArguments, ToolError, ToolFailed, UnknownTool

__all__ = [
    "BadArguments",
    "Effect",
    "JsonObject",
    "JsonValue",
    "Offer",
    "ToolError",
    "ToolFailed",
    "ToolSpec",
    "Toolset",
    "UnknownTool",
]


class Offer(Value):
    """A tool as its driver declares it. An undeclared effect is "once"."""

    spec: ToolSpec
    effect: Effect = "once"


class Toolset(Protocol):
    """A set of tools behind one wire or library. Four methods."""

    async def start(self) -> None:
        """Acquire: connect, spawn, check that the root exists."""

    async def stop(self) -> None:
        """Release everything; safe after a failed start."""

    async def offers(self) -> tuple[Offer, ...]:
        """The tools, as they are now."""
        ...

    async def call(self, name: str, arguments: JsonObject, key: str) -> JsonValue:
        """Run one; `arguments` already fit its schema. Raises ToolError."""
        ...
