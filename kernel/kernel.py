"""The kernel: it starts services in order, carries their messages, and stops them."""

import asyncio
from collections.abc import AsyncIterator, Coroutine, Generator, Iterable, Mapping
from contextlib import asynccontextmanager
from typing import Any, Self

import anyio
from anyio.abc import TaskGroup

from .bus import Bus
from .call import current, hearing
from .config import Config, KernelConfig, PathLike, RouteConfig, build
from .errors import ConfigError, KernelFailed, KernelStopped, nearest
from .events import SwapRejected
from .gate import Change
from .log import log
from .message import Event, R, Request, Sink
from .plan import Plan
from .service import Service
from .subscription import Overflow, Subscription
from .supervisor import Seat


class Kernel:
    """An asyncio microkernel.

        async with Kernel(Meter(), Model(driver)) as kernel:
            usage = await kernel.request(ReadUsage())

    `await Kernel(...)` starts it for frameworks with callbacks; then `stop()` it.
    """

    tasks: TaskGroup
    """Where seats keep their tasks."""

    def __init__(
        self,
        *services: Service,
        config: KernelConfig | None = None,
        routes: Mapping[str, Any] | None = None,
    ) -> None:
        self.config, self.bus = config or KernelConfig(), Bus()
        self._routes = {t: RouteConfig.model_validate(r) for t, r in (routes or {}).items()}
        self._tables: dict[str, Any] | None = None
        self._services, self._plan, self._seats = services, Plan((), {}), dict[str, Seat]()
        self._lock = anyio.Lock()  # around a change
        self._failure: KernelFailed | None = None
        self._ended = Change("the kernel's end", lambda: [s.gate for s in self._seats.values()])
        self._life = self._live()

    @classmethod
    def from_config(cls, path: PathLike = None, *services: Service, **overrides: Any) -> Self:
        """Build from defaults, a TOML file, the environment and keyword arguments.

        Raises ConfigError, naming the key and what to write. `services` are added.
        """
        loaded = Config.load(path, **overrides)
        kernel = cls(*loaded.build(), *services, config=loaded.kernel, routes=loaded.routes)
        kernel._tables = dict(loaded.services)
        return kernel

    # Life

    async def __aenter__(self) -> Self:
        if self._ended.over.is_set() or not self.bus.stopped:
            raise RuntimeError("a kernel runs once; make a new one")
        await self._life.__aenter__()
        return self

    async def __aexit__(self, *error: Any) -> bool | None:
        return await self._life.__aexit__(*error)

    @asynccontextmanager
    async def _live(self) -> AsyncIterator[None]:
        """The whole life. An error is held back until the task group, which would wrap it, ends."""
        error: BaseException | None = KernelStopped()  # unless the start gets to its end
        self.bus.begin()
        self._body, self._cutting = anyio.CancelScope(), anyio.CancelScope()
        try:
            async with anyio.create_task_group() as group:
                shelter, sheltered = anyio.CancelScope(shield=True), anyio.Event()
                try:
                    with self._body:
                        group.start_soon(self._shelter, shelter, sheltered)
                        await sheltered.wait()
                        plan = Plan(self._services, self._routes)
                        await self._start(plan, self._services)
                        error = None
                        yield
                except BaseException as raised:  # noqa: BLE001 - raised below
                    error = raised
                with anyio.CancelScope(shield=True):
                    self._cutting.cancel()
                    async with self._lock:
                        await self._stop(self._plan.order)
                self.bus.end()
                shelter.cancel()
        finally:
            self.bus.end()
            self._ended.error = self._failure
            self._ended.over.set()
        if self._failure is not None:
            raise self._failure from error
        if error is not None:
            raise error

    async def _shelter(self, shelter: anyio.CancelScope, sheltered: anyio.Event) -> None:
        """Hold the services' tasks: cancelled from outside, they still stop in order."""
        with shelter:
            async with anyio.create_task_group() as self.tasks:
                sheltered.set()
                await anyio.sleep_forever()

    async def _start(self, plan: Plan, services: Iterable[Service]) -> None:
        self._arrange(plan, *(Seat(service, self) for service in services))
        for service in plan.order:
            if service in services:
                await self._seats[service.address].start()

    async def _stop(self, services: list[Service]) -> None:
        for service in reversed(services):
            await self._seats[service.address].stop()

    def __await__(self) -> Generator[Any, None, Self]:
        return self._launch().__await__()

    async def _launch(self) -> Self:
        """Live in a task of its own: the one task of the kernel that no group owns."""
        ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        task = asyncio.create_task(self._live_alone(ready), name="kernel")  # noqa: TID251
        try:
            await asyncio.shield(ready)
        except asyncio.CancelledError:
            ready.cancel()  # nobody waits for it any more, so nobody would see its error
            task.cancel()
            with anyio.CancelScope(shield=True):
                await asyncio.wait({task})
            raise
        return self

    async def _live_alone(self, ready: "asyncio.Future[None]") -> None:
        try:
            async with self:
                ready.set_result(None)
                await anyio.sleep_forever()
        except BaseException as error:
            if not ready.done():
                ready.set_exception(error)
            elif error is not self._failure:  # which `wait` and `stop` raise
                raise

    async def wait(self) -> None:
        """Wait until the kernel has ended; raises KernelFailed when it failed."""
        await self._ended

    def stop(self) -> Change:
        """End the kernel, from any task, more than once; what its body does is cancelled.

        It begins at once. Await the end; from inside a service's call you cannot
        (WouldDeadlock), there it comes after you return.
        """
        if self.bus.stopped and not self._ended.over.is_set():
            raise KernelStopped
        self._body.cancel()
        return self._ended

    def fail(self, seat: Seat, cause: BaseException) -> bool:
        """A service is beyond repair: if something needs it, the kernel ends. Says whether."""
        needed_by = self._plan.needed_by(seat.address)
        if needed_by and self._failure is None:
            reason = f"service {seat.address!r} is down and {', '.join(needed_by)} need it:"
            self._failure = KernelFailed(reason, [error for _, error in seat.crashes])
            log.error("kernel.failed", reason=reason, cause=repr(cause))
            self._body.cancel()
        return bool(needed_by)

    # Speaking

    def request(
        self, message: Request[R], /, *, to: str | None = None, sink: Sink | None = None
    ) -> Coroutine[Any, Any, R]:
        """Ask the one handler of this request; awaiting it raises the handler's errors."""
        return self.bus.request(message, to, sink)

    def publish(self, event: Event, /) -> Coroutine[Any, Any, None]:
        """Tell whoever subscribed; waits only for a full lossless queue."""
        return self.bus.publish(event)

    @asynccontextmanager
    async def listen(
        self, *patterns: str, size: int = 1024, overflow: Overflow = "drop_oldest"
    ) -> AsyncIterator[Subscription]:
        """Hear events whose topic matches one of these, e.g. "process.*"; ends with the kernel.

        async with kernel.listen("process.*") as events:
            async for event in events: ...
        """
        subscription = Subscription(f"listen:{' '.join(patterns)}", patterns, size, overflow)
        self.bus.subscribe(subscription)
        try:
            yield subscription
        finally:
            self.bus.unsubscribe(subscription)

    def services(self) -> tuple[Seat, ...]:
        """Where each service sits (`address`, `state`, `service`, `crashes`), in order of start."""
        return tuple(self._seats[service.address] for service in self._plan.order)

    # Changing

    def _arrange(self, plan: Plan, *seats: Seat) -> None:
        """Make a plan real: seats, ports, guards. Nothing here waits or can fail."""
        self._plan = plan
        for seat in seats:
            self._seats[seat.address] = seat
            self.bus.connect(seat.service, seat.gate)
        for kind, guarded in plan.routes.items():
            self.bus.arrange(kind, *guarded)
        plan.warn()

    def _replan(self, *changed: Service) -> Plan:
        services = {**self._plan.services, **{service.address: service for service in changed}}
        return Plan(services.values(), self._routes)

    @asynccontextmanager
    async def _change(self) -> AsyncIterator[None]:
        """One change at a time, and none beside or after the end."""
        async with self._lock:
            with anyio.CancelScope() as self._cutting:
                if not self.bus.stopped:
                    yield
        if self._cutting.cancelled_caught or self.bus.stopped:
            raise KernelStopped

    def swap(self, name: str, new: Service | Mapping[str, Any], /) -> Change:
        """Replace a running service by another, or by one built from a config table.

        It begins at once. Await the result; from inside the service itself you cannot
        (WouldDeadlock), there the swap happens after you return.
        """
        if self.bus.stopped:
            raise KernelStopped
        if name not in self._seats:
            raise ConfigError(f"no service {name!r}; {nearest(name, self._seats)}")
        service = (new if isinstance(new, Service) else build(name, new)).named(name)
        self._replan(service).check_succession(self._seats[name].service, service)
        change = Change(f"the swap of {name!r}", lambda: [self._seats[name].gate])
        self.tasks.start_soon(self._swap, service, change, name=f"{name}.swap")
        return change

    async def _swap(self, new: Service, change: Change) -> None:
        hearing.set(None)
        current.set(None)
        change.error = KernelStopped()
        try:
            async with self._change():
                plan, seat, old = self._replan(new), Seat(new, self), self._seats[new.address]
                await seat.take_over(old, lambda: self._arrange(plan, seat))
                change.error = None
        except Exception as error:  # noqa: BLE001 - kept for whoever awaits, told to the rest
            change.error = error
            log.warning("service.swap_rejected", service=new.address, error=str(error))
            self.bus.tell(SwapRejected(service=new.address, error=str(error)))
        finally:
            change.over.set()

    async def reload(self, path: PathLike = None, **overrides: Any) -> None:
        """Swap every service whose table has changed, add the new ones, set the routes anew.

        A service that is gone from the config is refused: restart the kernel to remove it.
        """
        if self._tables is None:
            raise ConfigError("this kernel was not built from a config; use swap()")
        new = Config.load(path, **overrides)
        gone = sorted(self._tables.keys() - new.services.keys())
        if gone:
            raise ConfigError(f"reload cannot remove {', '.join(gone)}; restart the kernel")
        tables = {n: t for n, t in new.services.items() if self._tables.get(n) != t}
        services = {name: build(name, table) for name, table in tables.items()}
        Plan({**self._plan.services, **services}.values(), new.routes)  # does it all fit?
        await self._add([service for name, service in services.items() if name not in self._seats])
        for name, service in services.items():
            if self._plan.services[name] is not service:
                await self.swap(name, service)
            self._tables[name] = tables[name]
        self.config, self._routes = new.kernel, dict(new.routes)
        self._arrange(self._replan())

    async def _add(self, added: list[Service]) -> None:
        async with self._change():
            before = self._plan
            try:
                await self._start(self._replan(*added), added)
            except BaseException:
                with anyio.CancelScope(shield=True):
                    await self._stop([s for s in self._plan.order if s in added])
                for service in added:
                    self.bus.disconnect(self._seats.pop(service.address).service)
                self._arrange(before)
                raise
