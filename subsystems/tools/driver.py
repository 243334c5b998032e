"""What a driver of tools must implement.

A driver is a dataclass whose fields are its config. What goes wrong inside a tool it raises
as ToolFailed, in words fit for a model to read.
"""

from typing import Protocol, runtime_checkable

from pydantic import JsonValue

from ...kernel.errors import ConfigError
from ...kernel.message import Effect, Value
from ..llm.messages import JsonObject, ToolSpec
from .messages import BadArguments, Reconciled, ToolError, ToolFailed, UnknownTool, unknown
from .tool import FunctionTool, tool

__all__ = [
    "BadArguments",
    "ConfigError",
    "Effect",
    "FunctionTool",
    "JsonObject",
    "JsonValue",
    "Offer",
    "Reconciled",
    "Reconciles",
    "ToolDriver",
    "ToolError",
    "ToolFailed",
    "ToolSpec",
    "UnknownTool",
    "tool",
    "unknown",
]


class Offer(Value):
    """A tool as its driver declares it. An undeclared effect is "once".

    `reconciles`: its driver can say what became of a call. `refuses_repeats`: a key that the
    tool has seen it does not take again.
    """

    spec: ToolSpec
    effect: Effect = "once"
    reconciles: bool = False
    refuses_repeats: bool = False


class ToolDriver(Protocol):
    """A set of tools behind one wire or library. Four methods."""

    async def start(self) -> None:
        """Acquire: connect, spawn, check that the root exists."""

    async def stop(self) -> None:
        """Release everything; safe after a failed start."""

    async def offers(self) -> tuple[Offer, ...]:
        """The tools, as they are now."""
        ...

    async def call(self, name: str, arguments: JsonObject, key: str) -> JsonValue:
        """Run one; nothing has happened when it raises UnknownTool or BadArguments.

        It checks `arguments` itself: what knows the schema best is what takes them. `key`
        is the same when the call is repeated. Raises ToolError.
        """
        ...


@runtime_checkable
class Reconciles(Protocol):
    """A driver that can also say what became of a call that nobody saw end."""

    async def reconcile(self, name: str, key: str) -> Reconciled:
        """What became of the call with this key?"""
        ...
