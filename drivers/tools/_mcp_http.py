"""HTTP to an MCP server: replies are bounded, and what surely was not done is told from what
may have been.
"""

import json
import zlib
from collections.abc import AsyncIterator
from functools import partial
from typing import Any

import httpx2

NOT_SENT, REFUSED = -31901, -31902
"""Codes of our own, in place of the answers that never came."""
REFUSALS = {401, 403, 405, 406, 413, 415, 429}
"""Statuses of a request that was not carried out."""
EVENTS = "text/event-stream"
GZIP = 31
"""What zlib is told of its header."""
OPTION = "(max_bytes)"
EVENT_TOO_LONG = "Server-sent event exceeded"
"""What the SDK says of one."""


class HttpClient(httpx2.AsyncClient):
    """The SDK gives up a connection, with all that is under way on it, where one request could
    not be sent, and forgets the status of one that was refused. Here both are answers, to
    that request alone. Of a reply at most `most` bytes are read, of events the SDK bounds each.
    """

    def __init__(self, *, most: int, **options: Any) -> None:
        super().__init__(**options, event_hooks={"response": [partial(_bound, most)]})
        self.headers["Accept-Encoding"] = "gzip"

    async def send(self, request: httpx2.Request, **how: Any) -> httpx2.Response:
        try:
            response = await super().send(request, **how)
        except (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.PoolTimeout) as error:
            if request.method != "POST":
                raise
            told = f"{_place(request)} refuses: {error or type(error).__name__}"
            return _answer(request, 503, NOT_SENT, told)
        is_json = response.headers.get("content-type", "").startswith("application/json")
        if request.method != "POST" or response.status_code not in REFUSALS or is_json:
            return response
        await response.aclose()
        told = f"{_place(request)} refuses with HTTP {response.status_code}"
        return _answer(request, response.status_code, REFUSED, told)


class TooLong(httpx2.StreamError):
    """The SDK makes of it an error of the one request that it answers."""


class Bounded(httpx2.AsyncByteStream):
    """A reply's body, unpacked: a few bytes may stand for gigabytes."""

    def __init__(self, response: httpx2.Response, most: int) -> None:
        assert isinstance(response.stream, httpx2.AsyncByteStream)
        self._inner, self._left, self._most = response.stream, most, most
        self._place = _place(response.request)
        self._packed = response.headers.pop("content-encoding", "identity").strip().lower()

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """Raises TooLong, and StreamError for what cannot be unpacked."""
        unpack = zlib.decompressobj(GZIP).decompress if self._packed == "gzip" else _plain
        if self._packed not in ("gzip", "identity"):
            raise httpx2.StreamError(f"{self._place} packs its reply as {self._packed[:40]!r}")
        async for chunk in self._inner:
            try:
                piece = unpack(chunk, self._left + 1)
            except zlib.error as error:
                raise httpx2.StreamError(f"{self._place}: no gzip: {error}") from error
            self._left -= len(piece)
            if self._left < 0:
                raise TooLong(f"{self._place} replies with more than {self._most:,} bytes {OPTION}")
            yield piece

    async def aclose(self) -> None:
        await self._inner.aclose()


def too_long(told: str) -> str:
    """What to say of it, where this is what the SDK tells of a reply without measure; else ""."""
    if OPTION in told:
        return told
    return f"{told.rstrip('.')} {OPTION}" if EVENT_TOO_LONG in told else ""


def _plain(chunk: bytes, most: int) -> bytes:
    return chunk[:most]


async def _bound(most: int, response: httpx2.Response) -> None:
    asked, kind = response.request.headers, response.headers.get("content-type", "")
    wants_events = EVENTS in asked.get("accept", "") and kind.lower().startswith(EVENTS)
    if not (wants_events and response.is_success):
        response.stream = Bounded(response, most)


def _place(request: httpx2.Request) -> str:
    return str(request.url.copy_with(userinfo=b"", query=None))


def _answer(request: httpx2.Request, status: int, code: int, message: str) -> httpx2.Response:
    body = {"jsonrpc": "2.0", "id": None, "error": {"code": code, "message": message}}
    headers = {"content-type": "application/json"}
    return httpx2.Response(
        status, headers=headers, content=json.dumps(body).encode(), request=request
    )
