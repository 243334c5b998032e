"""OAuth for an MCP server: the SDK's flow, with tokens in a file that only its owner can read."""

import json
import os
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal
from urllib.parse import parse_qs, urlsplit

import anyio
from anyio import to_thread
from anyio.abc import SocketAttribute, SocketStream
from mcp.client.auth import OAuthClientProvider
from mcp.client.auth.extensions.client_credentials import (
    ClientCredentialsOAuthProvider,
    PrivateKeyJWTOAuthProvider,
    SignedJWTParameters,
)
from mcp.shared.auth import (
    AuthorizationCodeResult,
    OAuthClientInformationFull,
    OAuthClientMetadata,
    OAuthToken,
)
from pydantic import AnyUrl

from ...kernel.secrets import keep

LONGEST = 16 * 1024
"""Bytes of the request with which a browser comes back."""
DONE = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nConnection: close\r\n\r\nYou can close this."
)


@dataclass(frozen=True, kw_only=True)
class Credentials:
    """Who we are to the authorization server, and how a human is sent to it."""

    grant: Literal["code", "client_credentials"]
    client_id: str | None = None
    client_secret: str | None = None
    client_key: str | None = None
    key_algorithm: str = "RS256"
    metadata_url: str | None = None
    scope: str | None = None
    token_file: Path | None = None
    port: int = 0
    browser: Sequence[str] = ()


def provider(
    url: str, who: Credentials, show: Callable[[str], Awaitable[None]]
) -> OAuthClientProvider:
    """What authenticates the requests to `url`; `show` tells a human which address to open."""
    tokens = Tokens(who, url)
    if who.grant == "client_credentials":
        return _machine(url, who, tokens)
    back = Return(who.port, who.browser, show)
    return OAuthClientProvider(
        server_url=url,
        client_metadata=_metadata(who),
        storage=tokens,
        redirect_handler=back.send,
        callback_handler=back.wait,
        client_metadata_url=who.metadata_url,
    )


def _machine(url: str, who: Credentials, tokens: "Tokens") -> OAuthClientProvider:
    assert who.client_id is not None
    if who.client_key is None:
        return ClientCredentialsOAuthProvider(
            url, tokens, who.client_id, who.client_secret or "", scope=who.scope
        )
    signed = SignedJWTParameters(
        issuer=who.client_id,
        subject=who.client_id,
        signing_key=who.client_key,
        signing_algorithm=who.key_algorithm,
    )
    assertion = signed.create_assertion_provider()
    return PrivateKeyJWTOAuthProvider(url, tokens, who.client_id, assertion, scope=who.scope)


def _redirect(who: Credentials) -> AnyUrl:
    return AnyUrl(f"http://127.0.0.1:{who.port}/callback")


def _metadata(who: Credentials) -> OAuthClientMetadata:
    return OAuthClientMetadata(
        client_name="AOS Kernel",
        redirect_uris=[_redirect(who)],
        grant_types=["authorization_code", "refresh_token"],
        response_types=["code"],
        scope=who.scope,
    )


class Tokens:
    """A server's tokens and our registration with it: in a file of mode 0600, or in memory."""

    def __init__(self, who: Credentials, url: str) -> None:
        self._who, self._url, self._file = who, url, who.token_file
        self._kept: dict[str, Any] = {}

    async def get_tokens(self) -> OAuthToken | None:
        kept = (await self._load()).get("tokens")
        return None if kept is None else _secret(OAuthToken.model_validate(kept))

    async def set_tokens(self, tokens: OAuthToken) -> None:
        await self._keep("tokens", _secret(tokens).model_dump(mode="json", exclude_none=True))

    async def get_client_info(self) -> OAuthClientInformationFull | None:
        if self._who.client_id is not None:
            return OAuthClientInformationFull(
                client_id=self._who.client_id,
                client_secret=self._who.client_secret,
                redirect_uris=[_redirect(self._who)],
                token_endpoint_auth_method=(
                    "client_secret_basic" if self._who.client_secret else "none"
                ),
            )
        kept = (await self._load()).get("client")
        return None if kept is None else OAuthClientInformationFull.model_validate(kept)

    async def set_client_info(self, client_info: OAuthClientInformationFull) -> None:
        await self._keep("client", client_info.model_dump(mode="json", exclude_none=True))

    async def _load(self) -> dict[str, Any]:
        if self._file is not None and not self._kept:
            self._kept = await to_thread.run_sync(_read, self._file, self._url)
        return self._kept

    async def _keep(self, what: str, value: Any) -> None:
        self._kept = {**await self._load(), what: value}
        if self._file is not None:
            await to_thread.run_sync(_write, self._file, {"url": self._url, **self._kept})


def _secret(tokens: OAuthToken) -> OAuthToken:
    """From now on no log shows them."""
    for token in filter(None, (tokens.access_token, tokens.refresh_token)):
        keep(token)
    return tokens


def _read(file: Path, url: str) -> dict[str, Any]:
    """What was kept for this URL; another server never gets it."""
    try:
        kept = json.loads(file.read_text("utf-8"))
    except FileNotFoundError:
        return {}
    return kept if kept.get("url") == url else {}


def _write(file: Path, kept: dict[str, Any]) -> None:
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    fresh = file.with_name(f".{file.name}.{os.getpid()}")
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW
    with os.fdopen(os.open(fresh, flags, 0o600), "w", encoding="utf-8") as opened:
        json.dump(kept, opened)
    fresh.replace(file)


class Return:
    """Where a browser comes back to: one request, to 127.0.0.1."""

    def __init__(
        self, port: int, browser: Sequence[str], show: Callable[[str], Awaitable[None]]
    ) -> None:
        self._port, self._browser, self._show = port, browser, show
        self._url = ""

    async def send(self, url: str) -> None:
        """Keep the address; a human is sent there when somebody listens for the answer."""
        self._url = url

    async def wait(self) -> AuthorizationCodeResult:
        """Raises what the flow makes of a refusal: a result without a code is none."""
        came, answers = anyio.create_memory_object_stream[dict[str, list[str]]](1)
        listener = await anyio.create_tcp_listener(local_host="127.0.0.1", local_port=self._port)

        async def serve(stream: SocketStream) -> None:
            async with stream:
                target = await _target(stream)
                await stream.send(DONE)
                if target.path == "/callback":
                    await came.send(parse_qs(target.query))

        async with listener, came, answers, anyio.create_task_group() as tasks:
            tasks.start_soon(listener.serve, serve)
            await self._show(self._url)
            if self._browser:
                tasks.start_soon(self._open)
            said = await answers.receive()
            tasks.cancel_scope.cancel()
        return _result(said)

    async def _open(self) -> None:
        await anyio.run_process([*self._browser, self._url], check=False)


async def _target(stream: SocketStream) -> Any:
    assert stream.extra(SocketAttribute.local_port)
    head = b""
    while b"\r\n\r\n" not in head and len(head) < LONGEST:
        head += await stream.receive()
    return urlsplit(head.split(b" ")[1].decode("ascii", "replace"))


def _result(said: dict[str, list[str]]) -> AuthorizationCodeResult:
    first = {name: values[0] for name, values in said.items()}
    if "code" not in first:
        raise PermissionError(f"access was not granted: {first.get('error', 'no code came back')}")
    return AuthorizationCodeResult(
        code=first["code"], state=first.get("state"), iss=first.get("iss")
    )
