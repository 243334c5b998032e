"""The bus: requests by direct switch, events by queue. It routes and never looks inside."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from contextlib import suppress
from typing import Any

from .call import Call, current, hearing, here, told
from .errors import KernelStopped, Unroutable, nearest
from .events import Lagged
from .gate import AskAgain, Gate, Line
from .message import Event, R, Request, Sink
from .service import Handled, Service
from .subscription import Item, Subscription

Link = Callable[[Call[Any]], Awaitable[Any]]


class Port:
    """Where one request type enters one service."""

    __slots__ = ("address", "deliver", "gate", "handler")

    def __init__(self, address: str, gate: Gate) -> None:
        self.address = address
        self.gate = gate
        self.handler: Callable[[Any], Awaitable[Any]]
        self.deliver: Callable[[Call[Any]], Coroutine[Any, Any, Any]]

    def connect(self, service: Service, handled: Handled) -> None:
        self.handler = getattr(service, handled.method)
        self.deliver = self._wait if handled.waits else self._run

    async def _run(self, call: Call[Any]) -> Any:
        """Run the handler in this task, inside the service's gate."""
        gate = self.gate
        task = asyncio.current_task(gate.loop)  # which is three times as fast as without
        assert task is not None
        cancels = task.cancelling()
        token = current.set(call)
        try:
            if not gate.plain:
                await gate.enter(call)
            call.gate, gate.inside[call] = gate, task
            try:
                return await self.handler(call.message)
            except asyncio.CancelledError:
                if call.aborted is None or task.cancelling() > cancels + 1:
                    raise
                raise call.aborted() from None
            finally:
                call.gate = None
                if gate.plain and call.aborted is None:
                    del gate.inside[call]
                else:
                    gate.leave(call)
        finally:
            current.reset(token)

    async def _wait(self, call: Call[Any]) -> Any:
        """Run a handler that may wait for long: the permits lent back, asked again if cut."""
        call.lent = lent = _lend(call)
        try:
            while True:
                with suppress(AskAgain):
                    reply = await self._run(call)
                    break
            for lender, gate in lent:
                if lender.gate is gate:
                    await gate.reclaim(lender)
            return reply
        except BaseException:
            for lender, gate in lent:  # whoever leaves with an error must not wait for a permit
                if lender.gate is gate and not lender.permit:
                    gate.take(lender)
            raise


def _lend(call: Call[Any]) -> list[tuple[Call[Any], Gate]]:
    """Give back every permit the chain holds while it waits for long."""
    lent = []
    above = call.parent
    while above is not None:
        if above.permit and above.gate is not None:
            above.gate.release(above)
            lent.append((above, above.gate))
        above = above.parent
    return lent


class Chain:
    """The guards of a route, in order, then the handler. A change of guards makes a new one."""

    __slots__ = ("_emptied", "_first", "guards", "open")

    def __init__(self, guards: tuple[Service, ...], last: Link) -> None:
        self.guards = guards
        self.open = 0
        self._emptied = Line()
        self._first = last
        for guard in reversed(guards):
            self._first = _link(guard.guard, self._first)

    async def run(self, call: Call[Any]) -> Any:
        token = current.set(call)
        self.open += 1
        try:
            return await self._first(call)
        finally:
            self.open -= 1
            current.reset(token)
            if self._emptied.turns:
                self._emptied.wake()

    async def emptied(self) -> None:
        """Wait until every call that entered here has left."""
        await self._emptied.wait(lambda: not self.open)


def _link(guard: Callable[[Call[Any], Link], Awaitable[Any]], proceed: Link) -> Link:
    return lambda call: guard(call, proceed)


class Route:
    """All ports of one request type, and the guards before them."""

    __slots__ = ("chain", "default", "ports")

    def __init__(self) -> None:
        self.ports: dict[str, Port] = {}
        self.default: Port | None = None
        self.chain: Chain | None = None

    def deliver(self, call: Call[Any]) -> Awaitable[Any]:
        """The last link: a guard may have readdressed the call."""
        port = self.ports.get(call.address)
        if port is None:
            raise unroutable(call.message.__class__, call.address, self.ports)
        return port.deliver(call if call.gate is None else call.twin())


class Bus:
    """Routes by type and address. One per kernel."""

    def __init__(self) -> None:
        self.time: Callable[[], float] = time.monotonic
        self.wall: Callable[[], float] = time.time  # seconds since 1970; may jump
        self.routes: dict[type[Request[Any]], Route] = {}
        self.subscriptions: list[Subscription] = []
        self.stopped = True
        self._hearers: dict[type[Event], tuple[Subscription, ...]] = {}
        self._outdated: list[Chain] = []

    def begin(self) -> None:
        loop = asyncio.get_running_loop()
        plain = getattr(loop.time, "__func__", None) is asyncio.BaseEventLoop.time
        self.time, self.stopped = time.monotonic if plain else loop.time, False  # one call less
        self.wall = getattr(loop, "wall", time.time)

    def end(self) -> None:
        """Refuse everything from here on."""
        self.stopped = True
        self.routes.clear()
        self._hearers.clear()
        for subscription in tuple(self.subscriptions):
            self.unsubscribe(subscription)

    def request(
        self,
        message: Request[R],
        to: str | None = None,
        sink: Sink | None = None,
        sender: str = "app",
        origin: object = None,
    ) -> Coroutine[Any, Any, R]:
        """Have the one handler answer, in this task. Errors, cancellation and deadlines cross."""
        route = self.routes.get(message.__class__)
        port = None if route is None else route.default if to is None else route.ports.get(to)
        if route is None or port is None:
            if self.stopped:
                raise KernelStopped
            raise unroutable(message.__class__, to, route.ports if route else ())
        call = Call(message, port.address, here(), sender, self.time(), sink, origin)
        return port.deliver(call) if route.chain is None else route.chain.run(call)

    def addresses(self, message: type[Request[Any]]) -> tuple[str, ...]:
        """The addresses that handle this type, sorted."""
        route = self.routes.get(message)
        return tuple(sorted(route.ports)) if route else ()

    def connect(self, service: Service, gate: Gate) -> None:
        """Make a service's handlers reachable, or point its ports at it as the successor."""
        for handled in service.__handled__:
            ports = self.routes.setdefault(handled.message, Route()).ports
            port = ports.setdefault(service.address, Port(service.address, gate))
            port.connect(service, handled)

    def disconnect(self, service: Service) -> None:
        """Forget a service's handlers."""
        for handled in service.__handled__:
            self.routes[handled.message].ports.pop(service.address, None)

    def arrange(
        self, message: type[Request[Any]], guards: tuple[Service, ...], default: str | None
    ) -> None:
        """Set a route's guards and default; calls under way keep to their old chain."""
        route = self.routes[message]
        route.default = route.ports.get(default) if default is not None else None
        chain = route.chain
        if guards != (chain.guards if chain else ()):
            self._outdated = [old for old in (*self._outdated, chain) if old and old.open]
            route.chain = Chain(guards, route.deliver) if guards else None

    def outdated(self, guard: Service) -> list[Chain]:
        """The chains that calls still go through although the guard was replaced."""
        return [chain for chain in self._outdated if guard in chain.guards]

    async def publish(self, event: Event, /, *, sender: str = "app") -> None:
        """Put the event into every matching queue; wait only where one is lossless and full."""
        kind = event.__class__
        hearers = self._hearers.get(kind) or self._match(kind)
        if not hearers:
            return
        item, urgent = (event, told(sender, self.time())), kind.urgent
        full = None
        for hearer in hearers:
            if not hearer.offer(item, urgent):
                full = [hearer] if full is None else [*full, hearer]
        for hearer in full or ():
            if hearing.get() is None:
                await hearer.put(item)
            else:  # two subscribers that publish to each other must never wait for each other
                hearer.overdraw(item)

    def tell(self, event: Event) -> None:
        """The kernel's own publish, which never waits."""
        kind = event.__class__
        item: Item = (event, told("kernel", self.time()))
        for hearer in () if self.stopped else self._match(kind):
            if not hearer.offer(item, kind.urgent):
                hearer.overdraw(item)

    def hears(self, kind: type[Event]) -> bool:
        """Does anybody? Lets a busy publisher not make what nobody would take."""
        hearers = self._hearers.get(kind)
        return bool(self._match(kind) if hearers is None else hearers)

    def _match(self, kind: type[Event]) -> tuple[Subscription, ...]:
        if self.stopped:
            raise KernelStopped
        hearers = self._hearers.get(kind)
        if hearers is None:
            hearers = tuple([s for s in self.subscriptions if s.matches(kind.topic)])
            self._hearers[kind] = hearers
        return hearers

    def subscribe(self, subscription: Subscription) -> None:
        if self.stopped:
            raise KernelStopped
        subscription.tell_lag = self._tell_lag
        self.subscriptions.append(subscription)
        self._hearers.clear()

    def _tell_lag(self, behind: Subscription) -> None:
        self.tell(Lagged(subscriber=behind.name, dropped=behind.dropped))

    def unsubscribe(self, subscription: Subscription) -> None:
        if subscription in self.subscriptions:
            self.subscriptions.remove(subscription)
        self._hearers.clear()
        subscription.close()


def unroutable(kind: type[Request[Any]], to: str | None, ports: Iterable[str]) -> Unroutable:
    """Say what could be asked instead."""
    if not ports:
        told = f"no handler for {kind.topic} ({kind.__name__}); register a service that has one"
    elif to is None:
        told = (
            f"{kind.topic} has several handlers and no default; pass to= one of "
            f'{", ".join(sorted(ports))}, or set [routes."{kind.topic}"] default in the config'
        )
    else:
        told = f"nobody at {to!r} handles {kind.topic}; {nearest(to, ports)}"
    return Unroutable(told)
