"""MCP servers at a URL whose replies have no end: they are left in time, and the rest goes on."""

import gzip
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import anyio
import anyio.abc
import pytest
from anyio.streams.buffered import BufferedByteReceiveStream
from tiny_mcp import QUICK, called, heard

from aoskernel import ConfigError, Kernel
from aoskernel.drivers.tools.mcp import Mcp
from aoskernel.subsystems.tools.messages import OutcomeLost, ToolsetAway, ToolsetUp
from aoskernel.subsystems.tools.service import Toolbox, Toolset

MOST = 1_000_000
BUFFERS = 24_000_000
"""Bytes that the two sockets of a connection may take although nobody reads them."""
GIVE_UP = 200_000_000
"""When a server that nobody leaves ends by itself, and the test fails."""

Line = anyio.abc.SocketStream
NAMES = ("echo", "json", "event", "packed", "redirect", "error")


def head(status: int = 200, kind: str = "application/json", **more: str) -> bytes:
    given = {"Content-Type": kind, "Connection": "close", **more}
    lines = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in given.items())
    return f"HTTP/1.1 {status} X\r\n{lines}\r\n".encode()


ANSWERS: dict[str, Any] = {
    "initialize": {
        "protocolVersion": "2025-11-25",
        "capabilities": {"tools": {}},
        "serverInfo": {"name": "endless", "version": "1"},
    },
    "tools/list": {"tools": [{"name": name, "inputSchema": {"type": "object"}} for name in NAMES]},
    "tools/call": {"content": [{"type": "text", "text": "hi"}]},
}
MUCH = b"x" * 65536
BOMB = gzip.compress(b'{"jsonrpc": "' + b"x" * 100 * MOST)
EVENTS = "text/event-stream"
ENDLESS = {
    "json": (head() + b'{"jsonrpc": "', MUCH),
    "event": (head(kind=EVENTS) + b"data: ", MUCH),
    "error": (head(500), MUCH),
    "redirect": (head(307, EVENTS, Location="/mcp"), b"data: x\n\n" * 8192),
}
"""What a tool answers with first, and then again and again."""


class Endless:
    """A server whose tools answer without end, each in a way of its own. `sent` is what it sent."""

    def __init__(self) -> None:
        self.sent, self.port, self.starts = 0, 0, 0
        self.list_has_no_end = False
        self.streams: list[Line] = []
        self.posts_have_no_end = False

    async def serve(self, line: Line) -> None:
        async with line:
            with suppress(anyio.BrokenResourceError, anyio.EndOfStream, anyio.IncompleteRead):
                method, path, said = await _request(BufferedByteReceiveStream(line))
                if path == "/mcp":
                    await self._reply(line, method, said)
                else:
                    await self._older(line, method, said)

    async def _reply(self, line: Line, method: str, said: dict[str, Any]) -> None:
        tool = said.get("params", {}).get("name", "")
        if said.get("method") == "tools/list" and self.list_has_no_end:
            tool = "json"
        if method != "POST":
            await line.send(head(405))
        elif "id" not in said:
            await line.send(head(202))
        elif tool == "packed":
            await line.send(head(Content_Encoding="gzip") + BOMB)
        elif tool in ENDLESS:
            await self._on(line, *ENDLESS[tool])
        else:
            await line.send(head() + self.answer(said))

    async def _on(self, line: Line, first: bytes, again: bytes) -> None:
        await line.send(first)
        while self.sent < GIVE_UP:
            await line.send(again)
            self.sent += len(again)

    async def _older(self, line: Line, method: str, said: dict[str, Any]) -> None:
        """The transport of before 2025: answers come on the stream of a GET."""
        if method == "GET":
            self.streams.append(line)
            await line.send(head(kind="text/event-stream") + b"event: endpoint\ndata: /post\n\n")
            await anyio.sleep_forever()
        tool = said.get("params", {}).get("name", "")
        if "id" in said and tool != "event":
            await self.streams[-1].send(b"data: " + self.answer(said) + b"\n\n")
        if tool == "event":
            await line.send(head(202))
            await self._on(self.streams[-1], b"data: ", MUCH)
        elif tool and self.posts_have_no_end:
            self.posts_have_no_end = False
            await self._on(line, head(202), MUCH)
        else:
            await line.send(head(202))

    def answer(self, said: dict[str, Any]) -> bytes:
        self.starts += said["method"] == "initialize"
        known = {"id": said["id"], "jsonrpc": "2.0"}
        if said["method"] in ANSWERS:
            return json.dumps({**known, "result": ANSWERS[said["method"]]}).encode()
        wrong = {"code": -32601, "message": "no such method"}
        return json.dumps({**known, "error": wrong}).encode()


async def _request(stream: BufferedByteReceiveStream) -> tuple[str, str, dict[str, Any]]:
    first, *lines = (await stream.receive_until(b"\r\n\r\n", 65536)).decode().split("\r\n")
    headers = {name.lower(): value for name, _, value in (one.partition(": ") for one in lines)}
    body = await stream.receive_exactly(int(headers.get("content-length", 0)))
    method, path, _ = first.split(" ")
    return method, path, json.loads(body) if body else {}


@asynccontextmanager
async def endless() -> AsyncIterator[Endless]:
    server = Endless()
    listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
    server.port = listener.extra(anyio.abc.SocketAttribute.local_port)
    async with listener, anyio.create_task_group() as tasks:
        tasks.start_soon(listener.serve, server.serve)
        with anyio.fail_after(60):
            yield server
        tasks.cancel_scope.cancel()


def at(server: Endless, **options: Any) -> Kernel:
    path = "sse" if options.get("transport") == "sse" else "mcp"
    url = f"http://127.0.0.1:{server.port}/{path}"
    driver = Mcp(url=url, max_bytes=MOST, **{**QUICK, **options})
    return Kernel(Toolset(driver).named("tools.tiny"), Toolbox())


@pytest.mark.parametrize(
    ("tool", "told"),
    [
        ("json", r"/mcp replies with more than 1,000,000 bytes \(max_bytes\)"),
        ("packed", r"/mcp replies with more than 1,000,000 bytes \(max_bytes\)"),
        ("event", r"event exceeded the 1000000 byte limit \(max_bytes\)"),
        ("error", "the server answered with an HTTP error"),
    ],
)
async def test_a_reply_without_end_fails_its_call_and_no_other(tool: str, told: str) -> None:
    async with endless() as server, at(server) as kernel:
        async with anyio.create_task_group() as tasks:
            for _ in range(3):
                tasks.start_soon(called, kernel, "echo")
            with pytest.raises(OutcomeLost, match=told) as caught:
                await called(kernel, tool)
            assert caught.value.retryable == (tool == "error")
        assert await called(kernel, "echo") == "hi"

    assert server.sent < MOST + BUFFERS
    assert server.starts == 1


async def test_a_redirect_whose_page_has_no_end_ends_the_connection_and_there_is_another() -> None:
    async with endless() as server, at(server) as kernel, kernel.listen("tools.*") as events:
        with pytest.raises(OutcomeLost):
            await called(kernel, "redirect")
        assert "more than 1,000,000 bytes" in (await heard(events, ToolsetAway)).why
        await heard(events, ToolsetUp)
        assert await called(kernel, "echo") == "hi"

    assert server.sent < MOST + BUFFERS


async def test_a_list_without_end_is_told_at_start() -> None:
    async with endless() as server:
        server.list_has_no_end = True
        with pytest.raises(ConfigError, match=r"more than 1,000,000 bytes \(max_bytes\)"):
            async with at(server):
                pass

    assert server.sent < MOST + BUFFERS


async def test_an_event_without_end_over_the_older_transport_makes_a_new_connection() -> None:
    async with endless() as server, at(server, transport="sse") as kernel:
        async with kernel.listen("tools.*") as events:
            with pytest.raises(OutcomeLost):
                await called(kernel, "event")
            assert "1048576 byte limit" in (await heard(events, ToolsetAway)).why
            await heard(events, ToolsetUp)
        assert await called(kernel, "echo") == "hi"

    assert server.sent < MOST + BUFFERS


async def test_a_post_over_the_older_transport_whose_reply_has_no_end_is_left() -> None:
    async with endless() as server, at(server, transport="sse") as kernel:
        server.posts_have_no_end = True
        async with kernel.listen("tools.*") as events:
            assert await called(kernel, "echo") == "hi"
            while server.sent < MOST:
                await anyio.sleep(0.01)
            with suppress(OutcomeLost):
                await called(kernel, "echo")
            await heard(events, ToolsetUp)
        assert await called(kernel, "echo") == "hi"

    assert server.sent < MOST + BUFFERS
