"""The bus: requests by direct switch, events by queue. It routes and never looks inside."""

import asyncio
import difflib
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

from .call import Call, Envelope, current
from .errors import BootError, KernelStopped, Unroutable
from .events import Lagged
from .gate import AskAgain, Gate
from .message import Event, R, Request, Sink
from .service import Handled, Service
from .subscription import Subscription

Link = Callable[[Call[Any]], Awaitable[Any]]


class Chain:
    """The guards of one port, in order, then its handler. A swap makes a new one."""

    __slots__ = ("_emptied", "first", "guards", "open")

    def __init__(self, guards: tuple[Service, ...], handler: Link) -> None:
        self.guards = guards
        self.open = 0
        self._emptied: asyncio.Future[None] | None = None
        self.first = handler
        for guard in reversed(guards):
            self.first = _link(guard.guard, self.first)

    async def emptied(self) -> None:
        """Wait until every call that entered here has left."""
        while self.open:
            if self._emptied is None:
                self._emptied = asyncio.get_running_loop().create_future()
            await asyncio.shield(self._emptied)

    def leave(self) -> None:
        self.open -= 1
        if self._emptied is not None and not self.open:
            emptied, self._emptied = self._emptied, None
            if not emptied.done():
                emptied.set_result(None)


def _link(guard: Callable[[Call[Any], Link], Awaitable[Any]], proceed: Link) -> Link:
    return lambda call: guard(call, proceed)


class Port:
    """Where one request type enters one service."""

    __slots__ = ("address", "chain", "gate", "handler", "waits")

    def __init__(self, address: str, gate: Gate) -> None:
        self.address = address
        self.gate = gate
        self.handler: Callable[[Any], Awaitable[Any]]
        self.waits = False
        self.chain: Chain | None = None

    def connect(self, service: Service, handled: Handled) -> None:
        self.handler = getattr(service, handled.method)
        self.waits = handled.waits

    async def deliver(self, call: Call[R]) -> R:
        """Run the handler in this task, inside the service's gate."""
        gate, task = self.gate, asyncio.current_task()
        assert task is not None
        while True:
            if not gate.plain or self.waits:
                await gate.enter(call, waits=self.waits)
            call.gate = gate
            gate.inside[call] = task
            lent = _lend(call) if self.waits else []
            try:
                return await self.handler(call.message)  # type: ignore[no-any-return]
            except asyncio.CancelledError:
                if call.aborted is None or task.cancelling() > 1:
                    lent = []  # it leaves for good: waiting for a permit would hold it up
                    raise
                if not isinstance(call.aborted, AskAgain):
                    raise call.aborted from None
            finally:
                del gate.inside[call]
                call.gate = None
                if call.permit or gate.awaited:
                    gate.leave(call)
                if call.aborted is not None:
                    task.uncancel()
                for lender in lent:
                    await lender.gate.reclaim(lender)
            call.aborted = None


def _lend(call: Call[Any]) -> list[Any]:
    """Give back every permit the chain holds while it waits for long."""
    lent = []
    above = call.parent
    while above is not None:
        if above.permit and above.gate is not None:
            above.gate.release(above)
            lent.append(above)
        above = above.parent
    return lent


class Route:
    """All ports of one request type."""

    __slots__ = ("default", "ports")

    def __init__(self) -> None:
        self.ports: dict[str, Port] = {}
        self.default: Port | None = None


class Bus:
    """Routes by type and address. One per kernel."""

    def __init__(self, time: Callable[[], float]) -> None:
        self.time = time
        self.routes: dict[type[Request[Any]], Route] = {}
        self.subscriptions: list[Subscription] = []
        self.stopped = False
        self._hearers: dict[type[Event], tuple[Subscription, ...]] = {}
        self._servers: set[asyncio.Task[Any]] = set()

    # Requests

    async def request(
        self,
        message: Request[R],
        to: str | None = None,
        sink: Sink | None = None,
        sender: str = "app",
        origin: object = None,
    ) -> R:
        """Have the one handler answer, in this task. Errors, cancellation and deadlines cross."""
        route = self.routes.get(message.__class__)
        port = None if route is None else route.default if to is None else route.ports.get(to)
        if port is None:
            raise self._unroutable(message.__class__, to)
        call = Call(message, port.address, current.get(), sender, self.time(), sink, origin)
        token = current.set(call)
        chain = port.chain
        try:
            if chain is None:
                return await port.deliver(call)
            chain.open += 1
            try:
                return await chain.first(call)  # type: ignore[no-any-return]
            finally:
                chain.leave()
        finally:
            current.reset(token)

    def addresses(self, message: type[Request[Any]]) -> tuple[str, ...]:
        """The addresses that handle this type, sorted."""
        route = self.routes.get(message)
        return tuple(sorted(route.ports)) if route else ()

    def _unroutable(self, kind: type[Request[Any]], to: str | None) -> Exception:
        known = self.addresses(kind)
        if self.stopped:
            return KernelStopped()
        if not known:
            return Unroutable(
                f"no handler for {kind.topic} ({kind.__name__}); register a service that has one"
            )
        if to is None:
            return Unroutable(
                f"{kind.topic} has several handlers and no default; pass to= one of "
                f'{", ".join(known)}, or set [routes."{kind.topic}"] default in the config'
            )
        near = difflib.get_close_matches(to, known, 1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        return Unroutable(
            f"nobody at {to!r} handles {kind.topic}; at hand: {', '.join(known)}{hint}"
        )

    def connect(self, service: Service, gate: Gate) -> None:
        """Make a service's handlers reachable, or point its ports at its successor."""
        for handled in service.handled:
            route = self.routes.setdefault(handled.message, Route())
            address = service.address
            if not handled.message.addressed and route.ports and address not in route.ports:
                (other,) = route.ports
                raise BootError(
                    f"{other!r} and {address!r} both handle {handled.message.topic}; "
                    "only one may, unless the request is declared addressed=True"
                )
            port = route.ports.get(address)
            if port is None:
                port = route.ports[address] = Port(address, gate)
            port.connect(service, handled)
            route.default = port if len(route.ports) == 1 else None

    def disconnect(self, service: Service) -> None:
        """Forget a service's handlers."""
        for handled in service.handled:
            route = self.routes.get(handled.message)
            if route is not None:
                route.ports.pop(service.address, None)
                if not route.ports:
                    del self.routes[handled.message]

    # Events

    async def publish(self, event: Event, /, *, sender: str = "app") -> None:
        """Put the event into every matching queue; wait only where one is lossless and full."""
        hearers = self._hearers.get(event.__class__)
        if hearers is None:
            hearers = self._match(event.__class__)
        if not hearers:
            return
        item = (event, Envelope(current.get(), sender, self.time()))
        full = None
        for hearer in hearers:
            if hearer.has_room:
                hearer.put(item)
            else:
                full = [hearer] if full is None else [*full, hearer]
        if full is not None:
            await self._overflow(full, item)

    async def _overflow(self, full: list[Subscription], item: tuple[Event, Envelope]) -> None:
        lagged = []
        for hearer in full:
            if hearer.overflow == "drop_oldest":
                hearer.drop_oldest()
                hearer.put(item)
                if not hearer.lagging:
                    hearer.lagging = True
                    lagged.append(hearer)
        for hearer in lagged:
            if not isinstance(item[0], Lagged):
                await self.publish(Lagged(subscriber=hearer.name, dropped=hearer.dropped))
        for hearer in full:
            if hearer.overflow == "lossless":
                # Two services that publish to each other must never wait for each other.
                if asyncio.current_task() not in self._servers:
                    await hearer.wait_for_room()
                if not hearer.closed:
                    hearer.put(item)

    def _match(self, kind: type[Event]) -> tuple[Subscription, ...]:
        if self.stopped:
            raise KernelStopped
        found = tuple(s for s in self.subscriptions if s.matches(kind.topic))
        self._hearers[kind] = found
        return found

    def subscribe(self, subscription: Subscription) -> None:
        self.subscriptions.append(subscription)
        self._hearers.clear()

    def unsubscribe(self, subscription: Subscription) -> None:
        if subscription in self.subscriptions:
            self.subscriptions.remove(subscription)
        self._hearers.clear()
        subscription.close()

    async def serve(
        self, subscription: Subscription, deliver: Callable[[Any], Awaitable[None]]
    ) -> None:
        """Work off a subscription in this task until it is closed and empty."""
        task = asyncio.current_task()
        assert task is not None
        self._servers.add(task)
        try:
            await subscription.serve(deliver)
        finally:
            self._servers.discard(task)

    # Tasks

    async def detached(
        self,
        sender: str,
        work: Callable[..., Awaitable[None]],
        args: Iterable[Any],
    ) -> None:
        """Run `work` as the root of a new chain, of the same trace as whoever spawned it."""
        current.set(Envelope(current.get(), sender, self.time()))
        await work(*args)

    def end(self) -> None:
        """Refuse everything from here on."""
        self.stopped = True
        self.routes.clear()
        for subscription in tuple(self.subscriptions):
            self.unsubscribe(subscription)
