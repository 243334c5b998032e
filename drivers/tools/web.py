"""Reading pages of the public internet: one tool, `fetch_url`."""

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from socket import SOCK_STREAM
from typing import Annotated, Any, NamedTuple

import anyio
from anyio import to_thread
from httpx import URL
from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt

from ...subsystems.tools import driver as d
from .._http import Fault, Patience, Pinned, Reply
from ._web_address import is_public, networks
from ._web_text import decoded, readable
from ._web_url import checked, host_of, port_of, redirected

Address = Annotated[
    str, Field(description="http:// or https:// and the rest"), d.Touches("url", "read")
]
Start = Annotated[int, Field(ge=0, description="skip so many characters of the text")]

PAGES = ("text/html", "application/xhtml+xml")
TEXT = re.compile(r"(text/.*|application/(.*\+)?(json|xml|javascript|yaml|x-ndjson))?")
REDIRECTS = (301, 302, 303, 307, 308)
SERVERS_TRIED = 3


@dataclass(frozen=True)
class Page:
    """A page's text. `note` says what is missing."""

    url: str
    title: str
    text: str
    note: str


class Got(NamedTuple):
    """What a server sent, not yet read as text."""

    url: str
    kind: str
    charset: str
    data: bytes


@dataclass(kw_only=True)
class Web:
    """A tool that reads a page, with GET, from addresses that everybody can reach.

    `networks` names more that may be reached, such as "10.1.0.0/16". A name is looked up once
    and the connection goes to what was found and checked. A redirect to another host is told,
    not followed: the policy is asked about each host. `max_bytes` bounds what is read,
    `max_chars` what is returned, `within_s` the whole. It never goes through a proxy.
    """

    networks: tuple[str, ...] = ()
    max_bytes: PositiveInt = 2 * 1024 * 1024
    max_chars: PositiveInt = 40_000
    max_redirects: NonNegativeInt = 5
    within_s: PositiveFloat = 30.0
    connect_s: PositiveFloat = 10.0
    _look_up: Any = field(default_factory=lambda: anyio.getaddrinfo, init=False, repr=False)
    _http: Pinned | None = field(default=None, init=False, repr=False)

    def __post_init__(self) -> None:
        """Raises ValueError for what is no network."""
        self._also = networks(self.networks)
        self._tool = d.FunctionTool(self.fetch_url)

    async def start(self) -> None:
        self._http = Pinned(Patience(connect_s=self.connect_s, idle_s=self.within_s))

    async def stop(self) -> None:
        if self._http is not None:
            await self._http.close()
        self._http = None

    async def offers(self) -> tuple[d.Offer, ...]:
        tool = self._tool
        return (d.Offer(spec=tool.spec, effect=tool.effect, touches=tool.touches),)

    async def call(self, name: str, arguments: d.JsonObject, key: str) -> d.JsonValue:
        if name != self._tool.name:
            raise d.UnknownTool.among(name, [self._tool.name])
        return await self._tool.call(arguments, key)

    @d.tool(effect="none")
    async def fetch_url(self, url: Address, start: Start = 0) -> Page:
        """Read a web page, or a text file on the web, as text."""
        try:
            with anyio.fail_after(self.within_s):
                got, is_whole = await self._fetch(url)
        except TimeoutError as error:
            raise d.ToolFailed(f"{url!r} took longer than {self.within_s:g} s") from error
        except Fault as error:
            raise d.ToolFailed(f"{url!r} could not be read: {error}") from error
        title, text = await to_thread.run_sync(_text_of, got)
        return self._part(got.url, title, text, start, is_whole=is_whole)

    def _part(self, url: str, title: str, text: str, start: int, *, is_whole: bool) -> Page:
        end = start + self.max_chars
        notes = []
        if end < len(text):
            notes.append(f"It goes on; for more set start to {end}.")
        if not is_whole:
            notes.append(f"It was cut after {self.max_bytes:,} bytes.")
        return Page(url, title, text[start:end], " ".join(notes))

    async def _fetch(self, url: str) -> tuple[Got, bool]:
        """Follow redirects within one host, each checked like the first."""
        asked = checked(url)
        for _ in range(self.max_redirects + 1):
            async with self._asked(asked) as reply:
                if reply.status not in REDIRECTS or reply.location is None:
                    return await self._read(str(asked), reply)
                asked = redirected(asked, reply.location)
        raise d.ToolFailed(f"{url!r} redirects more than {self.max_redirects} times")

    async def _read(self, url: str, reply: Reply) -> tuple[Got, bool]:
        if reply.status >= 300:
            raise d.ToolFailed(f"{url!r} answers with HTTP {reply.status}")
        if not TEXT.fullmatch(reply.kind):
            raise d.ToolFailed(f"{url!r} is {reply.kind[:80]}; only text can be read")
        data = await reply.head(self.max_bytes)
        if b"\0" in data[:1024] and not reply.charset.lower().startswith("utf-16"):
            raise d.ToolFailed(f"{url!r} is not text; only text can be read")
        got = Got(url, reply.kind, reply.charset, data[: self.max_bytes])
        return got, len(data) <= self.max_bytes

    @asynccontextmanager
    async def _asked(self, url: URL) -> AsyncIterator[Reply]:
        if self._http is None:
            raise d.ToolFailed("fetch_url is closed")
        async with self._http.get(url, await self._addresses(url)) as reply:
            yield reply

    async def _addresses(self, url: URL) -> list[str]:
        """Where its host is; all of it must be allowed. Raises ToolFailed."""
        host = host_of(url).strip("[]")
        try:
            found = await self._look_up(host, port=port_of(url), type=SOCK_STREAM)
        except (OSError, UnicodeError) as error:
            raise d.ToolFailed(f"there is no host {url.host!r}") from error
        addresses = list(dict.fromkeys(str(entry[4][0]) for entry in found))
        if not addresses or not all(is_public(address, self._also) for address in addresses):
            raise d.ToolFailed(
                f"{url.host!r} is not on the public internet, or not only; it may not be asked"
            )
        return addresses[:SERVERS_TRIED]


def _text_of(got: Got) -> tuple[str, str]:
    """Title and text."""
    text = decoded(got.data, got.charset)
    is_page = got.kind in PAGES or (not got.kind and text.lstrip()[:1] == "<")
    return readable(text, got.url) if is_page else ("", text)
