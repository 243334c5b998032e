"""What others may say to tools: which are there, and call one."""

import difflib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, NamedTuple, Self
from urllib.parse import urlsplit

from pydantic import Field, JsonValue

from ...kernel.errors import KernelError
from ...kernel.message import Effect, Event, Request, Value
from ..llm.messages import ChatMessage, JsonObject, ToolSpec

FINDER = "find_tools"
"""The tool that finds tools."""
SHOWN = 20
"""How many names or problems one error tells of; a model reads every one of them."""


Kind = Literal["path", "url", "resource"]
"""What a name names: a file or directory, a URL, or something the tool's own."""
Access = Literal["read", "write", "delete"]


class Touch(Value):
    """What a tool does with the thing that one of its arguments names.

    `below` is the directory where relative paths begin.
    """

    argument: str
    kind: Kind
    access: Access
    below: str = ""


class Resource(NamedTuple):
    """A thing that a call touches. A path is absolute where its tool says where it begins.

    It is as the caller wrote it: `..` and links in it are still to be followed.
    """

    kind: Kind
    name: str
    access: Access

    @property
    def host(self) -> str:
        """Of a URL, whom it asks, in small letters; empty where it names nobody."""
        try:
            return (urlsplit(self.name).hostname or "").rstrip(".") if self.kind == "url" else ""
        except ValueError:
            return ""


class Tool(Value):
    """A tool that can be called: what the model sees, what a retry may do, who has it.

    `reconciles`: it can say what became of a call. `refuses_repeats`: a key that it has seen
    it does not take again. `touches`: what its arguments name; none where that is not declared.
    """

    spec: ToolSpec
    effect: Effect
    address: str
    reconciles: bool = False
    refuses_repeats: bool = False
    touches: tuple[Touch, ...] = ()

    @property
    def name(self) -> str:
        return self.spec.name


def resources(tool: Tool, arguments: JsonObject) -> tuple[Resource, ...]:
    """What a call with these arguments touches, as far as its tool declares it.

    An argument that is left out counts as its default, a list as all that is in it.
    """
    return tuple(
        Resource(touch.kind, _placed(touch, name), touch.access)
        for touch in tool.touches
        for name in _named(touch.argument, tool, arguments)
    )


def _named(argument: str, tool: Tool, arguments: JsonObject) -> list[str]:
    properties = tool.spec.parameters.get("properties")
    declared = properties.get(argument) if isinstance(properties, dict) else None
    default = declared.get("default") if isinstance(declared, dict) else None
    given = arguments.get(argument, default)
    values = given if isinstance(given, list) else [given]
    return [str(value) for value in values if isinstance(value, str | int)]


def _placed(touch: Touch, name: str) -> str:
    is_relative = touch.kind == "path" and touch.below and not name.startswith("/")
    return f"{touch.below.rstrip('/')}/{name}" if is_relative else name


class ToolError(KernelError):
    """A tool was not called, or failed. The message is fit for a model to read."""


class UnknownTool(ToolError):
    """No toolset has a tool of this name."""

    @classmethod
    def among(cls, name: str, known: Iterable[str]) -> Self:
        """Name the nearest of those that are known, and the first of them all."""
        names = sorted(known)
        near = difflib.get_close_matches(name, names, 1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
        return cls(f"no tool {name!r}{hint} At hand: {', '.join(names[:SHOWN]) or 'none'}{more}")


class BadArguments(ToolError):
    """The arguments do not fit the tool's schema; names the path of each error."""

    @classmethod
    def at(cls, tool: str, problems: Iterable[tuple[str, str]]) -> Self:
        """Say what is wrong where; each problem is a path (`items[0].price`) and a sentence."""
        told = list(dict.fromkeys(f"{path}: {what}" for path, what in problems))
        more = f"; and {len(told) - SHOWN} more" if len(told) > SHOWN else ""
        return cls(f"{tool} cannot take these arguments: {'; '.join(told[:SHOWN])}{more}")


class ToolFailed(ToolError):
    """The tool ran and failed; the message is its own."""


class ToolAway(ToolError):
    """What the tool runs on cannot be reached at the moment; nothing has happened."""

    retryable = True


class OutcomeLost(ToolError):
    """The tool was being called when it was lost; nobody can say whether it was done."""

    retryable = True


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


class ListTools(Request[tuple[Tool, ...]], topic="tools.list", effect="none", addressed=True):
    """Which tools does this toolset have?"""


class FindTools(Request[tuple[Tool, ...]], topic="tools.find", effect="none"):
    """The tools of these names, of all toolsets; all of them when `names` is None.

    Sorted by name. Raises UnknownTool, naming the nearest.
    """

    names: tuple[str, ...] | None = None


class OfferTools(Request[tuple[ToolSpec, ...]], topic="tools.offer", effect="none"):
    """What to show a model that may use every tool.

    All of them, unless they cost more than the budget; then the tool that finds them and, behind
    it, those `found`, in that order: what is shown only grows at its end.
    """

    found: tuple[str, ...] = ()


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


class ToolsChanged(Event, topic="tools.changed"):
    """A toolset's list is different now, in these names.

    `left_out`: those that are not offered, each with the reason.
    """

    address: str
    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    left_out: dict[str, str] = Field(default_factory=dict)


class ToolProgressed(Event, topic="tools.progressed"):
    """A tool that is being called says how far it is; `total` where it knows."""

    address: str
    name: str
    done: float
    total: float | None = None
    text: str = ""


class ToolsetUp(Event, topic="tools.up"):
    """A toolset reaches what its tools run on. `about` names that."""

    address: str
    about: str


class ToolsetAway(Event, topic="tools.away"):
    """A toolset has lost what its tools run on; it tries again in so many seconds."""

    address: str
    why: str
    again_s: float


class Standing(Value):
    """How a toolset stands: `about` names what its tools run on, or why it is away.

    `left_out`: tools that are not offered, each with the reason.
    """

    state: Literal["up", "starting", "away"] = "up"
    about: str = ""
    left_out: dict[str, str] = Field(default_factory=dict)


class InspectTools(Request[Standing], topic="tools.inspect", effect="none", addressed=True):
    """How does this toolset stand?"""


class Prompt(Value):
    """A text that a toolset has ready; each argument stands with whether it must be given."""

    name: str
    description: str = ""
    arguments: dict[str, bool] = Field(default_factory=dict)


class ListPrompts(
    Request[tuple[Prompt, ...]], topic="tools.prompts", effect="none", addressed=True
):
    """Which prompts does this toolset have?"""


class GetPrompt(
    Request[tuple[ChatMessage, ...]], topic="tools.prompt", effect="none", addressed=True
):
    """A prompt, filled in. Raises ToolError."""

    name: str
    arguments: dict[str, str] = Field(default_factory=dict)
