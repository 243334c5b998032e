"""How an MCP server is reached: as a process of ours, or at a URL."""

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import httpx2
from mcp import MCPError
from mcp.client.auth import OAuthFlowError
from mcp.client.sse import sse_client
from mcp.client.streamable_http import streamable_http_client

from ._mcp_http import NOT_SENT, REFUSED, HttpClient, too_long
from ._mcp_stdio import StdioServer

CONNECT_S, IDLE_S = 30.0, 300.0


class Spawned:
    """Over the pipes of a process that lives as long as the connection."""

    def __init__(self, server: StdioServer, name: str) -> None:
        self._server, self._name = server, name

    def open(self) -> AbstractAsyncContextManager[Any]:
        return self._server.running()

    def explain(self, error: BaseException) -> str:
        if isinstance(error, OSError) and error.filename is not None:
            return f"{self._name!r} cannot be started: {error.strerror} ({error.filename})"
        said = self._server.last_words()
        told = f"{self._name!r}: {str(error) or type(error).__name__}"
        return f"{told}; it said: {said}" if said else told


class Url:
    """Streamable HTTP, or the older SSE. A redirect is followed only within its origin."""

    def __init__(
        self,
        url: str,
        *,
        headers: Mapping[str, str],
        auth: Callable[[], httpx2.Auth] | None,
        most: int,
    ) -> None:
        self._url, self._headers, self._auth, self._most = url, dict(headers), auth, most

    def open(self) -> AbstractAsyncContextManager[Any]:
        return self._streamable()

    def _client(self) -> HttpClient:
        timeout = httpx2.Timeout(CONNECT_S, read=IDLE_S)
        auth = None if self._auth is None else self._auth()
        return HttpClient(most=self._most, headers=self._headers, timeout=timeout, auth=auth)

    @asynccontextmanager
    async def _streamable(self) -> AsyncIterator[Any]:
        async with (
            self._client() as client,
            streamable_http_client(
                self._url, http_client=client, max_sse_event_size=self._most
            ) as streams,
        ):
            yield streams

    def explain(self, error: BaseException) -> str:
        url = httpx2.URL(self._url).copy_with(userinfo=b"", query=None)
        match error:
            case MCPError() if error.code in (NOT_SENT, REFUSED):
                return error.message
            case MCPError() if told := too_long(error.message):
                return f"{url}: {told}"
            case OAuthFlowError():
                return f"{url} wants authorization: {error}"
            case _:
                return f"{url}: {str(error) or type(error).__name__}"


class SseUrl(Url):
    """HTTP with server-sent events, as it was before 2025. An event has at most 1 MiB there."""

    def open(self) -> AbstractAsyncContextManager[Any]:
        return sse_client(self._url, httpx_client_factory=self._made)

    def _made(self, headers: Any = None, timeout: Any = None, auth: Any = None) -> HttpClient:
        return self._client()
