"""The list of an MCP server's tools, kept up: what is left out of it, and what has drifted."""

import anyio
import mcp_types as types
from mcp import Client

from ...subsystems.tools import driver as d
from ._mcp_catalogue import Catalogue, Choice, Pins, catalogue

PAGES, TOOLS = 100, 2000
"""Of one list: a server that never comes to an end is not waited for."""


class Listing:
    """The catalogue as it was last read; it outlives the connection."""

    def __init__(self, choice: Choice) -> None:
        self._choice = choice
        self._pins = None if choice.pin is None else Pins(choice.pin)
        self._malformed: dict[str, str] = {}
        self.catalogue = Catalogue()

    def leave_out(self, name: str, why: str) -> None:
        """A tool that the client could not read."""
        self._malformed[name] = why

    async def renew(self, client: Client, host: d.Host) -> None:
        """Read it, and tell what is different now."""
        self._malformed = {}
        listed = await _tools(client)
        now = catalogue(listed, self._malformed, self._choice)
        if self._pins is not None:
            now = now.without(await anyio.to_thread.run_sync(self._pins.refused, now))
        before, self.catalogue = self.catalogue, now
        added, removed, changed = before.drift(now)
        if added or removed or changed or now.left_out != before.left_out:
            await host.changed(added=added, removed=removed, changed=changed, left_out=now.left_out)


async def _tools(client: Client) -> list[types.Tool]:
    if client.server_capabilities.tools is None:
        return []
    listed: list[types.Tool] = []
    cursor: str | None = None
    for _ in range(PAGES):
        page = await client.list_tools(cursor=cursor)
        listed += page.tools
        cursor = page.next_cursor
        if cursor is None:
            return listed
        if len(listed) > TOOLS:
            break
    raise ValueError(f"its list of tools has no end ({len(listed):,} until now)")
