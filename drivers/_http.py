"""The one seam over httpx: a client for one server, whose faults are all of one class.

Calls to this machine never go through a proxy. Nothing is sent twice but a request that a
kept-alive connection lost before the server said a byte: a server may drop an idle connection
just as a request comes.
"""

from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from ipaddress import ip_address
from typing import Any, Literal, Self
from urllib.request import getproxies, proxy_bypass

import anyio
import httpx
from pydantic_core import from_json, to_json

from ._stream import FRAMINGS, Framing

FaultKind = Literal["connect", "timeout", "cut", "status", "no_api", "proxy"]
"""What went wrong: no connection, silence, a broken reply, a status, no API, the proxy."""

DONE = b"[DONE]"
MOST_TOLD = 65536
"""Bytes that are read of what is no reply."""
POOL = 16
"""Connections in one pool of httpx: a pool's work grows with the square of its connections,
and 300 in one stopped the loop for seconds."""
DOOR = 8
"""Requests that are being sent at once: hundreds that begin in one turn of the loop would hold
up everything else for as long as it takes to write and connect them all."""
TRAILER_S = 0.5
"""How long a server may take to end a stream whose reply is whole."""


class Fault(Exception):
    """A request failed. `phase` is a timeout's: "connect", "first_byte" or "stream".

    Of an error status, `told` is the body, parsed where it is JSON, and `headers` are its own.
    """

    def __init__(
        self,
        kind: FaultKind,
        reason: str,
        *,
        phase: str = "",
        status: int = 0,
        told: Any = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(reason)
        self.kind, self.phase, self.status, self.told = kind, phase, status, told
        self.headers = headers or {}


@dataclass(frozen=True, kw_only=True)
class Patience:
    """How long to wait, in seconds: to connect, for the first byte, between two bytes."""

    connect_s: float = 10
    first_byte_s: float = 300
    idle_s: float = 60


class Http:
    """A client for the server at `base_url`; at most `slots` requests are under way."""

    def __init__(
        self,
        base_url: str,
        *,
        headers: Mapping[str, str],
        patience: Patience,
        slots: int,
        proxy: str | None = None,
    ) -> None:
        self.base_url = base_url.rstrip("/")
        self._patience = patience
        self._slots = anyio.Semaphore(slots, fast_acquire=True)
        self._door = anyio.Semaphore(DOOR, fast_acquire=True)
        self._open = _opener(self.base_url, headers, proxy)
        self._pools = [_Pool(self._open())]

    async def close(self) -> None:
        """Cut what is under way and close every connection."""
        for pool in self._pools:
            await pool.client.aclose()

    async def ask(self, method: str, path: str, body: Any = None) -> Any:
        """One request, one JSON reply. Raises Fault."""
        async with self._sent(method, path, body) as response:
            return _parsed(response, await _whole(response))

    @asynccontextmanager
    async def stream(self, path: str, body: Any, framing: Framing) -> AsyncIterator["Stream"]:
        """Post, and read what is streamed back; leaving early closes the connection.

        Raises Fault.
        """
        async with self._sent("POST", path, body) as response:
            if _kind(response) == "text/html":
                raise _no_api(response, await _whole(response, MOST_TOLD))
            events = Stream(response, framing)
            try:
                yield events
            finally:
                await events.close()

    @asynccontextmanager
    async def _sent(self, method: str, path: str, body: Any) -> AsyncIterator[httpx.Response]:
        """The reply to a request, its body still unread, when its status is a good one."""
        async with self._slots:
            with self._pool() as client:
                response = await self._send(client, method, self.base_url + path, body)
                try:
                    if response.status_code >= 300:
                        raise _refusal(response, await _whole(response, MOST_TOLD))
                    yield response
                finally:
                    await response.aclose()

    def _pool(self) -> "_Pool":
        """The first pool with room, so that kept connections are used again."""
        pool = next((pool for pool in self._pools if pool.busy < POOL), None)
        if pool is None:
            pool = _Pool(self._open())
            self._pools.append(pool)
        return pool

    async def _send(
        self, client: httpx.AsyncClient, method: str, url: str, body: Any
    ) -> httpx.Response:
        content = None if body is None else to_json(body)
        while True:
            await self._door.acquire()
            trip, waits = _Trip(self._door), self._waits()
            try:
                request = client.build_request(
                    method,
                    url,
                    content=content,
                    extensions={"timeout": waits, "trace": trip.trace},
                )
                response = await client.send(request, stream=True)
            except httpx.TransportError as error:
                if trip.is_reused and isinstance(error, LOST):
                    continue  # that connection is gone from the pool; in the end a new one is made
                raise _unsent(error, self.base_url) from error
            finally:
                trip.leave()
            # httpx hands this very table on to the reader of the body.
            waits["read"] = self._patience.idle_s
            return response

    def _waits(self) -> dict[str, float | None]:
        patience = self._patience
        return {
            "connect": patience.connect_s,
            "write": patience.idle_s,
            "read": patience.first_byte_s,
            "pool": None,
        }


class Stream:
    """A streamed reply: iterate over its payloads, each parsed from JSON.

    A server that answers with one JSON document instead of a stream gives one payload.
    """

    def __init__(self, response: httpx.Response, framing: Framing) -> None:
        self.headers: Mapping[str, str] = response.headers
        self._response = response
        self._parser = FRAMINGS[framing]()
        self._is_document = framing == "events" and _kind(response) == "application/json"
        self._chunks = _chunks(response)
        self._payloads: deque[bytes] = deque()
        self._ended = False

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Any:
        while not self._payloads:
            if self._ended:
                raise StopAsyncIteration
            await self._read()
        if (payload := self._payloads.popleft()) == DONE:
            raise StopAsyncIteration
        return _json(payload)

    async def finish(self) -> None:
        """Read what follows a whole reply, so that the connection can serve again."""
        with anyio.move_on_after(TRAILER_S):
            while not self._ended:
                await self._read()

    async def close(self) -> None:
        """Nothing more will be read."""
        await self._chunks.aclose()

    async def _read(self) -> None:
        if self._is_document:
            self._ended = True
            self._payloads.append(await _whole(self._response))
            return
        try:
            chunk = await anext(self._chunks, None)
            self._ended = chunk is None
            self._payloads += self._parser.end() if chunk is None else self._parser.feed(chunk)
        except httpx.TransportError as error:
            raise _broken(error) from error
        except ValueError as error:
            raise Fault("cut", f"the reply has {error}") from error


class _Trip:
    """A request on its way: through the door, and on a connection that is new or kept."""

    __slots__ = ("_door", "_is_inside", "is_reused")

    def __init__(self, door: anyio.Semaphore) -> None:
        self.is_reused = True
        self._door, self._is_inside = door, True

    async def trace(self, event: str, info: Mapping[str, Any]) -> None:
        """httpcore says what it does."""
        if event.startswith("connection.connect"):
            self.is_reused = False
        elif event.endswith("send_request_body.complete"):
            self.leave()

    def leave(self) -> None:
        """The request is sent, or will not be."""
        if self._is_inside:
            self._is_inside = False
            self._door.release()


class _Pool:
    """A few connections, and how many of them are busy."""

    def __init__(self, client: httpx.AsyncClient) -> None:
        self.client, self.busy = client, 0

    def __enter__(self) -> httpx.AsyncClient:
        self.busy += 1
        return self.client

    def __exit__(self, *exception: object) -> None:
        self.busy -= 1


def _opener(
    base_url: str, headers: Mapping[str, str], proxy: str | None
) -> Callable[[], httpx.AsyncClient]:
    """What makes a client. Raises Fault where none could be made."""
    url = httpx.URL(base_url)
    if url.scheme not in ("http", "https") or not url.host:
        raise Fault(
            "no_api", f"{base_url!r} is no URL of a server: write http://... or https://..."
        )
    via = proxy or proxy_for(url)
    # Loading the certificates takes 20 ms, which a plain connection does not need.
    secure = "https" in (url.scheme, via and via[:5])
    verify = httpx.create_ssl_context() if secure else False
    try:
        return partial(
            httpx.AsyncClient,
            headers={"User-Agent": "aoskernel", "Accept-Encoding": "identity", **headers},
            limits=httpx.Limits(max_connections=POOL, max_keepalive_connections=POOL),
            proxy=via and httpx.Proxy(via),
            verify=verify,
            trust_env=False,
        )
    except (ImportError, ValueError) as error:
        raise Fault(
            "proxy",
            f"the proxy {via!r} cannot be used: {error}. It comes from the environment "
            "(HTTPS_PROXY, HTTP_PROXY, ALL_PROXY); for SOCKS: pip install 'aoskernel[socks]'",
        ) from error


def proxy_for(url: httpx.URL) -> str | None:
    """The proxy that the environment names for this URL; never one for this machine."""
    if is_local(url.host) or proxy_bypass(url.host):
        return None
    known = getproxies()
    via = known.get(url.scheme) or known.get("all")
    if via is None:
        return None
    via = via if "://" in via else f"http://{via}"
    return via.replace("socks://", "socks5://", 1)  # as desktops write it


def is_local(host: str) -> bool:
    """Whether this host is this machine."""
    try:
        return ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


LOST = (httpx.RemoteProtocolError, httpx.ReadError, httpx.WriteError)


def _unsent(error: httpx.TransportError, base_url: str) -> Fault:
    """Why there is no reply."""
    match error:
        case httpx.ConnectTimeout():
            return Fault("timeout", f"no connection to {base_url} in time", phase="connect")
        case httpx.TimeoutException():
            return Fault("timeout", f"{base_url} was silent for too long", phase="first_byte")
        case httpx.ProxyError():
            return Fault("proxy", f"the proxy to {base_url} refuses: {error}")
        case httpx.ConnectError():
            return Fault("connect", f"no connection to {base_url}: {error}")
    return Fault("cut", f"{base_url} closed the connection before it replied: {_said(error)}")


def _broken(error: httpx.TransportError) -> Fault:
    """Why a reply is not whole."""
    if isinstance(error, httpx.TimeoutException):
        return Fault("timeout", "the reply stopped, and nothing came any more", phase="stream")
    return Fault("cut", f"the connection broke within the reply: {_said(error)}")


def _said(error: Exception) -> str:
    return str(error) or type(error).__name__


def _chunks(response: httpx.Response) -> Any:
    """The body as it comes; the way through httpx's decoders costs a tenth more."""
    if "content-encoding" in response.headers or not isinstance(
        response.stream, httpx.AsyncByteStream
    ):
        return response.aiter_bytes()
    return aiter(response.stream)


async def _whole(response: httpx.Response, most: int | None = None) -> bytes:
    """The body, or its first `most` bytes."""
    parts: list[bytes] = []
    size = 0
    try:
        async for chunk in response.aiter_bytes():
            parts.append(chunk)
            size += len(chunk)
            if most is not None and size >= most:
                break
    except httpx.TransportError as error:
        raise _broken(error) from error
    return b"".join(parts)[:most]


def _refusal(response: httpx.Response, body: bytes) -> Fault:
    """What a status that is no success says."""
    status = response.status_code
    if status < 400:
        target = response.headers.get("location", "another address")
        return Fault("no_api", f"{response.url} redirects to {target}: set base_url to that")
    if _is_page(response, body):
        return _no_api(response, body)
    try:
        told = from_json(body)
    except ValueError:
        told = body.decode(errors="replace").strip()
    reason = f"HTTP {status} from {response.url}"
    return Fault("status", reason, status=status, told=told, headers=response.headers)


def _parsed(response: httpx.Response, body: bytes) -> Any:
    try:
        return from_json(body)
    except ValueError as error:
        raise _no_api(response, body) from error


def _json(payload: bytes) -> Any:
    try:
        return from_json(payload)
    except ValueError as error:
        sample = payload[:80].decode(errors="replace")
        if payload.lstrip().startswith(b"<"):
            raise Fault("no_api", f"the reply is no JSON but a page: {sample!r}") from error
        raise Fault("cut", f"a part of the reply is no JSON: {sample!r}") from error


def _no_api(response: httpx.Response, body: bytes) -> Fault:
    sample = " ".join(body[:200].decode(errors="replace").split())
    return Fault(
        "no_api",
        f"{response.url} answers {response.status_code} {_kind(response) or 'without a type'}, "
        f"which is no API's reply: {sample!r}; look at base_url",
        status=response.status_code,
    )


def _is_page(response: httpx.Response, body: bytes) -> bool:
    return _kind(response) == "text/html" or body.lstrip()[:1] == b"<"


def _kind(response: httpx.Response) -> str:
    kind: str = response.headers.get("content-type", "")
    return kind.partition(";")[0].strip().lower()
