"""Supervision: a seat starts its service, restarts it, lets another take over, and stops it."""

import asyncio
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

import anyio

from . import events
from .bus import Chain
from .call import current
from .errors import KernelStopped, StartTimeout, SwapFailed, Unavailable
from .gate import LAST_WORDS_S, Gate, Reason
from .log import log
from .service import Heard, Service
from .subscription import Subscription

if TYPE_CHECKING:
    from .kernel import Kernel

CRASHES, WITHIN_S = 5, 30.0
"""Restart intensity: so many crashes within so many seconds are borne, one more is not."""
BACKOFF_S, MAX_BACKOFF_S = 1.0, 60.0


class Seat:
    """A service in its place. `state`: new, starting, up, crashed, down, stopped."""

    def __init__(self, service: Service, kernel: "Kernel") -> None:
        self.service, self.address = service, service.address
        self.state, self.gate = "new", Gate()
        self.crashes: deque[tuple[float, Exception]] = deque(maxlen=CRASHES + 1)
        self._kernel, self._bus = kernel, kernel.bus
        self._queues: dict[Heard, Subscription] = {}
        self._error: Exception | None = None  # what the last life died of
        self._leaving = False  # the next death is the last
        self._backoff_s = BACKOFF_S
        self._scope, self._started, self._ended = anyio.CancelScope(), anyio.Event(), anyio.Event()
        self._ended.set()

    # Lives

    async def start(self) -> None:
        """Bring the service up; raises what its `start` raised."""
        self._listen()
        await self._begin()
        self._open()

    async def _begin(self) -> None:
        self._launch("starting")
        await self._started.wait()
        if self._ended.is_set():
            raise self._error or KernelStopped()

    def _launch(self, state: str) -> None:
        self.state, self._error = state, None
        self._scope, self._started, self._ended = anyio.CancelScope(), anyio.Event(), anyio.Event()
        self._kernel.tasks.start_soon(self._keep, name=self.address)

    def _open(self) -> None:
        self.state, self._error = "up", None
        self._listen()
        self.gate.open(self.service.concurrency)
        self._bus.tell(events.ServiceStarted(service=self.address))

    async def _keep(self) -> None:
        """Give the service one life after another."""
        current.set(None)
        pause_s: float | None = 0.0
        try:
            with self._scope:
                while pause_s is not None:
                    await anyio.sleep(pause_s)
                    await self._live()
                    pause_s = self._bear(self._error or RuntimeError("it ended by itself"))
        finally:
            self._started.set()
            self._ended.set()

    async def _live(self) -> None:
        """One life, from start to stop; `_error` says what it died of."""
        service, task = self.service, asyncio.current_task()
        assert task is not None
        try:
            async with anyio.create_task_group() as tasks:
                service.bind(self._bus, tasks)
                watchdog = anyio.CancelScope()
                tasks.start_soon(self._watch_start, watchdog, task)
                await service.start()
                watchdog.cancel()
                if self.state != "starting":
                    self._open()
                self._started.set()
                service.start_soon(self._run, name=f"{self.address}.run")
                await anyio.sleep_forever()
        except Exception as error:  # noqa: BLE001 - the run border: a service's crash is a fact
            self._error = _bare(error)
            if self.state == "up":
                self.gate.close()
                await self.gate.clear(self._unavailable(f"it crashed: {self._error!r}"))
        finally:
            with anyio.move_on_after(LAST_WORDS_S, shield=True):
                try:
                    await service.stop()
                except Exception:  # noqa: BLE001 - the run border
                    log.exception("service.stop_failed", service=self.address)
            service.bind(None, None)

    async def _run(self) -> None:
        await self.service.run()
        if self.service.restart == "always" and type(self.service).run is not Service.run:
            raise RuntimeError("run() returned, and restart is 'always'")

    async def _watch_start(self, scope: anyio.CancelScope, task: "asyncio.Task[Any]") -> None:
        slow_s, start_s = self._kernel.config.slow_start_s, self._kernel.config.start_s
        with scope:
            await anyio.sleep(min(slow_s, start_s))
            log.warning("service.still_starting", service=self.address, stack=_stack(task))
            await anyio.sleep(start_s - slow_s)
            raise StartTimeout(
                f"service {self.address!r} was still starting after {start_s:g} s; raise "
                f"[kernel] start_s if it only needs longer. It stood at\n{_stack(task)}"
            )

    def _bear(self, cause: Exception) -> float | None:
        """Count a crash; how long to wait before the next start, None for ever."""
        if self._leaving or self.state == "starting":
            return None
        now, never, told = self._bus.time(), self.service.restart == "never", repr(cause)
        if self.crashes and now - self.crashes[-1][0] > WITHIN_S + self._backoff_s:
            self._backoff_s = BACKOFF_S
        self.state = "crashed"
        self.crashes.append((now, cause))
        recent = sum(now - at <= WITHIN_S for at, _ in self.crashes)
        log.error("service.crashed", service=self.address, error=told)
        self._bus.tell(events.ServiceCrashed(service=self.address, error=told, crashes=recent))
        if recent <= CRASHES and self._backoff_s == BACKOFF_S and not never:
            return 0.0
        self.gate.close(self._unavailable(f"it is down: {told}"))
        if self._kernel.fail(self, cause):
            return None
        self.state = "down"
        self._deafen()
        again_s = None if never else self._backoff_s
        self._backoff_s = min(self._backoff_s * 2, MAX_BACKOFF_S)
        self._bus.tell(events.ServiceDown(service=self.address, error=told, again_s=again_s))
        return again_s

    def _unavailable(self, why: str) -> Reason:
        return partial(Unavailable, self.address, why)

    # Events

    def _listen(self) -> None:
        """Subscribe what the service hears; a queue that is there already goes on."""
        self._deafen(keep=self.service.__heard__)
        for heard in self.service.__heard__:
            if heard not in self._queues:
                name = f"{self.address}.{heard.method}"
                queue = Subscription(name, heard.patterns, heard.size, heard.overflow)
                self._bus.subscribe(queue)
                self._queues[heard] = queue
                self._kernel.tasks.start_soon(queue.serve, self.gate, name=name)
            self._queues[heard].deliver = getattr(self.service, heard.method)

    def _deafen(self, keep: tuple[Heard, ...] = ()) -> None:
        for heard in self._queues.keys() - set(keep):
            self._bus.unsubscribe(self._queues.pop(heard))

    # Change and end

    async def take_over(self, old: "Seat", rewire: Callable[[], None]) -> None:
        """Replace another seat: no request is lost; when this one does not start, it stays.

        `rewire` points the routes here, in the same breath as the state is handed over.
        """
        self.gate, old._leaving = old.gate, True
        try:
            if old.service.exclusive:
                await old._drain()
                await old._end()
            await self._begin()
            if not old.service.exclusive:
                await old._drain()
            if self._ended.is_set():
                raise self._error or KernelStopped()
            if old._error is None:
                old.service.hand_over(self.service)
        except BaseException as error:
            with anyio.CancelScope(shield=True):
                await self._end()
            old._go_on()
            if not isinstance(error, Exception):
                raise
            raise SwapFailed(
                f"service {self.address!r} was not replaced, its successor did not start: "
                f"{error!r}; the old one goes on"
            ) from error
        self._queues, old._queues, old.gate = old._queues, {}, Gate()
        rewire()
        self._open()
        self._bus.tell(events.ServiceSwapped(service=self.address))
        through = self._bus.outdated(old.service)
        self._kernel.tasks.start_soon(old._retire, through, name=f"{self.address}.retire")

    def _go_on(self) -> None:
        """Stay after all; a service that ended meanwhile is started again."""
        self._leaving = False
        if self._ended.is_set() and self.state != "down":
            self._launch("crashed")
        elif self.state == "up":
            self._open()

    async def _retire(self, through: list[Chain]) -> None:
        """End once the calls that run through this service as a guard have left."""
        for chain in through:
            await chain.emptied()
        await self._end()

    async def _drain(self) -> None:
        reason = self._unavailable("it was replaced")
        await self.gate.drain(self._kernel.config.drain_s, reason)

    async def _end(self) -> None:
        self._scope.cancel()
        await self._ended.wait()

    async def stop(self) -> None:
        """Hear out what is queued, drain, and end."""
        self._leaving, queues, drain_s = True, self._queues.values(), self._kernel.config.drain_s
        self._queues = {}
        for queue in queues:
            self._bus.unsubscribe(queue)
        if self.state == "up":
            with anyio.move_on_after(drain_s):
                for queue in queues:
                    await queue.settled()
            await self.gate.drain(drain_s, KernelStopped)
        self.gate.close(KernelStopped)
        await self._end()
        if self.state != "new":
            self._bus.tell(events.ServiceStopped(service=self.address))
        self.state = "stopped"


def _bare(error: Exception) -> Exception:
    """The one error that a task group wrapped, or the group of several."""
    while isinstance(error, ExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return error


def _stack(task: "asyncio.Task[Any]") -> str:
    """Where a task stands, innermost last."""
    lines: list[str] = []
    coroutine: Any = task.get_coro()
    while frame := getattr(coroutine, "cr_frame", None):
        lines.append(f"  {frame.f_code.co_filename}:{frame.f_lineno} in {frame.f_code.co_name}")
        coroutine = getattr(coroutine, "cr_await", None)
    return "\n".join(lines)
