"""Supervision: each service has a seat; the seat starts it, restarts it, swaps it, stops it."""

import asyncio
import io
from collections import deque
from collections.abc import Callable
from typing import Any

import anyio
import anyio.lowlevel
from anyio.abc import TaskGroup

from .bus import Bus
from .call import current
from .config import KernelConfig
from .errors import KernelStopped, StartTimeout, SwapFailed, Unavailable
from .events import ServiceCrashed, ServiceDown, ServiceStarted, ServiceStopped, ServiceSwapped
from .gate import LAST_WORDS_S, Gate
from .log import log
from .service import Service
from .subscription import Subscription

CRASHES, WITHIN_S = 5, 30.0
"""Restart intensity: so many crashes within so many seconds are borne, one more is not."""


class Life:
    """One life of a service, from start to stop, all of it in one task."""

    def __init__(self, service: Service) -> None:
        self.service = service
        self.started = anyio.Event()
        self.ended = anyio.Event()
        self.leave = anyio.Event()  # asks it to stop
        self.error: BaseException | None = None
        self.task: asyncio.Task[Any] | None = None
        self.tasks: TaskGroup | None = None

    async def live(self, bus: Bus, start_s: float) -> None:
        self.task = asyncio.current_task()
        try:
            async with anyio.create_task_group() as self.tasks:
                self.service.bind(bus, self.tasks)
                await self._start(start_s)
                self.started.set()
                self.service.start_soon(self.service.run, name=f"{self.service.address}.run")
                await self.leave.wait()
                self.tasks.cancel_scope.cancel()
        except Exception as error:  # noqa: BLE001 - the run border: a service's crash is a fact
            self.error = error.exceptions[0] if isinstance(error, ExceptionGroup) else error
        finally:
            with anyio.move_on_after(LAST_WORDS_S, shield=True):
                await self._stop()
            self.service.bind(None, None)
            self.started.set()
            self.ended.set()

    async def _start(self, start_s: float) -> None:
        with anyio.move_on_after(start_s) as watchdog:
            await self.service.start()
        if watchdog.cancelled_caught:
            raise StartTimeout(
                f"service {self.service.address!r} was still starting after {start_s:g} s; "
                "raise [kernel] start_s if it only needs longer"
            )

    async def _stop(self) -> None:
        try:
            await self.service.stop()
        except Exception as error:  # noqa: BLE001 - the run border
            log.exception("service.stop_failed", service=self.service.address)
            self.error = self.error or error

    def stack(self) -> str:
        """Where the service's task stands, for the start-up watchdog."""
        told = io.StringIO()
        if self.task is not None:
            self.task.print_stack(file=told, limit=4)
        return told.getvalue()


class Seat:
    """A place in the kernel that one service after another may take."""

    def __init__(
        self,
        service: Service,
        bus: Bus,
        tasks: TaskGroup,
        config: KernelConfig,
        fail: Callable[["Seat", BaseException], bool],
    ) -> None:
        """`fail(seat, cause)` stops the kernel and says True where the service is needed."""
        self.service = service
        self.state = "new"
        self.crashes: deque[tuple[float, BaseException]] = deque(maxlen=CRASHES + 1)
        self.gate = Gate(service.concurrency)
        self._bus, self._tasks, self._config, self._fail = bus, tasks, config, fail
        self._life: Life | None = None
        self._heard: list[tuple[Subscription, str]] = []
        self._backoff_s = 1.0
        self.changing = anyio.Lock()

    @property
    def address(self) -> str:
        return self.service.address

    async def start(self) -> None:
        """Bring the service up; raises what its `start` raised."""
        self.state = "starting"
        self._life = await self._begin(self.service)
        self._listen(self.service)
        self._up()
        await self._bus.publish(ServiceStarted(service=self.address), sender="kernel")

    def _up(self) -> None:
        self.state = "up"
        self.gate.open(self.service.concurrency)

    async def _begin(self, service: Service) -> Life:
        life = Life(service)
        self._tasks.start_soon(self._watch, life, name=service.address)
        with anyio.move_on_after(self._config.slow_start_s) as slow:
            await life.started.wait()
        if slow.cancelled_caught:
            log.warning("service.still_starting", service=service.address, stack=life.stack())
            await life.started.wait()
        if life.error is not None:
            await life.ended.wait()
            raise life.error
        return life

    async def _watch(self, life: Life) -> None:
        """Own one life; when it ends by itself, decide what comes next."""
        current.set(None)
        await life.live(self._bus, self._config.start_s)
        if life is self._life and not life.leave.is_set():
            self._life = None
            await self._crashed(life.error or RuntimeError("its task was cancelled"))

    async def _crashed(self, cause: BaseException) -> None:
        now = self._bus.time()
        self.state = "crashed"
        self.crashes.append((now, cause))
        self.gate.close()
        self.gate.abort(Unavailable(self.address, f"it crashed: {cause!r}"), *self.gate.inside)
        log.error("service.crashed", service=self.address, error=repr(cause))
        event = ServiceCrashed(service=self.address, error=repr(cause), crashes=len(self.crashes))
        await self._bus.publish(event, sender="kernel")
        recent = sum(1 for at, _ in self.crashes if now - at <= WITHIN_S)
        if recent > CRASHES or self.service.restart == "never":
            await self._give_up(cause)
        else:
            await self._try_again(cause)

    async def _try_again(self, cause: BaseException) -> None:
        try:
            async with self.changing:
                if self.state != "stopped":
                    self._life = await self._begin(self.service)
                    self._up()
        except Exception as error:  # noqa: BLE001 - the run border: it crashed while starting
            error.__cause__ = error.__cause__ or cause
            await self._crashed(error)

    async def _give_up(self, cause: BaseException) -> None:
        self.gate.shut(Unavailable(self.address, f"it is down: {cause!r}"))
        if self._fail(self, cause):
            return
        self.state = "down"
        again_s = None if self.service.restart == "never" else self._backoff_s
        event = ServiceDown(service=self.address, error=repr(cause), again_s=again_s)
        await self._bus.publish(event, sender="kernel")
        if again_s is not None:
            self._backoff_s = min(again_s * 2, 60.0)
            await anyio.sleep(again_s)
            await self._try_again(cause)

    def _listen(self, service: Service) -> None:
        """Subscribe what the service hears; queues of the one before are taken over."""
        before = {s.name: s for s, _ in self._heard}
        for old in before.values():
            self._bus.unsubscribe(old)
        self._heard = []
        for heard in service.heard:
            name = f"{service.address}.{heard.method}"
            subscription = Subscription(name, heard.pattern, heard.size, heard.overflow)
            if name in before:
                subscription.adopt(before[name])
            self._bus.subscribe(subscription)
            self._heard.append((subscription, heard.method))
            deliver = getattr(service, heard.method)
            self._tasks.start_soon(self._bus.serve, subscription, deliver, name=name)

    def _long_waits(self) -> list[Any]:
        route = self._bus.routes
        return [c for c in self.gate.inside if route[type(c.message)].ports[self.address].waits]

    async def drain(self, reason: Unavailable) -> None:
        await self.gate.drain(self._config.drain_s, reason, self._long_waits())

    async def swap(self, new: Service) -> None:
        """Put `new` in this seat: no request is lost; when it does not start, the old stays."""
        new.named(self.address)
        async with self.changing:
            old, old_life = self.service, self._life
            chains = {p.chain for p in self.ports() if p.chain is not None}
            try:
                if old.exclusive:
                    await self._leave_first(old_life)
                life = await self._begin(new)
            except Exception as error:
                if old.exclusive:
                    self._life = await self._begin(old)
                    self._up()
                raise SwapFailed(
                    f"service {self.address!r} was not replaced, its successor did not start: "
                    f"{error}; the old one goes on"
                ) from error
            if not old.exclusive and not _is_guard(old):
                await self.drain(Unavailable(self.address, "it was replaced"))
            old.hand_over(new)
            self.service, self._life = new, life
            self._bus.connect(new, self.gate)
            self._listen(new)
            self._up()
        if old_life is not None and not old.exclusive:
            self._tasks.start_soon(self._retire, old_life, chains, name=f"{self.address}.retire")
        await self._bus.publish(ServiceSwapped(service=self.address), sender="kernel")

    async def _leave_first(self, life: Life | None) -> None:
        await self.drain(Unavailable(self.address, "it was replaced"))
        if life is not None:
            life.leave.set()
            await life.ended.wait()

    async def _retire(self, life: Life, chains: set[Any]) -> None:
        """Stop a replaced service once the calls that run through it as a guard have left."""
        for chain in chains if _is_guard(life.service) else ():
            await chain.emptied()
        life.leave.set()
        await life.ended.wait()

    def ports(self) -> list[Any]:
        return [p for r in self._bus.routes.values() for p in r.ports.values()]

    async def stop(self) -> None:
        """Drain, hear out what is queued, and end the life."""
        async with self.changing:
            state, self.state = self.state, "stopped"
            if state == "up":
                await self.drain(KernelStopped())
            self.gate.shut(KernelStopped())
            for subscription, _ in self._heard:
                self._bus.unsubscribe(subscription)
            with anyio.move_on_after(self._config.drain_s):
                while any(len(s) for s, _ in self._heard):
                    await anyio.lowlevel.checkpoint()
            if self._life is not None:
                self._life.leave.set()
                await self._life.ended.wait()
        await self._bus.publish(ServiceStopped(service=self.address), sender="kernel")


def _is_guard(service: Service) -> bool:
    return type(service).guard is not Service.guard
