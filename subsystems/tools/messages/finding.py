"""Which tools there are."""

from pydantic import Field

from ....kernel.message import Event, Request
from ...llm.messages import ToolSpec
from .tool import Tool

FINDER = "find_tools"
"""The tool that finds tools."""


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


class ToolsChanged(Event, topic="tools.changed"):
    """A toolset's list is different now, in these names.

    `left_out`: those that are not offered, each with the reason.
    """

    address: str
    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    left_out: dict[str, str] = Field(default_factory=dict)
