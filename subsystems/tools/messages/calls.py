"""Calls of tools: one is made, looked at beforehand, or asked about when nobody saw it end."""

from dataclasses import dataclass
from typing import Literal, NamedTuple

from pydantic import JsonValue

from ....kernel.message import Effect, Event, Request
from ...llm.messages import JsonObject


class CallTool(Request[JsonValue], topic="tools.call", effect="once", addressed=True):
    """Run a tool; the reply is what it returned.

    `tool_effect` is what the tool declared; `key` stays the same over retries and restarts,
    so that a tool can recognise a repeated call. A tool that must ask a human gives the
    caller's sink a ToolAsks.
    """

    name: str
    arguments: JsonObject
    tool_effect: Effect = "once"
    key: str = ""


@dataclass(slots=True)
class ToolAsks:
    """What a tool wants to know of a human while it is called; it goes to the caller's sink.

    Who takes it sets `answer`. Nobody did where it is still None when the sink returns.
    """

    text: str
    choices: tuple[str, ...] = ()
    answer: str | None = None


def binary(mime_type: str, base64: str) -> JsonObject:
    """What is no text, in a result: the log keeps it, a model only hears of it."""
    return {"mime_type": mime_type, "base64": base64}


def is_binary(value: JsonObject) -> bool:
    """Was this made by `binary`?"""
    return value.keys() == {"mime_type", "base64"}


class Reconciled(NamedTuple):
    """What became of a call that nobody saw end. `result` is JSON data, of one that was done."""

    outcome: Literal["done", "not_done", "unknown"]
    result: JsonValue = None


def done(result: JsonValue = None) -> Reconciled:
    """The call was carried out, and this was its result."""
    return Reconciled("done", result)


not_done = Reconciled("not_done")
"""The call was not carried out, until now."""
unknown = Reconciled("unknown")
"""It cannot be said."""


class Reconcile(Request[Reconciled], topic="tools.reconcile", effect="none", addressed=True):
    """What became of the call with this key?"""

    name: str
    key: str


class Preview(Request[str], topic="tools.preview", effect="none", addressed=True):
    """What would a call change? A text for people; empty where the toolset cannot say.

    Nothing is changed by it. Raises ToolError.
    """

    name: str
    arguments: JsonObject


class ToolCalled(Event, topic="tools.called"):
    """A tool was called, and came out after `seconds`.

    `error` names the error's class where it failed, e.g. "BadArguments"; "cancelled" where the
    caller gave up.
    """

    caller: str
    address: str
    name: str
    error: str | None
    seconds: float


class ToolProgressed(Event, topic="tools.progressed"):
    """A tool that is being called says how far it is; `total` where it knows."""

    address: str
    name: str
    done: float
    total: float | None = None
    text: str = ""
