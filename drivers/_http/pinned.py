"""GETs that go to an address chosen before: what a name means cannot change in between.

No proxy and no kept connection: a proxy would look the name up anew, and a connection to an
address that two sites share has shown the certificate of one of them only.
"""

import zlib
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import httpx

from .client import Patience
from .faults import Fault, broken, kind_of, unsent

ENCODINGS = {"": None, "identity": None, "gzip": 47, "x-gzip": 47, "deflate": 47}
"""What zlib is told of each: its own header or gzip's."""


class Reply:
    """What came back; the body is still to be read."""

    def __init__(self, response: httpx.Response) -> None:
        self.status = response.status_code
        self.location: str | None = response.headers.get("location")
        self.kind = kind_of(response)
        self.charset: str = response.charset_encoding or ""
        self._response = response

    async def head(self, most: int) -> bytes:
        """The body, or `most` bytes and one more where it goes on. Raises Fault.

        No more than that is ever unpacked: a few bytes may stand for gigabytes.
        """
        data = bytearray()
        inflate = _inflater(self._response.headers.get("content-encoding", ""))
        try:
            async for chunk in self._response.aiter_raw():
                data += inflate(chunk, most + 1 - len(data)) if inflate else chunk
                if len(data) > most:
                    break
        except httpx.RequestError as error:
            raise broken(error) from error
        except zlib.error as error:
            raise Fault("cut", f"the reply cannot be unpacked: {error}") from error
        return bytes(data[: most + 1])


def _inflater(encoding: str) -> Any:
    name = encoding.strip().lower()
    if name not in ENCODINGS:
        raise Fault("no_api", f"the reply is packed as {name[:40]!r}, which was not asked for")
    bits = ENCODINGS[name]
    return None if bits is None else zlib.decompressobj(bits).decompress


class Pinned:
    """A client that is told where to connect to."""

    def __init__(self, patience: Patience) -> None:
        self._client = httpx.AsyncClient(
            headers={"User-Agent": "aoskernel", "Accept-Encoding": "gzip"},
            limits=httpx.Limits(max_keepalive_connections=0),
            timeout=httpx.Timeout(patience.idle_s, connect=patience.connect_s),
            verify=httpx.create_ssl_context(),  # the environment may name authorities, no proxy
            trust_env=False,
        )

    async def close(self) -> None:
        await self._client.aclose()

    @asynccontextmanager
    async def get(self, url: httpx.URL, addresses: Sequence[str]) -> AsyncIterator[Reply]:
        """Ask the first of these addresses that takes a connection for the URL. Raises Fault.

        Redirects are not followed.
        """
        response = await self._first(url, addresses)
        try:
            yield Reply(response)
        finally:
            await response.aclose()

    async def _first(self, url: httpx.URL, addresses: Sequence[str]) -> httpx.Response:
        for left, address in zip(range(len(addresses))[::-1], addresses, strict=True):
            try:
                return await self._client.send(self._request(url, address), stream=True)
            except (httpx.ConnectError, httpx.ConnectTimeout) as error:
                if not left:
                    raise unsent(error, url.host) from error
            except httpx.TransportError as error:
                raise unsent(error, url.host) from error
        raise Fault("connect", f"{url.host} has no address")

    def _request(self, url: httpx.URL, address: str) -> httpx.Request:
        return self._client.build_request(
            "GET",
            url.copy_with(host=address),
            headers={"Host": url.netloc.decode()},
            extensions={"sni_hostname": url.raw_host.decode().rstrip(".")},
        )
