"""The connection to an MCP server. One task enters it, leaves it, and makes it anew."""

import math
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any, Protocol, TypeVar

import anyio
import anyio.lowlevel
import mcp_types as types
from mcp import Client, MCPError
from mcp.client.session import IncomingMessage
from mcp.client.subscriptions import SubscriptionLost
from mcp_types.version import HANDSHAKE_PROTOCOL_VERSIONS
from pydantic import ValidationError

from ...subsystems.tools import driver as d
from ._mcp_catalogue import Catalogue, Choice
from ._mcp_exchange import Exchange, current
from ._mcp_form import Params
from ._mcp_http import NOT_SENT, too_long
from ._mcp_listing import Listing
from ._mcp_tap import tapped

T = TypeVar("T")

STEADY_S = 10.0
"""A connection that has lasted so long was a good one; the next pause is the first again."""
HTTP_FAILED = "Server returned an error response"
SESSION_OVER = "Session terminated"
"""What the SDK says of an HTTP status that stands for no answer."""
CLOSED = "Connection closed"
"""What it says when no more can be sent, or is to come, on this connection."""


Work = Callable[[Client, Exchange], Awaitable[T]]


class Way(Protocol):
    """How a server is reached."""

    def open(self) -> AbstractAsyncContextManager[Any]: ...

    def explain(self, error: BaseException) -> str:
        """Why it cannot be reached, and what to do about it."""
        ...


@dataclass(frozen=True, kw_only=True)
class Patience:
    """Seconds: to start, for a sign of life in a call, between attempts to connect."""

    start_s: float
    call_s: float
    restart_s: float
    longest_restart_s: float


class Link:
    """A server, as far as it can be reached."""

    def __init__(
        self,
        way: Callable[[Callable[[str], Awaitable[None]]], Way],
        choice: Choice,
        patience: Patience,
        *,
        asks: bool,
    ) -> None:
        self._way, self._listing = way(self._show), Listing(choice)
        self._patience, self._asks = patience, asks
        self._client: Client | None = None
        self._host: d.Host | None = None
        self._up, self._tried = anyio.Event(), anyio.Event()
        self._ended, self._stale = anyio.Event(), anyio.Event()
        self._one_by_one = anyio.Lock()
        self._sole: Exchange | None = None
        self.capabilities = types.ServerCapabilities()
        self.trouble: Exception | None = None
        self.why, self.about = "", ""

    @property
    def is_up(self) -> bool:
        return self._client is not None

    @property
    def catalogue(self) -> Catalogue:
        """That of the last connection."""
        return self._listing.catalogue

    # The task that owns the connection

    async def keep(self, host: d.Host) -> None:
        """Connect, and again whenever that is lost, after longer and longer pauses."""
        self._host, pause_s = host, self._patience.restart_s
        while True:
            began, self.trouble = anyio.current_time(), None
            try:
                await self._connection(host)
            except Exception as error:  # noqa: BLE001 - the driver's edge: whatever the SDK raises
                self.trouble = _bare(error)
            self.why = self._way.explain(self.trouble or ConnectionError("it has ended"))
            self._tried.set()
            if anyio.current_time() - began >= STEADY_S:
                pause_s = self._patience.restart_s
            await host.away(self.why, pause_s)
            await anyio.sleep(pause_s)
            pause_s = min(2 * pause_s, self._patience.longest_restart_s)

    async def tried(self) -> None:
        """Wait until the first attempt is over."""
        await self._tried.wait()

    async def _connection(self, host: d.Host) -> None:
        self._ended, self._stale = anyio.Event(), anyio.Event()
        with anyio.move_on_after(self._patience.start_s) as starting:
            async with self._made() as client:
                await self._listing.renew(client, host)
                starting.deadline = math.inf
                await self._open(client, host)
                try:
                    await self._attend(client, host)
                finally:
                    self._client, self._up = None, anyio.Event()
        if starting.cancelled_caught:
            raise TimeoutError(f"it has not answered within {self._patience.start_s:g} s (start_s)")

    async def _show(self, url: str) -> None:
        """Somebody must go there before it can go on."""
        assert self._host is not None
        await self._host.away(f"to allow access, open {url}", 0)

    def _made(self) -> Client:
        return Client(
            tapped(self._way.open(), self._ended, self._listing.leave_out),
            client_info=types.Implementation(name="aoskernel", version=version("aoskernel")),
            elicitation_callback=self._elicit if self._asks else None,
            message_handler=self._hear,
            cache=None,
        )

    async def _open(self, client: Client, host: d.Host) -> None:
        self.capabilities = client.server_capabilities
        server = client.server_info
        named = f"{server.name} {server.version}" if server else "a server without a name"
        self.about = f"{named}, MCP {client.protocol_version}"
        self._client, self.why = client, ""
        self._up.set()
        self._tried.set()
        await host.up(self.about)

    async def _attend(self, client: Client, host: d.Host) -> None:
        """Until it ends. What changes its list is heard."""
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._follow, client, host)
            changes = self.capabilities.tools and self.capabilities.tools.list_changed
            if changes and client.protocol_version not in HANDSHAKE_PROTOCOL_VERSIONS:
                tasks.start_soon(self._listen, client)
            await self._ended.wait()
            tasks.cancel_scope.cancel()

    async def _follow(self, client: Client, host: d.Host) -> None:
        while True:
            await self._stale.wait()
            self._stale = anyio.Event()
            await self._listing.renew(client, host)

    async def _listen(self, client: Client) -> None:
        while True:
            try:
                async with client.listen(tools_list_changed=True) as changes:
                    async for _ in changes:
                        self._stale.set()
            except SubscriptionLost:
                self._stale.set()  # whatever was missed is in the list
            await anyio.sleep(self._patience.restart_s)

    async def _hear(self, message: IncomingMessage) -> None:
        if isinstance(message, types.ToolListChangedNotification):
            self._stale.set()

    # Those who use it

    async def exchange(self, name: str, work: Work[T]) -> T:
        """Ask something of the server, as soon as it can be reached. Raises ToolError."""
        client, host = await self._reached(), self._host
        assert host is not None
        serial = self._asks and client.protocol_version in HANDSHAKE_PROTOCOL_VERSIONS
        async with AsyncExitStack() as turn:
            if serial:  # only so is it known which call a question belongs to
                await turn.enter_async_context(self._one_by_one)
            under_way = Exchange(name, host, self._patience.call_s)
            self._sole = under_way if serial else None
            try:
                return await self._made_of(under_way, client, work)
            finally:
                self._sole = None
                await under_way.end()

    async def _made_of(self, under_way: Exchange, client: Client, work: Work[T]) -> T:
        mark = current.set(under_way)
        try:
            with under_way.patience:
                return await work(client, under_way)
        except MCPError as error:
            raise self._meaning(error) from error
        except (ValidationError, RuntimeError) as error:
            raise d.ToolFailed(f"it was done, but its result is not valid: {error}") from error
        except (anyio.ClosedResourceError, anyio.BrokenResourceError) as error:
            raise self._lost("the connection was cut") from error
        finally:
            current.reset(mark)
        patience = f"no sign of life for {self._patience.call_s:g} s (call_s)"
        raise self._lost(f"{patience}; the server was told to stop", retryable=False)

    async def _reached(self) -> Client:
        with anyio.move_on_after(self._patience.start_s):
            while self._client is None or self._ended.is_set():
                await self._up.wait()
                await anyio.lowlevel.checkpoint()
            return self._client
        raise d.ToolAway(f"the server cannot be reached: {self.why or 'it is starting'}")

    def _meaning(self, error: MCPError) -> d.ToolError:
        if error.message == SESSION_OVER:
            self._ended.set()  # it knows us no more: begin anew
            return d.ToolAway("the server has forgotten the session; nothing was done")
        if error.code == NOT_SENT:
            self._ended.set()
            return d.ToolAway(error.message)
        if told := too_long(error.message):
            return self._lost(told, retryable=False)
        if error.message == CLOSED:
            self._ended.set()  # even where it could still be heard, nothing can be said any more
        if error.code == types.CONNECTION_CLOSED:
            return self._lost("the server has ended in the middle of it")
        if error.message == HTTP_FAILED:
            return self._lost("the server answered with an HTTP error")
        if error.code in (types.REQUEST_TIMEOUT, types.PARSE_ERROR):
            return self._lost(error.message)
        return d.ToolFailed(error.message[:2000])

    def _lost(self, why: str, *, retryable: bool = True) -> d.OutcomeLost:
        lost = d.OutcomeLost(f"nobody knows whether it was done: {why}")
        lost.retryable = retryable
        return lost

    async def _elicit(self, context: Any, params: Params) -> types.ElicitResult:
        exchange = current.get() or self._sole
        if exchange is None:
            return types.ElicitResult(action="cancel")
        return await exchange.elicit(self.about.partition(",")[0], params)


def _bare(error: Exception) -> Exception:
    """The first error that task groups have wrapped."""
    while isinstance(error, ExceptionGroup):
        error = error.exceptions[0]
    return error
