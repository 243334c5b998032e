"""What others may say to tools: which are there, and call one."""

from .calls import (
    CallTool,
    Preview,
    Reconcile,
    Reconciled,
    ToolAsks,
    ToolCalled,
    ToolProgressed,
    binary,
    done,
    is_binary,
    not_done,
    unknown,
)
from .errors import BadArguments, OutcomeLost, ToolAway, ToolError, ToolFailed, UnknownTool
from .finding import FINDER, FindTools, ListTools, OfferTools, ToolsChanged
from .known import TOOL_CHANGES, Known
from .prompts import GetPrompt, ListPrompts, Prompt
from .tool import Access, Kind, Resource, Tool, Touch, resources
from .toolsets import InspectTools, Standing, ToolsetAway, ToolsetUp

__all__ = [
    "FINDER",
    "TOOL_CHANGES",
    "Access",
    "BadArguments",
    "CallTool",
    "FindTools",
    "GetPrompt",
    "InspectTools",
    "Kind",
    "Known",
    "ListPrompts",
    "ListTools",
    "OfferTools",
    "OutcomeLost",
    "Preview",
    "Prompt",
    "Reconcile",
    "Reconciled",
    "Resource",
    "Standing",
    "Tool",
    "ToolAsks",
    "ToolAway",
    "ToolCalled",
    "ToolError",
    "ToolFailed",
    "ToolProgressed",
    "ToolsChanged",
    "ToolsetAway",
    "ToolsetUp",
    "Touch",
    "UnknownTool",
    "binary",
    "done",
    "is_binary",
    "not_done",
    "resources",
    "unknown",
]
