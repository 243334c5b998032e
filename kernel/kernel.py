"""The kernel: it starts services in order, carries their messages, and stops them."""

import asyncio
import graphlib
import os
from collections.abc import AsyncIterator, Coroutine, Generator, Mapping
from contextlib import asynccontextmanager
from fnmatch import fnmatchcase
from typing import Any, Self

import anyio

from .bus import Bus, Chain, Port
from .call import Call, current
from .config import Config, KernelConfig, RouteConfig, build
from .errors import BootError, ConfigError, KernelFailed, KernelStopped, WouldDeadlock
from .events import SwapRejected
from .log import log
from .message import Event, R, Request, Sink, Value
from .service import Overflow, Service
from .subscription import Subscription
from .supervisor import Seat


class ServiceStatus(Value):
    """A line of `kernel.services()`."""

    address: str
    service: str
    state: str
    handles: tuple[str, ...]
    needs: tuple[str, ...]
    inside: int
    crashes: int


class Change:
    """A swap under way. Await it for the outcome; unawaited, it is done all the same."""

    def __init__(self, seat: Seat) -> None:
        self._seat = seat
        self._done = anyio.Event()
        self._error: BaseException | None = None

    async def carry_out(self, new: Service) -> None:
        current.set(None)
        try:
            await self._seat.swap(new)
        except Exception as error:  # noqa: BLE001 - kept for whoever awaits, told to the rest
            self._error = error
            log.warning("service.swap_rejected", service=self._seat.address, error=str(error))
            event = SwapRejected(service=self._seat.address, error=str(error))
            await self._seat._bus.publish(event, sender="kernel")
        finally:
            self._done.set()

    def __await__(self) -> Generator[Any, None, None]:
        return self._outcome().__await__()

    async def _outcome(self) -> None:
        here = current.get()
        gate = self._seat.gate
        if isinstance(here, Call) and (here.gate is gate or here.is_inside(gate)):
            raise WouldDeadlock(
                f"this runs inside {self._seat.address!r}, which cannot be replaced before it "
                "returns; start the swap without awaiting it"
            )
        await self._done.wait()
        if self._error is not None:
            raise self._error


class Kernel:
    """An asyncio microkernel.

        async with Kernel(Meter(), Model(driver)) as kernel:
            usage = await kernel.request(ReadUsage())

    `await Kernel(...)` starts it for frameworks with callbacks; then `stop()` it.
    """

    def __init__(
        self,
        *services: Service,
        config: KernelConfig | None = None,
        routes: Mapping[str, Any] | None = None,
    ) -> None:
        self.config = config or KernelConfig()
        self._routes = {t: RouteConfig.model_validate(r) for t, r in (routes or {}).items()}
        self._services = list(services)
        self._loaded: Config | None = None
        self._seats: dict[str, Seat] = {}
        self._order: list[Seat] = []
        self._bus: Bus | None = None
        self._failure: KernelFailed | None = None
        self._ending: anyio.Event | None = None
        self._life: asyncio.Task[None] | None = None

    @classmethod
    def from_config(
        cls, path: str | os.PathLike[str] | None = None, *services: Service, **overrides: Any
    ) -> Self:
        """Build from defaults, a TOML file, the environment and keyword arguments.

        Raises ConfigError, naming the key and what to write. `services` are added.
        """
        loaded = Config.load(path, **overrides)
        kernel = cls(*loaded.build(), *services, config=loaded.kernel)
        kernel._routes, kernel._loaded = dict(loaded.routes), loaded
        return kernel

    # Life

    async def __aenter__(self) -> Self:
        if self._bus is not None:
            raise KernelStopped
        self._bus = Bus(asyncio.get_running_loop().time)
        self._ending = anyio.Event()
        self._tasks = await anyio.create_task_group().__aenter__()
        try:
            self._mount(self._services)
            for seat in self._order:
                await seat.start()
        except BaseException:
            await self._end()
            raise
        self._body = anyio.CancelScope().__enter__()
        return self

    async def __aexit__(self, kind: Any, error: BaseException | None, trace: Any) -> bool:
        caught = self._body.__exit__(kind, error, trace)
        await self._end()
        if self._failure is not None:
            raise self._failure from (None if caught else error)
        return bool(caught)

    async def _end(self) -> None:
        """Stop every service in reverse order, whatever happens around."""
        with anyio.CancelScope(shield=True):
            for seat in reversed(self._order):
                await seat.stop()
        self.bus.end()
        self._tasks.cancel_scope.cancel()
        await self._tasks.__aexit__(None, None, None)
        assert self._ending is not None
        self._ending.set()

    def __await__(self) -> Generator[Any, None, Self]:
        return self._start().__await__()

    async def _start(self) -> Self:
        """Live in a task of its own: the one task of the kernel that no group owns."""
        ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._stop = anyio.Event()
        self._life = asyncio.create_task(self._live(ready), name="kernel")  # noqa: TID251
        try:
            await asyncio.shield(ready)
        except asyncio.CancelledError:
            self._stop.set()
            raise
        return self

    async def _live(self, ready: "asyncio.Future[None]") -> None:
        try:
            async with self:
                ready.set_result(None)
                await self._stop.wait()
        except BaseException as error:
            if ready.done():
                raise
            ready.set_exception(error)

    async def wait(self) -> None:
        """Wait until the kernel has ended; raises KernelFailed when it failed."""
        if self._ending is not None:
            await self._ending.wait()
        if self._failure is not None:
            raise self._failure

    async def stop(self) -> None:
        """End a kernel that was started with `await`; from any task, more than once."""
        if self._life is None:
            raise KernelStopped
        self._stop.set()
        await self.wait()

    def _fail(self, seat: Seat, cause: BaseException) -> bool:
        """A service is beyond repair: if something needs it, the kernel cannot go on."""
        needed_by = self._needed_by(seat)
        if needed_by:
            reason = f"service {seat.address!r} is down and {', '.join(needed_by)} need it:"
            self._failure = KernelFailed(reason, [error for _, error in seat.crashes])
            self._body.cancel()
        return bool(needed_by)

    def _needed_by(self, seat: Seat) -> list[str]:
        handled = {h.message for h in seat.service.handled}
        found = [s.address for s in self._order if s is not seat and handled & s.service.needs]
        guarded = (p for p in self._ports() if p.chain and seat.service in p.chain.guards)
        return found + [f"route {port.address}" for port in guarded]

    # Composition

    def _mount(self, services: list[Service]) -> None:
        """Seat the services, check that they fit together, and set the order of starting."""
        for service in services:
            if service.address in self._seats:
                raise BootError(f"two services are named {service.address!r}; use named()")
            seat = Seat(service, self.bus, self._tasks, self.config, self._fail)
            self._seats[service.address] = seat
            self.bus.connect(service, seat.gate)
        self._check_needs()
        self._order = self._start_order()
        self._set_routes()

    def _check_needs(self) -> None:
        missing = [
            f"{seat.address!r} needs {need.topic} ({need.__name__})"
            for seat in self._seats.values()
            for need in sorted(seat.service.needs, key=lambda n: n.topic)
            if need not in self.bus.routes
        ]
        if missing:
            raise BootError(
                f"{'; '.join(missing)}: no service handles that; register one that does"
            )

    def _start_order(self) -> list[Seat]:
        handlers = {
            handled.message: seat.address
            for seat in self._seats.values()
            for handled in seat.service.handled
        }
        graph = {
            seat.address: {handlers[need] for need in seat.service.needs_at_start}
            for seat in self._seats.values()
        }
        try:
            return [self._seats[a] for a in graphlib.TopologicalSorter(graph).static_order()]
        except graphlib.CycleError as error:
            path = " -> ".join(reversed(error.args[1]))
            raise BootError(
                f"services need each other at start: {path}; break the circle"
            ) from None

    def _ports(self) -> list[Port]:
        return [port for route in self.bus.routes.values() for port in route.ports.values()]

    def _set_routes(self) -> None:
        """Put guards and defaults in place; every call in flight keeps its old chain."""
        for kind, route in self.bus.routes.items():
            guards, default = self._guards(kind)
            for port in route.ports.values():
                port.chain = Chain(guards, port.deliver) if guards else None
            if default is not None and default not in route.ports:
                raise BootError(
                    f"routes.{kind.topic}.default is {default!r}, which no service is named; "
                    f"at hand: {', '.join(sorted(route.ports))}"
                )
            only = next(iter(route.ports.values())) if len(route.ports) == 1 else None
            route.default = only if default is None else route.ports[default]

    def _guards(self, kind: type[Request[Any]]) -> tuple[tuple[Service, ...], str | None]:
        merged = RouteConfig()
        for pattern, config in self._routes.items():
            if fnmatchcase(kind.topic, pattern) or pattern == f"effect:{kind.effect}":
                merged = merged.under(config)
        for name in (*merged.guards, *merged.off):
            seat = self._seats.get(name)
            if seat is None or type(seat.service).guard is Service.guard:
                guards = [
                    a for a, s in self._seats.items() if type(s.service).guard is not Service.guard
                ]
                raise BootError(
                    f"routes.{kind.topic}: {name!r} is no guard; registered guards: "
                    f"{', '.join(sorted(guards)) or 'none'}"
                )
            if name in merged.off and seat.service.pinned:
                log.warning("route.unguarded", topic=kind.topic, off=name)
        kept = (self._seats[name].service for name in merged.guards if name not in merged.off)
        return tuple(kept), merged.default

    # Speaking

    @property
    def bus(self) -> Bus:
        if self._bus is None:
            raise KernelStopped
        return self._bus

    def request(
        self, message: Request[R], /, *, to: str | None = None, sink: Sink | None = None
    ) -> Coroutine[Any, Any, R]:
        """Ask the one handler of this request; awaiting it raises the handler's errors."""
        return self.bus.request(message, to, sink)

    async def publish(self, event: Event, /) -> None:
        """Tell whoever subscribed; waits only for a full lossless queue."""
        await self.bus.publish(event)

    @asynccontextmanager
    async def listen(
        self, pattern: str, *, size: int = 1024, overflow: Overflow = "drop_oldest"
    ) -> AsyncIterator[Subscription]:
        """Hear events whose topic matches, e.g. "process.*"; ends with the kernel.

        async with kernel.listen("process.*") as events:
            async for event in events: ...
        """
        subscription = Subscription(f"listen:{pattern}", pattern, size, overflow)
        self.bus.subscribe(subscription)
        try:
            yield subscription
        finally:
            self.bus.unsubscribe(subscription)

    def services(self) -> tuple[ServiceStatus, ...]:
        """What is running, in the order of starting."""
        return tuple(
            ServiceStatus(
                address=seat.address,
                service=f"{type(seat.service).__module__}:{type(seat.service).__qualname__}",
                state=seat.state,
                handles=tuple(sorted(h.message.topic for h in seat.service.handled)),
                needs=tuple(sorted(need.topic for need in seat.service.needs)),
                inside=len(seat.gate.inside),
                crashes=len(seat.crashes),
            )
            for seat in self._order
        )

    # Changing

    def swap(self, name: str, new: Service | Mapping[str, Any], /) -> Change:
        """Replace a running service by another, or by one built from a config table.

        It begins at once. Await the result; from inside the service itself you cannot
        (WouldDeadlock), there the swap happens after you return.
        """
        seat = self._seats.get(name)
        if seat is None or self._ending is None or self._ending.is_set():
            raise ConfigError(f"no service {name!r}; running: {', '.join(self._seats)}")
        service = new if isinstance(new, Service) else build(name, new)
        if {h.message for h in service.handled} < {h.message for h in seat.service.handled}:
            raise BootError(f"{type(service).__name__} does not handle all that {name!r} must")
        change = Change(seat)
        self._tasks.start_soon(self._carry_out, change, service, name=f"{name}.swap")
        return change

    async def _carry_out(self, change: Change, service: Service) -> None:
        await change.carry_out(service)
        self._set_routes()

    async def reload(self, path: str | os.PathLike[str] | None = None, **overrides: Any) -> None:
        """Swap every service whose table has changed, add the new ones, set the routes anew.

        A service that is gone from the config is refused: stop the kernel to remove it.
        """
        old, new = self._loaded, Config.load(path, **overrides)
        if old is None:
            raise ConfigError("this kernel was not built from a config; use swap()")
        gone = sorted(set(old.services) - set(new.services))
        if gone:
            raise ConfigError(f"reload cannot remove {', '.join(gone)}; restart the kernel")
        changed = {n: build(n, t) for n, t in new.services.items() if old.services.get(n) != t}
        added = [service for name, service in changed.items() if name not in self._seats]
        self._routes = dict(new.routes)
        self._mount(added)
        for service in added:
            await self._seats[service.address].start()
        for name, service in changed.items():
            if service not in added:
                await self.swap(name, service)
        self._loaded = new
