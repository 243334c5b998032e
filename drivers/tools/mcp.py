"""MCP servers as devices: their tools, resources and prompts, over the official client."""

import shutil
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import PositiveFloat, PositiveInt, SecretStr

from ...subsystems.tools import driver as d
from ._mcp_touches import declared

if TYPE_CHECKING:
    from ._mcp_link import Link, Way
    from ._mcp_oauth import Credentials
    from ._mcp_session import Session

KEY = "aoskernel/idempotency-key"
"""Under which a call's key stands in its `_meta`."""


@dataclass(kw_only=True)
class Mcp:
    """The tools of an MCP server: of a `command` that is run here, or at a `url`.

    The process inherits PATH, HOME and the like and else `env` only. Tools are named `prefix`
    and their name; `only` offers some of them. A tool's effect is what `effects` says under its
    name, what the server hints where `trust_hints` allows that, and else "once". What its
    arguments name is what `touches` says, and nothing else. `pin` names a lock file: what has
    drifted from it is not offered. `resources` adds tools that list and read the server's
    resources. With `asks` a tool that is called may ask a human, and calls of a server of the
    older protocols are made one at a time. `required = false` lets the kernel start without the
    server. A call may be silent for `call_s`; a message has at most `max_bytes`, unpacked. With
    `oauth` a human is sent to the authorization server ("code") or a secret is sent
    ("client_credentials"); tokens are kept in `token_file`, else in memory.
    """

    command: tuple[str, ...] = ()
    cwd: Path | None = None
    env: dict[str, str] = field(default_factory=dict, repr=False)
    url: str | None = None
    transport: Literal["http", "sse"] = "http"
    headers: dict[str, str] = field(default_factory=dict, repr=False)

    prefix: str = ""
    only: tuple[str, ...] | None = None
    effects: dict[str, d.Effect] = field(default_factory=dict)
    touches: dict[str, dict[str, str]] = field(default_factory=dict)
    trust_hints: bool = False
    pin: Path | None = None
    resources: bool = False
    asks: bool = False
    required: bool = True

    start_s: PositiveFloat = 30.0
    call_s: PositiveFloat = 60.0
    restart_s: PositiveFloat = 0.5
    longest_restart_s: PositiveFloat = 30.0
    max_bytes: PositiveInt = 32 * 1024 * 1024

    oauth: Literal["code", "client_credentials"] | None = None
    client_id: str | None = None
    client_secret: SecretStr | None = None
    client_key: SecretStr | None = None
    client_key_algorithm: str = "RS256"
    client_metadata_url: str | None = None
    scope: str | None = None
    token_file: Path | None = None
    redirect_port: int = 8765
    browser: tuple[str, ...] = ()

    _session: "Session | None" = field(default=None, init=False, repr=False)

    def __post_init__(self) -> None:
        """Raises ValueError for what cannot be meant."""
        if bool(self.command) == (self.url is not None):
            raise ValueError("a server is run by `command` or reached at `url`: set one of them")
        if self.url is not None and not self.url.startswith(("http://", "https://")):
            raise ValueError(f"url: {self.url!r} must begin with http:// or https://")
        if self.command and not self._found(self.command[0]):
            raise ValueError(
                f"command: {self.command[0]!r} is not here; install it, or write its whole path"
            )
        if self.oauth == "client_credentials" and self.client_id is None:
            raise ValueError("oauth: client_credentials needs client_id, and a secret or a key")
        declared(self.touches, "")

    def _found(self, program: str) -> bool:
        below = self.cwd or Path()
        return bool(shutil.which(program, path=self.env.get("PATH"))) or (
            "/" in program and (below / program).is_file()
        )

    async def start(self) -> None:
        """Nothing is acquired here: the connection belongs to the task of `keep`."""
        try:
            from ._mcp_session import Session
        except ImportError as error:
            raise d.ConfigError(
                f"the driver 'mcp' needs a library: pip install 'aoskernel[mcp]' ({error})"
            ) from error
        self._session = Session(self._link(), prefix=self.prefix, resources=self.resources)

    def _link(self) -> "Link":
        from ._mcp_catalogue import Choice
        from ._mcp_link import Link, Patience

        choice = Choice(
            prefix=self.prefix,
            only=self.only,
            effects=self.effects,
            touches=declared(self.touches, self._below()),
            trust_hints=self.trust_hints,
            pin=self.pin,
        )
        patience = Patience(
            start_s=self.start_s,
            call_s=self.call_s,
            restart_s=self.restart_s,
            longest_restart_s=self.longest_restart_s,
        )
        return Link(self._way, choice, patience, asks=self.asks)

    def _below(self) -> str:
        """Where its relative paths begin: nobody knows of a server elsewhere, so in no workspace."""
        return "/" if self.url is not None else str((self.cwd or Path()).absolute())

    def _way(self, show: Callable[[str], Awaitable[None]]) -> "Way":
        from ._mcp_stdio import StdioServer
        from ._mcp_ways import Spawned, SseUrl, Url

        if self.url is None:
            server = StdioServer(self.command, env=self.env, cwd=self.cwd, most=self.max_bytes)
            return Spawned(server, self.command[0])
        kind = SseUrl if self.transport == "sse" else Url
        auth = self._auth(self.url, show)
        return kind(self.url, headers=self.headers, auth=auth, most=self.max_bytes)

    def _auth(self, url: str, show: Callable[[str], Awaitable[None]]) -> Any:
        if self.oauth is None:
            return None
        from ._mcp_oauth import provider

        return lambda: provider(url, self._credentials(), show)

    def _credentials(self) -> "Credentials":
        from ._mcp_oauth import Credentials

        assert self.oauth is not None
        return Credentials(
            grant=self.oauth,
            client_id=self.client_id,
            client_secret=_revealed(self.client_secret),
            client_key=_revealed(self.client_key),
            key_algorithm=self.client_key_algorithm,
            metadata_url=self.client_metadata_url,
            scope=self.scope,
            token_file=self.token_file,
            port=self.redirect_port,
            browser=self.browser,
        )

    async def stop(self) -> None:
        self._session = None

    async def keep(self, host: d.Host) -> None:
        """Connect, and again whenever that is lost; until cancelled."""
        await self._open.link.keep(host)

    async def ready(self) -> None:
        """Raises ConfigError where the server is required and cannot be reached."""
        link = self._open.link
        await link.tried()
        if self.required and link.why:
            raise d.ConfigError(
                f"the MCP server {link.why}. To start without it, set required = false"
            )

    def standing(self) -> d.Standing:
        return d.Standing(state="starting") if self._session is None else self._session.standing()

    async def offers(self) -> tuple[d.Offer, ...]:
        return self._open.offers()

    async def call(self, name: str, arguments: d.JsonObject, key: str) -> d.JsonValue:
        return await self._open.call(name, arguments, {KEY: key} if key else None)

    async def prompts(self) -> tuple[d.Prompt, ...]:
        return await self._open.prompts()

    async def prompt(self, name: str, arguments: dict[str, str]) -> tuple[d.ChatMessage, ...]:
        return await self._open.prompt(name, arguments)

    @property
    def _open(self) -> "Session":
        if self._session is None:
            raise d.ToolAway("the toolset is closed")
        return self._session


def _revealed(secret: SecretStr | None) -> str | None:
    return None if secret is None else secret.get_secret_value()
