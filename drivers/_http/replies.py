"""A reply's body: read whole, or as the payloads of a stream."""

from collections import deque
from collections.abc import Mapping
from typing import Any, Self

import anyio
import httpx

from .._stream import Framing, Parser, parser_of
from .faults import Fault, broken, no_api, parsed_part

DONE = b"[DONE]"
TRAILER_S = 0.5
"""How long a server may take to end a stream whose reply is whole."""


class Stream:
    """A streamed reply: iterate over its payloads, each parsed from JSON.

    A server that answers with one JSON document instead of a stream gives one payload.
    """

    def __init__(self, response: httpx.Response, framing: Framing) -> None:
        self.headers: Mapping[str, str] = response.headers
        self._response = response
        self._framing: Framing = framing
        self._parser: Parser | None = None
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
        return parsed_part(payload)

    async def finish(self) -> None:
        """Read what follows a whole reply, so that the connection can serve again."""
        with anyio.move_on_after(TRAILER_S):
            while not self._ended:
                await self._read()

    async def close(self) -> None:
        """Nothing more will be read."""
        await self._chunks.aclose()

    async def _read(self) -> None:
        try:
            chunk = await anext(self._chunks, None)
            self._ended = chunk is None
            self._payloads += self._parsed(chunk)
        except httpx.RequestError as error:
            raise broken(error) from error
        except ValueError as error:
            raise Fault("cut", f"the reply has {error}") from error

    def _parsed(self, chunk: bytes | None) -> list[bytes]:
        """What is complete now; the first chunk shows what this is. None: nothing follows."""
        if chunk is None:
            return self._parser.end() if self._parser else []
        if self._parser is None:
            if not chunk.strip():
                return []
            if chunk.lstrip().startswith(b"<"):
                raise no_api(self._response, chunk)
            self._parser = parser_of(self._framing, chunk)
        return self._parser.feed(chunk)


def _chunks(response: httpx.Response) -> Any:
    """The body as it comes; the way through httpx's decoders costs a tenth more."""
    if "content-encoding" in response.headers or not isinstance(
        response.stream, httpx.AsyncByteStream
    ):
        return response.aiter_bytes()
    return aiter(response.stream)


async def whole(response: httpx.Response, most: int | None = None) -> bytes:
    """The body, or its first `most` bytes."""
    parts: list[bytes] = []
    size = 0
    try:
        async for chunk in response.aiter_bytes():
            parts.append(chunk)
            size += len(chunk)
            if most is not None and size >= most:
                break
    except httpx.RequestError as error:
        raise broken(error) from error
    return b"".join(parts)[:most]
