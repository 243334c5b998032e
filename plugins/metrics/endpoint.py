"""The port: HTTP as far as a scrape needs it. Every connection is for one request."""

import hmac
import ipaddress
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import anyio
import h11
from anyio.abc import ByteStream

PATIENCE_S = 10.0
"""How long one request may take, from the first byte to the last of its answer."""
LARGEST = 16 * 1024
"""Bytes of a request's head."""

Headers = dict[str, str]


@dataclass(frozen=True)
class Answer:
    """What is sent back."""

    status: int
    body: bytes
    headers: Headers = field(default_factory=dict)


def is_here(host: str) -> bool:
    """Is it an address that only this machine reaches?"""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


@dataclass(frozen=True)
class Endpoint:
    """Answers GET /metrics with what `scrape` gives; with a token, to whoever says it."""

    scrape: Callable[[str], Awaitable[Answer]]
    token: str | None

    async def serve(self, stream: ByteStream) -> None:
        """One connection. What its other end does wrong is no concern of ours."""
        wire = h11.Connection(h11.SERVER, max_incomplete_event_size=LARGEST)
        async with stream:
            with anyio.move_on_after(PATIENCE_S):
                try:
                    answer = await self._answer(await _head(wire, stream))
                except h11.RemoteProtocolError as error:
                    answer = _told(error.error_status_hint, "this is no HTTP request")
                except (anyio.BrokenResourceError, anyio.EndOfStream):
                    return
                await _send(wire, stream, answer)

    async def _answer(self, asked: h11.Request) -> Answer:
        headers = {name.decode(): value.decode("latin-1") for name, value in asked.headers}
        if asked.target.partition(b"?")[0] != b"/metrics":
            return _told(404, "there is /metrics")
        if asked.method != b"GET":
            return _told(405, "GET it", allow="GET")
        if not self._may(headers.get("authorization", "")):
            return _told(401, "the token is missing or wrong", **{"www-authenticate": "Bearer"})
        return await self.scrape(headers.get("accept", ""))

    def _may(self, said: str) -> bool:
        if self.token is None:
            return True
        return hmac.compare_digest(said.encode(), f"Bearer {self.token}".encode())


async def _head(wire: h11.Connection, stream: ByteStream) -> h11.Request:
    while (event := wire.next_event()) is h11.NEED_DATA:
        try:
            wire.receive_data(await stream.receive())
        except anyio.EndOfStream:
            wire.receive_data(b"")
    if not isinstance(event, h11.Request):
        raise anyio.EndOfStream
    return event


async def _send(wire: h11.Connection, stream: ByteStream, answer: Answer) -> None:
    headers = {
        "content-type": "text/plain; charset=utf-8",
        **answer.headers,
        "content-length": str(len(answer.body)),
        "connection": "close",
    }
    head = h11.Response(status_code=answer.status, headers=list(headers.items()))
    parts = (wire.send(head), wire.send(h11.Data(data=answer.body)), wire.send(h11.EndOfMessage()))
    try:
        await stream.send(b"".join(part or b"" for part in parts))
    except anyio.BrokenResourceError:
        return


def _told(status: int, why: str, **headers: str) -> Answer:
    return Answer(status, f"{why}\n".encode(), headers)
