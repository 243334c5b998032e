"""Sites on this machine, and `fetch_url` that asks them."""

import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

import anyio
import anyio.abc
import pytest
from anyio.streams.tls import TLSListener

from aoskernel.drivers.tools.web import Web
from aoskernel.subsystems.tools.messages import ToolFailed

Site = dict[str, bytes]
THIS_MACHINE = ("127.0.0.0/8",)
"""Networks that tests allow."""


def answer(
    body: bytes | str = b"", kind: str = "text/plain", status: int = 200, **more: str
) -> bytes:
    data = body.encode() if isinstance(body, str) else body
    headers = {"Content-Type": kind, "Content-Length": str(len(data)), **more}
    lines = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
    return f"HTTP/1.1 {status} X\r\n{lines}\r\n".encode() + data


def redirect(to: str) -> bytes:
    return answer(status=302, Location=to)


class Served:
    """A site on every address of this machine; `asked` is where each request came to, and for what."""

    def __init__(self, site: Site) -> None:
        self.site, self.port = site, 0
        self.asked: list[tuple[str, str, str]] = []

    async def serve(self, stream: anyio.abc.AnyByteStream) -> None:
        async with stream:
            request = (await stream.receive()).decode()
            path = request.split(" ")[1]
            host = request.partition("Host: ")[2].partition("\r\n")[0]
            local: Any = stream.extra(anyio.abc.SocketAttribute.local_address)
            self.asked.append((local[0], host.partition(":")[0], path))
            reply = self.site.get(path, answer("nothing here", status=404))
            with_port = reply.replace(b"PORT", str(self.port).encode())
            with suppress(anyio.BrokenResourceError):
                await stream.send(with_port)
                if path == "/hang":
                    await anyio.sleep_forever()


@asynccontextmanager
async def served(site: Site, tls: ssl.SSLContext | None = None) -> AsyncIterator[Served]:
    server = Served(site)
    plain = await anyio.create_tcp_listener(local_host="0.0.0.0")
    server.port = plain.extra(anyio.abc.SocketAttribute.local_port)
    listener = TLSListener(plain, tls, standard_compatible=False) if tls else plain
    async with listener, anyio.create_task_group() as tasks:
        tasks.start_soon(listener.serve, server.serve)
        yield server
        tasks.cancel_scope.cancel()


@asynccontextmanager
async def reader(
    names: dict[str, list[str]] | None = None, **config: Any
) -> AsyncIterator[Callable[[str], Awaitable[Any]]]:
    """The tool; `names` is all that can be looked up, an answer for each time."""
    web = Web(**config)

    async def look_up(host: str, port: int, **more: Any) -> Any:
        if names is not None and host in names:
            host = names[host].pop(0) if len(names[host]) > 1 else names[host][0]
        return await anyio.getaddrinfo(host, port=port, flags=socket.AI_NUMERICHOST, **more)

    async def read(url: str) -> Any:
        with anyio.fail_after(20):
            return await web.call("fetch_url", {"url": url}, "")

    if names is not None:
        web._look_up = look_up
    await web.start()
    try:
        yield read
    finally:
        await web.stop()


async def fetch(url: str, names: dict[str, list[str]] | None = None, **config: Any) -> Any:
    """What the tool says."""
    async with reader(names, **config) as read:
        return await read(url)


async def refused(url: str, names: dict[str, list[str]] | None = None, **config: Any) -> str:
    with pytest.raises(ToolFailed) as caught:
        await fetch(url, names, **config)
    assert not str(caught.value).startswith("fetch_url failed")  # that would be a bug of its own
    return str(caught.value)
