"""What comes from an MCP server, looked at before the client sees it.

One tool that is malformed would make the whole list unreadable; here it is taken out. And the
end of the stream is told, which the client keeps to itself.
"""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, Self

import anyio
import mcp_types as types
from mcp.client._transport import ReadStream, TransportStreams
from mcp.shared.message import SessionMessage
from pydantic import ValidationError

Message = SessionMessage | Exception
LeaveOut = Callable[[str, str], None]
NAMED = 80


class Tap:
    """A stream of messages that sets `ended` when it has ended."""

    def __init__(self, inner: ReadStream[Message], ended: anyio.Event, leave_out: LeaveOut) -> None:
        self._inner, self._ended, self._leave_out = inner, ended, leave_out

    @property
    def last_context(self) -> Any:
        return getattr(self._inner, "last_context", None)

    async def receive(self) -> Message:
        try:
            item = await self._inner.receive()
        except (anyio.EndOfStream, anyio.ClosedResourceError, anyio.BrokenResourceError):
            self._ended.set()
            raise
        if isinstance(item, SessionMessage):
            self._sift(item)
        return item

    def _sift(self, item: SessionMessage) -> None:
        message = item.message
        if not isinstance(message, types.JSONRPCResponse):
            return
        tools = message.result.get("tools")
        if isinstance(tools, list):
            message.result["tools"] = [tool for tool in tools if self._is_sound(tool)]

    def _is_sound(self, tool: Any) -> bool:
        try:
            types.Tool.model_validate(tool, by_name=False)
        except ValidationError as error:
            told = error.errors(include_url=False, include_input=False)[0]
            where = ".".join(map(str, told["loc"]))
            self._leave_out(_name(tool), f"it is malformed: {where}: {told['msg']}")
            return False
        if tool["inputSchema"].get("type") != "object":
            self._leave_out(_name(tool), "its inputSchema is not of type object")
            return False
        return True

    async def aclose(self) -> None:
        await self._inner.aclose()

    def close(self) -> None:
        self._inner.close()  # type: ignore[attr-defined]

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Message:
        try:
            return await self.receive()
        except anyio.EndOfStream:
            raise StopAsyncIteration from None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.aclose()


def _name(tool: Any) -> str:
    name = tool.get("name") if isinstance(tool, dict) else None
    return name[:NAMED] if isinstance(name, str) and name else "(unnamed)"


@asynccontextmanager
async def tapped(
    transport: AbstractAsyncContextManager[Any], ended: anyio.Event, leave_out: LeaveOut
) -> AsyncIterator[TransportStreams]:
    """The same transport, with the tap on it."""
    async with transport as (inbox, outbox):
        yield Tap(inbox, ended, leave_out), outbox
