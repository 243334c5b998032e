"""The kernel: it starts services in order, carries their messages, and stops them."""

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Coroutine, Generator, Iterable, Mapping
from contextlib import asynccontextmanager
from typing import Any, Self

import anyio
from anyio.abc import TaskGroup, TaskStatus

from .bus import Bus
from .call import current, hearing, is_within
from .config import Config, KernelConfig, RouteConfig, build
from .errors import ConfigError, KernelFailed, KernelStopped, WouldDeadlock, nearest
from .events import SwapRejected
from .gate import Gate
from .log import log
from .message import Event, R, Request, Sink
from .plan import Plan
from .service import Service
from .subscription import Overflow, Subscription
from .supervisor import Seat


class Change:
    """Something under way. Await it for the outcome; unawaited, it is done all the same."""

    def __init__(self, what: str, gates: Callable[[], Iterable[Gate]]) -> None:
        """`gates` are those that have to be empty first."""
        self._what, self._gates = what, gates
        self._error: BaseException | None = None
        self.over = anyio.Event()

    def done(self, error: BaseException | None = None) -> None:
        self._error = error
        self.over.set()

    def __await__(self) -> Generator[Any, None, None]:
        return self._outcome().__await__()

    async def _outcome(self) -> None:
        if not self.over.is_set() and any(map(is_within, self._gates())):
            raise WouldDeadlock(
                f"{self._what} waits for this very call to return; do not await it from here, "
                "it happens all the same"
            )
        await self.over.wait()
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
        self.bus = Bus()
        self._services = services
        self._routes = {t: RouteConfig.model_validate(r) for t, r in (routes or {}).items()}
        self._tables: dict[str, Any] | None = None
        self._plan = Plan((), {})
        self._seats: dict[str, Seat] = {}
        self._lock = anyio.Lock()
        self._cutting = anyio.CancelScope()  # what cuts the change under way
        self._failure: KernelFailed | None = None
        self._body = anyio.CancelScope()
        self._ended = Change("the kernel's end", lambda: [s.gate for s in self._seats.values()])
        self._life = self._live()

    @classmethod
    def from_config(
        cls, path: str | os.PathLike[str] | None = None, *services: Service, **overrides: Any
    ) -> Self:
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
        try:
            async with anyio.create_task_group() as group:
                self._tasks = await group.start(self._shelter)
                try:
                    with self._body:
                        self._arrange(
                            Plan(self._services, self._routes), *map(self._seat, self._services)
                        )
                        await self._start(self._plan.order)
                        error = None
                        yield
                except BaseException as raised:  # noqa: BLE001 - raised below
                    error = raised
                with anyio.CancelScope(shield=True):
                    self._cutting.cancel()
                    async with self._lock:
                        await self._stop(self._plan.order)
                self.bus.end()
                self._tasks.cancel_scope.cancel()
        finally:
            self.bus.end()
            self._ended.done(self._failure)
        if self._failure is not None:
            raise self._failure from error
        if error is not None:
            raise error

    async def _shelter(self, *, task_status: TaskStatus[TaskGroup]) -> None:
        """Hold the services' tasks: cancelled from outside, they still stop in order."""
        with anyio.CancelScope(shield=True):
            async with anyio.create_task_group() as tasks:
                task_status.started(tasks)
                await anyio.sleep_forever()

    async def _start(self, services: list[Service]) -> None:
        for service in services:
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
            self._body.cancel()
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

    def _fail(self, seat: Seat, cause: BaseException) -> bool:
        """A service is beyond repair: if something needs it, the kernel cannot go on."""
        needed_by = self._plan.needed_by(seat.address)
        if needed_by and self._failure is None:
            reason = f"service {seat.address!r} is down and {', '.join(needed_by)} need it:"
            self._failure = KernelFailed(reason, [error for _, error in seat.crashes])
            log.error("kernel.failed", reason=reason)
            self._body.cancel()
        return bool(needed_by)

    # Speaking

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

    def services(self) -> tuple[Seat, ...]:
        """Where each service sits (`address`, `state`, `service`, `crashes`), in order of start."""
        return tuple(self._seats[service.address] for service in self._plan.order)

    # Changing

    def _arrange(self, plan: Plan, *seats: Seat) -> None:
        """Make a plan real: seats, ports, guards. Nothing here waits or can fail."""
        self._plan = plan
        self._seats.update((seat.address, seat) for seat in seats)
        for seat in seats:
            self.bus.connect(seat.service, seat.gate)
        for kind, guarded in plan.routes.items():
            self.bus.arrange(kind, *guarded)
        plan.warn()

    def _seat(self, service: Service) -> Seat:
        return Seat(service, self.bus, self._tasks, self.config, self._fail)

    @asynccontextmanager
    async def _change(self) -> AsyncIterator[None]:
        """One change at a time, and none beside or after the end."""
        async with self._lock:
            with anyio.CancelScope() as self._cutting:
                if not self.bus.stopped:
                    yield
        if self._cutting.cancelled_caught or self.bus.stopped:
            raise KernelStopped

    def _replan(self, *changed: Service) -> Plan:
        services = {**self._plan.services, **{service.address: service for service in changed}}
        return Plan(services.values(), self._routes)

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
        self._tasks.start_soon(self._swap, service, change, name=f"{name}.swap")
        return change

    async def _swap(self, new: Service, change: Change) -> None:
        hearing.set(None)
        failed: BaseException | None = KernelStopped()
        try:
            async with self._change():
                plan, seat, old = self._replan(new), self._seat(new), self._seats[new.address]
                await seat.take_over(old, lambda: self._arrange(plan, seat))
                failed = None
        except Exception as error:  # noqa: BLE001 - kept for whoever awaits, told to the rest
            failed = error
            log.warning("service.swap_rejected", service=new.address, error=str(error))
            self.bus.tell(SwapRejected(service=new.address, error=str(error)))
        finally:
            change.done(failed)

    async def reload(self, path: str | os.PathLike[str] | None = None, **overrides: Any) -> None:
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
        for seat in self._seats.values():
            seat.config = new.kernel
        self._arrange(self._replan())

    async def _add(self, added: list[Service]) -> None:
        before = self._plan
        async with self._change():
            self._arrange(self._replan(*added), *map(self._seat, added))
            order = [service for service in self._plan.order if service in added]
            try:
                await self._start(order)
            except BaseException:
                with anyio.CancelScope(shield=True):
                    await self._stop(order)
                for service in added:
                    self.bus.disconnect(self._seats.pop(service.address).service)
                self._arrange(before)
                raise
