"""Finding tools by what they do, for a model that is not shown them all."""

import re

from pydantic import JsonValue

from ...kernel.service import Service, handles
from ..llm.messages import JsonObject, ToolSpec
from .messages import (
    FINDER,
    BadArguments,
    CallTool,
    FindTools,
    ListTools,
    Tool,
    UnknownTool,
)

SHOWN = 8
"""How many tools one search finds; each of them is shown to the model from then on."""
WORD = re.compile(r"[^\W_]+")
QUERY: JsonObject = {"type": "string", "description": "what the tool should do, in a few words"}
SPEC = ToolSpec(
    name=FINDER,
    description="Find tools by what they do. Those it finds can be called from the next turn on.",
    parameters={"type": "object", "properties": {"query": QUERY}, "required": ["query"]},
)


class Finder(Service, name="finder", needs=[FindTools]):
    """A toolset of one tool, which looks through all the others."""

    @handles(ListTools)
    async def list_tools(self, request: ListTools) -> tuple[Tool, ...]:
        return (Tool(spec=SPEC, effect="none", address=self.address),)

    @handles(CallTool)
    async def call(self, request: CallTool) -> JsonValue:
        if request.name != FINDER:
            raise UnknownTool.among(request.name, [FINDER])
        query = request.arguments.get("query")
        if not isinstance(query, str):
            raise BadArguments.at(FINDER, [("query", "this must be a text")])
        found = nearest(query, await self.request(FindTools()))
        return {tool.name: tool.spec.description for tool in found}


def nearest(query: str, tools: tuple[Tool, ...]) -> list[Tool]:
    """Those that have most of the query's words, in the name before the description."""
    words = set(WORD.findall(query.casefold()))
    scores = [(_score(words, tool.spec), tool) for tool in tools if tool.name != FINDER]
    ranked = sorted(scores, key=lambda scored: (-scored[0], scored[1].name))
    return [tool for score, tool in ranked[:SHOWN] if score]


def _score(words: set[str], spec: ToolSpec) -> int:
    name = set(WORD.findall(spec.name.casefold()))
    described = set(WORD.findall(spec.description.casefold()))
    return 3 * len(words & name) + len(words & described)
