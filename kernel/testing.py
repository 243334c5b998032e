"""For tests: a bench with one real service and scripted neighbours, and virtual time."""

import asyncio
import inspect
import selectors
from collections.abc import Callable, Coroutine
from typing import Any, Self, TypeVar

import anyio
from anyio import to_thread

from .kernel import Kernel
from .message import Event, R, Request
from .service import Handled, Service
from .subscription import Item, Subscription

T = TypeVar("T")
Q = TypeVar("Q", bound=Request[Any])
E = TypeVar("E", bound=Event)


class Neighbour(Service, name="neighbour"):
    """Answers as scripted, and keeps what it was asked."""

    def __init__(self) -> None:
        self.replies: dict[type[Request[Any]], Any] = {}
        self.requests: list[Request[Any]] = []

    async def answer(self, request: Request[Any]) -> Any:
        self.requests.append(request)
        if type(request) not in self.replies:
            raise AssertionError(f"nothing scripted: bench.answer({type(request).__name__}, ...)")
        reply = self.replies[type(request)]
        if isinstance(reply, BaseException):
            raise reply
        reply = reply(request) if callable(reply) else reply
        return await reply if inspect.isawaitable(reply) else reply


class Record(Subscription):
    """Hears everything at once; never has anything to work off."""

    pending = False

    def offer(self, item: Item, urgent: bool) -> bool:
        self.normal.append(item)
        return True


class Bench:
    """One real service in a real kernel; what it needs is answered as scripted.

        async with Bench(Summariser()) as bench:
            bench.answer(Complete, Completion(text="short"))
            assert await bench.request(Summarise(text="long")) == "short"
            assert bench.asked(Complete)[0].prompt == "long"

    A reply is a value, an error, or a function of the request (async or not). What is answered
    before the bench opens may be guarded by the service. `options` go to the Kernel.
    """

    def __init__(self, service: Service, **options: Any) -> None:
        self.service, self._options = service, options
        self._neighbours: dict[str, Neighbour] = {"neighbour": Neighbour()}
        self._record = Record("bench", ("*",), 1, "lossless")

    def answer(self, kind: type[Request[Any]], reply: Any, /, *, at: str = "neighbour") -> None:
        """Script the reply to a request; `at` an address, if told before the bench opens."""
        self._neighbours.setdefault(at, Neighbour().named(at)).replies[kind] = reply

    async def __aenter__(self) -> Self:
        away = {
            kind
            for n in self._neighbours.values()
            for kind in n.replies
            if n.address != Neighbour.address
        }
        for neighbour in self._neighbours.values():
            kinds = set(neighbour.replies)
            if neighbour.address == Neighbour.address:
                kinds |= self.service.needs - away
            kinds -= {handled.message for handled in self.service.__handled__}
            neighbour.__handled__ = tuple(Handled(kind, "answer", False) for kind in kinds)
        self.kernel = Kernel(self.service, *self._neighbours.values(), **self._options)
        await self.kernel.__aenter__()
        self.kernel.bus.subscribe(self._record)
        return self

    async def __aexit__(self, *error: Any) -> bool | None:
        return await self.kernel.__aexit__(*error)

    async def request(self, message: Request[R], /, **how: Any) -> R:
        """Ask the service."""
        return await self.kernel.request(message, **how)

    async def publish(self, event: Event, /) -> None:
        """Tell the service, and wait until it has worked that off."""
        await self.kernel.publish(event)
        await self.settle()

    async def settle(self) -> None:
        """Wait until all queues are worked off."""
        while busy := [queue for queue in self.kernel.bus.subscriptions if queue.pending]:
            await busy[0].settled()

    def asked(self, kind: type[Q]) -> list[Q]:
        """What the service asked, oldest first."""
        asked = [request for n in self._neighbours.values() for request in n.requests]
        return [request for request in asked if isinstance(request, kind)]

    def told(self, kind: type[E]) -> list[E]:
        """What was published, oldest first."""
        return [event for event, _ in self._record.normal if isinstance(event, kind)]


class _Jump(selectors.DefaultSelector):
    """Where a loop would sleep until its next timer, moves the clock there instead."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.threads: anyio.CapacityLimiter | None = None

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if ready or timeout == 0:
            return ready
        if timeout is None or (self.threads is not None and self.threads.borrowed_tokens):
            return super().select(timeout)  # only a thread or a socket can go on: for real
        self.now += timeout
        return ready


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop whose clock jumps to the next timer whenever nothing else is to be done."""

    def __init__(self) -> None:
        self.clock = _Jump()
        super().__init__(self.clock)

    def time(self) -> float:
        return self.clock.now

    def wall(self) -> float:
        """Virtual time begins in 1970."""
        return self.clock.now


def run_virtual(main: Callable[..., Coroutine[Any, Any, T]], *args: Any) -> T:
    """Run `main(*args)` on virtual time: an hour of waiting takes no time at all."""
    loop = VirtualLoop()

    async def run() -> T:
        loop.clock.threads = to_thread.current_default_thread_limiter()
        return await main(*args)

    with asyncio.Runner(loop_factory=lambda: loop) as runner:
        return runner.run(run())
