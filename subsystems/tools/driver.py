"""What a driver of tools must implement.

A driver is a dataclass whose fields are its config. What goes wrong inside a tool it raises
as ToolFailed, in words fit for a model to read.
"""

from collections.abc import Awaitable, Callable
from typing import Protocol, runtime_checkable

from pydantic import JsonValue

from ...kernel.errors import ConfigError
from ...kernel.message import Effect, Value
from ..llm.messages import ChatMessage, JsonObject, ToolSpec
from .messages import (
    BadArguments,
    OutcomeLost,
    Prompt,
    Reconciled,
    Resource,
    Standing,
    ToolAsks,
    ToolAway,
    ToolError,
    ToolFailed,
    Touch,
    UnknownTool,
    binary,
    unknown,
)
from .tool import FunctionTool, IdempotencyKey, Touches, tool

__all__ = [
    "Asker",
    "BadArguments",
    "ChatMessage",
    "ConfigError",
    "Effect",
    "FunctionTool",
    "Host",
    "IdempotencyKey",
    "JsonObject",
    "JsonValue",
    "Offer",
    "OutcomeLost",
    "Previews",
    "Prompt",
    "Prompts",
    "Reconciled",
    "Reconciles",
    "Remote",
    "Resource",
    "Standing",
    "ToolAsks",
    "ToolAway",
    "ToolDriver",
    "ToolError",
    "ToolFailed",
    "ToolSpec",
    "Touch",
    "Touches",
    "UnknownTool",
    "binary",
    "tool",
    "unknown",
]


class Offer(Value):
    """A tool as its driver declares it. An undeclared effect is "once".

    `reconciles`: its driver can say what became of a call. `refuses_repeats`: a key that the
    tool has seen it does not take again. `touches`: what its arguments name.
    """

    spec: ToolSpec
    effect: Effect = "once"
    reconciles: bool = False
    refuses_repeats: bool = False
    touches: tuple[Touch, ...] = ()


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


Asker = Callable[[ToolAsks], Awaitable[None]]
"""Puts a question to whoever calls; its `answer` stays None where nobody takes questions."""


class Host(Protocol):
    """What a toolset does for a driver whose tools run somewhere else."""

    def asker(self) -> Asker:
        """Of the call that is being made in this task; it may be used from any other."""
        ...

    async def up(self, about: str) -> None:
        """What the tools run on can be reached."""

    async def away(self, why: str, again_s: float) -> None:
        """It cannot; the next attempt is in so many seconds."""

    async def changed(
        self,
        *,
        added: tuple[str, ...],
        removed: tuple[str, ...],
        changed: tuple[str, ...],
        left_out: dict[str, str],
    ) -> None:
        """The list of tools is different now."""

    async def progressed(self, name: str, done: float, total: float | None, text: str) -> None:
        """How far a call is."""


@runtime_checkable
class Remote(Protocol):
    """A driver whose tools run somewhere else, over a connection that has a task of its own."""

    async def keep(self, host: Host) -> None:
        """Connect, and again whenever that is lost; until cancelled."""

    async def ready(self) -> None:
        """Wait until the first attempt is over. Raises ConfigError where it must not fail."""

    def standing(self) -> Standing:
        """How it is at the moment."""
        ...


@runtime_checkable
class Prompts(Protocol):
    """A driver that also has texts ready."""

    async def prompts(self) -> tuple[Prompt, ...]:
        """All of them, by name. Raises ToolError."""
        ...

    async def prompt(self, name: str, arguments: dict[str, str]) -> tuple[ChatMessage, ...]:
        """One of them, filled in. Raises ToolError."""
        ...


@runtime_checkable
class Previews(Protocol):
    """A driver that can also say what a call would change, for whoever is to approve it."""

    async def preview(self, name: str, arguments: JsonObject) -> str:
        """A text for people, such as a diff; empty where there is none. Raises ToolError."""
        ...
