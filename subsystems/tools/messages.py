"""What others may say to tools: which are there, and call one."""

from pydantic import JsonValue

from ...kernel.errors import KernelError
from ...kernel.message import Effect, Event, Request, Value
from ..llm.messages import JsonObject, ToolSpec


class Tool(Value):
    """A tool that can be called: what the model sees, what a retry may do, who has it."""

    spec: ToolSpec
    effect: Effect
    address: str

    @property
    def name(self) -> str:
        return self.spec.name


class ToolError(KernelError):
    """A tool was not called, or failed. The message is fit for a model to read."""


class UnknownTool(ToolError):
    """No toolset has a tool of this name."""


class BadArguments(ToolError):
    """The arguments do not fit the tool's schema; names the path of each error."""


class ToolFailed(ToolError):
    """The tool ran and failed; the message is its own."""


class CallTool(Request[JsonValue], topic="tools.call", effect="once", addressed=True):
    """Run a tool; the reply is what it returned.

    `tool_effect` is what the tool declared; `key` stays the same over retries and restarts,
    so that a tool can recognise a repeated call.
    """

    name: str
    arguments: JsonObject
    tool_effect: Effect = "once"
    key: str = ""


class ListTools(Request[tuple[Tool, ...]], topic="tools.list", effect="none", addressed=True):
    """Which tools does this toolset have?"""


class FindTools(Request[tuple[Tool, ...]], topic="tools.find", effect="none"):
    """The tools of these names, of all toolsets; all of them when `names` is None.

    Sorted by name. Raises UnknownTool, naming the nearest.
    """

    names: tuple[str, ...] | None = None


class ToolsChanged(Event, topic="tools.changed"):
    """A toolset's list is different now."""

    address: str
