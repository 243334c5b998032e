"""What is said to an MCP server: calls of its tools, its resources, its prompts."""

from collections.abc import Callable
from typing import Any, Literal

import mcp_types as types
from mcp import Client
from pydantic import AnyUrl, JsonValue, ValidationError

from ...subsystems.tools import driver as d
from . import _mcp_reply as reply
from ._mcp_catalogue import clean
from ._mcp_exchange import Exchange
from ._mcp_link import Link
from ._mcp_listing import PAGES

LISTED = 500
"""Resources, or prompts, that are told of."""
LONGEST = 1000

URI: d.JsonObject = {
    "type": "object",
    "properties": {"uri": {"type": "string", "description": "of a resource that is listed"}},
    "required": ["uri"],
    "additionalProperties": False,
}
NOTHING: d.JsonObject = {"type": "object", "properties": {}, "additionalProperties": False}


class Session:
    """A server as a toolset sees it, through whichever connection there is."""

    def __init__(self, link: Link, *, prefix: str, resources: bool) -> None:
        self.link, self._resources = link, resources
        self._list, self._read = f"{prefix}list_resources", f"{prefix}read_resource"

    def standing(self) -> d.Standing:
        link = self.link
        state: Literal["up", "starting", "away"] = "up" if link.is_up else "starting"
        if link.why:
            state = "away"
        return d.Standing(
            state=state, about=link.why or link.about, left_out=link.catalogue.left_out
        )

    def offers(self) -> tuple[d.Offer, ...]:
        own = [tool.offer for tool in self.link.catalogue.tools.values()]
        return tuple(sorted((*own, *self._of_resources()), key=lambda offer: offer.spec.name))

    def _of_resources(self) -> tuple[d.Offer, ...]:
        if not self._resources or self.link.capabilities.resources is None:
            return ()
        told = f"of the server {clean(self.link.about)[:100]}"
        specs = (
            d.ToolSpec(name=self._list, description=f"List resources {told}.", parameters=NOTHING),
            d.ToolSpec(name=self._read, description=f"Read a resource {told}.", parameters=URI),
        )
        return tuple(d.Offer(spec=spec, effect="none") for spec in specs)

    async def call(self, name: str, arguments: d.JsonObject, meta: Any) -> JsonValue:
        """Raises ToolError."""
        if name in {offer.spec.name for offer in self._of_resources()}:
            return await self._resource(name, arguments)
        tool = self.link.catalogue.tools.get(name)
        if tool is None:
            why = self.link.catalogue.left_out.get(name)
            known = [offer.spec.name for offer in self.offers()]
            raise (
                d.UnknownTool(f"{name} is left out: {why}")
                if why
                else d.UnknownTool.among(name, known)
            )
        taken = tool.taken(arguments)

        async def work(client: Client, exchange: Exchange) -> types.CallToolResult:
            return await client.call_tool(
                tool.remote, taken, progress_callback=exchange.progress, meta=meta
            )

        return reply.result(name, await self.link.exchange(name, work))

    async def _resource(self, name: str, arguments: d.JsonObject) -> JsonValue:
        if name == self._list:
            return await self.link.exchange(name, _resources)
        uri = arguments.get("uri")
        if not isinstance(uri, str) or not _is_uri(uri):
            raise d.BadArguments.at(name, [("uri", "it must be the URI of a resource")])

        async def work(client: Client, exchange: Exchange) -> types.ReadResourceResult:
            return await client.read_resource(uri)

        return reply.resource(await self.link.exchange(name, work))

    async def prompts(self) -> tuple[d.Prompt, ...]:
        if self.link.capabilities.prompts is None:
            return ()
        return await self.link.exchange("prompts", _prompts)

    async def prompt(self, name: str, arguments: dict[str, str]) -> tuple[d.ChatMessage, ...]:
        async def work(client: Client, exchange: Exchange) -> types.GetPromptResult:
            return await client.get_prompt(name, arguments)

        got = await self.link.exchange(name, work)
        return tuple(map(reply.message, got.messages))


async def _resources(client: Client, exchange: Exchange) -> JsonValue:
    found: list[types.Resource] = await _all(client.list_resources, lambda page: page.resources)
    templates = await client.list_resource_templates()
    listed: list[JsonValue] = [_told(str(one.uri), one) for one in found[:LISTED]]
    listed += [_told(one.uri_template, one) for one in templates.resource_templates[:LISTED]]
    return listed


def _told(uri: str, one: types.Resource | types.ResourceTemplate) -> d.JsonObject:
    return {"uri": uri, "name": clean(one.name), "description": _short(one.description)}


async def _prompts(client: Client, exchange: Exchange) -> tuple[d.Prompt, ...]:
    found: list[types.Prompt] = await _all(client.list_prompts, lambda page: page.prompts)
    listed = [
        d.Prompt(
            name=one.name,
            description=_short(one.description),
            arguments={a.name: bool(a.required) for a in one.arguments or ()},
        )
        for one in found[:LISTED]
    ]
    return tuple(sorted(listed, key=lambda one: one.name))


async def _all(ask: Any, items: Callable[[Any], Any]) -> list[Any]:
    found, cursor = [], None
    for _ in range(PAGES):
        page = await ask(cursor=cursor)
        found += items(page)
        cursor = page.next_cursor
        if cursor is None or len(found) > LISTED:
            break
    return found


def _short(text: str | None) -> str:
    return str(clean(text or ""))[:LONGEST]


def _is_uri(text: str) -> bool:
    try:
        return bool(AnyUrl(text))
    except ValidationError:
        return False
