"""An HTTP server that plays what a test tells it, byte for byte, and keeps what it was asked."""

import json
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from typing import Any

import anyio
from anyio.abc import SocketAttribute, SocketStream

Send = Callable[[bytes], Awaitable[None]]


@dataclass
class Asked:
    """A request as it came in."""

    method: str
    path: str
    headers: dict[str, str]
    raw: bytes
    connection: int

    @property
    def body(self) -> Any:
        return json.loads(self.raw)


Play = Callable[[Asked, Send], Awaitable[bool | None]]
"""Answers a request; True keeps the connection open for the next one."""


@dataclass
class WireServer:
    """`url` is where it listens; `gone` counts the clients that hung up on an answer."""

    url: str
    asked: list[Asked] = field(default_factory=list)
    connections: int = 0
    gone: int = 0


@asynccontextmanager
async def playing(play: Play) -> AsyncIterator[WireServer]:
    """Listen on a free port of this machine until the block ends."""
    listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
    port = listener.extra(SocketAttribute.local_port)
    server = WireServer(url=f"http://127.0.0.1:{port}")

    async def serve(stream: SocketStream) -> None:
        server.connections += 1
        number = server.connections
        async with stream:
            try:
                while (asked := await _read(stream, number)) is not None:
                    server.asked.append(asked)
                    if not await play(asked, stream.send):
                        return
            except (anyio.BrokenResourceError, anyio.ClosedResourceError, ConnectionError):
                server.gone += 1

    async with listener, anyio.create_task_group() as tasks:
        tasks.start_soon(listener.serve, serve)
        yield server
        tasks.cancel_scope.cancel()


@contextmanager
def full() -> Iterator[str]:
    """A URL of this machine to which no connection comes about: all places to wait are taken."""
    with ExitStack() as held:
        listener = held.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        for _ in range(4):
            waiting = held.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(listener.getsockname())
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


async def _read(stream: SocketStream, connection: int) -> Asked | None:
    head = b""
    try:
        while b"\r\n\r\n" not in head:
            head += await stream.receive()
    except anyio.EndOfStream:
        return None
    top, _, raw = head.partition(b"\r\n\r\n")
    first, *lines = top.decode("latin-1").split("\r\n")
    headers = {k.lower(): v.strip() for k, _, v in (line.partition(":") for line in lines)}
    while len(raw) < int(headers.get("content-length", 0)):
        raw += await stream.receive()
    method, path, _ = first.split(" ")
    return Asked(method, path, headers, raw, connection)


def document(
    body: Any,
    *,
    status: int = 200,
    kind: str = "application/json",
    headers: Mapping[str, str] | None = None,
) -> bytes:
    """A whole answer: JSON of `body`, or `body` itself when it is bytes."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    lines = [f"HTTP/1.1 {status} Whatever", f"Content-Type: {kind}"]
    lines += [f"Content-Length: {len(content)}"]
    lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
    return "\r\n".join([*lines, "", ""]).encode() + content


def head(kind: str = "text/event-stream", headers: Mapping[str, str] | None = None) -> bytes:
    """The beginning of an answer that comes in `chunk`s."""
    lines = ["HTTP/1.1 200 OK", f"Content-Type: {kind}", "Transfer-Encoding: chunked"]
    lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
    return "\r\n".join([*lines, "", ""]).encode()


def chunk(data: bytes) -> bytes:
    """A part of an answer; the empty one ends it."""
    return f"{len(data):x}\r\n".encode() + data + b"\r\n"


END = chunk(b"")


def events(payloads: Iterable[Any], *, done: bool = True) -> list[bytes]:
    """Server-sent events, one chunk each; `done` adds OpenAI's last one."""
    told = [json.dumps(payload, ensure_ascii=False).encode() for payload in payloads]
    return [chunk(b"data: " + one + b"\n\n") for one in (*told, *([b"[DONE]"] if done else []))]


def always(*parts: bytes, keep: bool = True) -> Play:
    """Answer every request with these parts."""

    async def play(asked: Asked, send: Send) -> bool:
        for part in parts:
            await send(part)
        return keep

    return play
