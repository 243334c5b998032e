"""A client for one server.

Calls to this machine never go through a proxy. Nothing is sent twice but a request that a
kept-alive connection lost before the server said a word: a server may drop an idle connection
just as a request comes.
"""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import anyio
import httpx
from pydantic_core import to_json

from .._stream import Framing
from .faults import Fault, is_lost, kind_of, no_api, parsed, refusal, unsent
from .proxies import POOL, opener, socks_errors
from .replies import Stream, whole

MOST_TOLD = 65536
"""Bytes that are read of what is no reply."""
JSON = {"Content-Type": "application/json"}
DOOR = 8
"""Requests that are being sent at once: hundreds that begin in one turn of the loop would hold
up everything else for as long as it takes to write and connect them all."""


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
        self._open = opener(self.base_url, headers, proxy)
        self._pools = [_Pool(self._open())]
        self._is_closed = False

    async def close(self) -> None:
        """Cut what is under way and close every connection."""
        self._is_closed = True
        for pool in self._pools:
            await pool.client.aclose()

    async def ask(self, method: str, path: str, body: Any = None) -> Any:
        """One request, one JSON reply. Raises Fault."""
        async with self._sent(method, path, body) as response:
            return parsed(response, await whole(response))

    @asynccontextmanager
    async def stream(self, path: str, body: Any, framing: Framing) -> AsyncIterator["Stream"]:
        """Post, and read what is streamed back; leaving early closes the connection.

        Raises Fault.
        """
        async with self._sent("POST", path, body) as response:
            if kind_of(response) == "text/html":
                raise no_api(response, await whole(response, MOST_TOLD))
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
                        raise refusal(response, await whole(response, MOST_TOLD))
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
            trip, waits = _Trip(self._door), self._waits()
            try:
                async with trip:
                    if self._is_closed:
                        raise Fault("connect", f"the client of {self.base_url} was closed")
                    request = client.build_request(
                        method,
                        url,
                        content=content,
                        headers=None if content is None else JSON,
                        extensions={"timeout": waits, "trace": trip.trace},
                    )
                    response = await client.send(request, stream=True)
            except httpx.TransportError as error:
                if trip.is_reused and is_lost(error):
                    continue  # that connection is gone from the pool; in the end a new one is made
                raise unsent(error, self.base_url) from error
            except socks_errors() as error:
                raise Fault("proxy", f"the proxy to {self.base_url} is broken: {error}") from error
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


class _Trip:
    """A request on its way: through the door, and on a connection that is new or kept."""

    __slots__ = ("_door", "_is_inside", "_made", "is_reused")

    def __init__(self, door: anyio.Semaphore) -> None:
        self.is_reused = True
        self._door, self._is_inside = door, False
        self._made: Any = None

    async def __aenter__(self) -> None:
        await self._door.acquire()
        self._is_inside = True

    async def __aexit__(self, kind: type[BaseException] | None, *error: object) -> None:
        self._leave()
        if kind is not None and self._made is not None:
            # httpcore leaves a connection open on which a SOCKS proxy would not go on.
            with anyio.CancelScope(shield=True):
                await self._made.aclose()

    async def trace(self, event: str, info: Mapping[str, Any]) -> None:
        """httpcore says what it does, and first which part of it does so."""
        step = event.partition(".")[2]
        if step.startswith("connect_"):
            self.is_reused = False
            self._made = info.get("return_value", self._made)
        elif step == "send_request_body.complete":
            self._leave()

    def _leave(self) -> None:
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
