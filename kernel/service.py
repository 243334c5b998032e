"""Services: a name, the messages it handles, and the messages it needs."""

import inspect
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple, Self, TypeVar, overload

from .call import Call, Envelope, current, hearing, here
from .errors import BootError, KernelStopped
from .message import Event, R, Request, Sink
from .subscription import Overflow

if TYPE_CHECKING:
    from anyio.abc import TaskGroup

    from .bus import Bus

Restart = Literal["always", "on_crash", "never"]
Proceed = Callable[[Call[R]], Awaitable[R]]
"""The rest of a guarded call: further guards, then the handler."""

S = TypeVar("S")
Q = TypeVar("Q", bound=Request[Any])
E = TypeVar("E", bound=Event)
M = TypeVar("M")
Kinds = Iterable[type[Request[Any]]]


Method = Callable[[S, M], Awaitable[R]]


class Handled(NamedTuple):
    """What `@handles` noted on a method."""

    message: type[Request[Any]]
    method: str
    waits: bool


class Heard(NamedTuple):
    """What `@subscribes` noted on a method."""

    patterns: tuple[str, ...]
    method: str
    size: int
    overflow: Overflow


def handles(
    message: type[Q], /, *, waits: bool = False
) -> Callable[[Method[S, Q, R]], Method[S, Q, R]]:
    """Make a method the handler of a request.

    `waits=True` marks a handler that may wait for long (for a process, a letter): while it
    waits its chain lends its permits back, and after a swap it is asked again.
    """

    def mark(method: Method[S, Q, R]) -> Method[S, Q, R]:
        method.__dict__["handled"] = Handled(message, method.__name__, waits)
        return method

    return mark


@overload
def subscribes(
    event: type[E], /, *, size: int = 1024, overflow: Overflow = "drop_oldest"
) -> Callable[[Method[S, E, None]], Method[S, E, None]]: ...
@overload
def subscribes(
    *events: type[Event] | str, size: int = 1024, overflow: Overflow = "drop_oldest"
) -> Callable[[Method[S, Any, None]], Method[S, Any, None]]: ...
def subscribes(
    *events: type[Event] | str, size: int = 1024, overflow: Overflow = "drop_oldest"
) -> Callable[[Method[S, Any, None]], Method[S, Any, None]]:
    """Make a method hear these events, and every event whose topic matches a pattern.

    The method has a queue of its own, `size` events long, worked off in order. When it is
    full, "drop_oldest" drops and counts; "lossless" lets the publisher wait.
    """
    patterns = tuple(event if isinstance(event, str) else event.topic for event in events)

    def mark(method: Method[S, Any, None]) -> Method[S, Any, None]:
        method.__dict__["heard"] = Heard(patterns, method.__name__, size, overflow)
        return method

    return mark


class Service:
    """A part of the system. Subclass it, mark methods, override what you need.

        class Meter(Service, name="meter", needs=[ReadClock]):
            @handles(ReadUsage)
            async def read(self, request: ReadUsage) -> int: ...

    `start` acquires, `run` works for as long as the service lives (optional), `stop`
    releases. When `run` raises, the service has crashed: it is stopped and, unless
    `restart="never"`, started again ("always": also when `run` returns). A handler's error
    is its caller's. `concurrency` bounds how many requests run inside at once.
    `exclusive=True` (a port, a lock) makes a swap stop the old one before the new one starts.
    A service that overrides `guard` can stand on routes; `pinned` warns when it is taken off.
    `driver` is the kind of driver its constructor takes.
    """

    name: ClassVar[str] = ""
    needs: ClassVar[frozenset[type[Request[Any]]]] = frozenset()
    needs_at_start: ClassVar[frozenset[type[Request[Any]]]] = frozenset()
    restart: ClassVar[Restart] = "on_crash"
    exclusive: ClassVar[bool] = False
    pinned: ClassVar[bool] = False
    driver: ClassVar[str] = ""
    concurrency: int | None = None

    __handled__: tuple[Handled, ...] = ()
    __heard__: tuple[Heard, ...] = ()
    __guards__: ClassVar[bool] = False
    address: str = ""
    _bus: "Bus | None" = None
    _tasks: "TaskGroup | None" = None

    def __init_subclass__(
        cls,
        *,
        name: str = "",
        needs: Kinds = (),
        needs_at_start: Kinds = (),
        restart: Restart | None = None,
        exclusive: bool | None = None,
        pinned: bool | None = None,
        driver: str = "",
        concurrency: int | None = None,
    ) -> None:
        super().__init_subclass__()
        cls.name = cls.address = name or cls.name or cls.__name__.lower()
        cls.needs_at_start = cls.needs_at_start | frozenset(needs_at_start)
        cls.needs = cls.needs | frozenset(needs) | cls.needs_at_start
        cls.restart = restart or cls.restart
        cls.exclusive = cls.exclusive if exclusive is None else exclusive
        cls.pinned = cls.pinned if pinned is None else pinned
        cls.driver = driver or cls.driver
        cls.concurrency = concurrency or cls.concurrency
        cls.__guards__ = cls.guard is not Service.guard
        marks = [vars(member) for _, member in inspect.getmembers(cls, inspect.isfunction)]
        cls.__handled__ = tuple(mark["handled"] for mark in marks if "handled" in mark)
        cls.__heard__ = tuple(mark["heard"] for mark in marks if "heard" in mark)

    def named(self, address: str) -> Self:
        """Give this instance an address of its own, e.g. "llm.fast"."""
        self.address = address
        return self

    async def start(self) -> None:
        """Acquire what the service works with; it is up when this returns."""

    async def run(self) -> None:
        """Work until cancelled. Raising is a crash; returning ends only this task."""

    async def stop(self) -> None:
        """Release what `start` acquired; called after a failed start too."""

    def hand_over(self, successor: Any) -> None:
        """Give the live state (queues, windows, circuits) to the one that replaces this.

        Nobody is inside any more and the successor has started; if this raises, it stays.
        """

    async def guard(self, call: Call[R], proceed: Proceed[R]) -> R:
        """Stand on a route: answer, refuse, wait, or `return await proceed(call)`."""
        raise NotImplementedError(f"{self.address} is no guard: it does not override guard()")

    def request(
        self,
        message: Request[R],
        /,
        *,
        to: str | None = None,
        sink: Sink | None = None,
        origin: object = None,
    ) -> Coroutine[Any, Any, R]:
        """Ask another service; the message must be declared in `needs`."""
        if message.__class__ not in self.needs:
            raise BootError(
                f"service {self.address!r} sends {message.topic} without declaring it; "
                f"add {message.__class__.__name__} to the needs= of {type(self).__name__}"
            )
        if self._bus is None:
            raise KernelStopped
        return self._bus.request(message, to, sink, self.address, origin)

    def publish(self, event: Event, /) -> Coroutine[Any, Any, None]:
        """Tell whoever subscribed; waits only for a full lossless queue."""
        if self._bus is None:
            raise KernelStopped
        return self._bus.publish(event, sender=self.address)

    def start_soon(self, work: Callable[..., Awaitable[None]], *args: Any, name: str) -> None:
        """Run `work` in the service's own task group; it ends with the service.

        An exception in it is a crash of the service. It starts a chain of its own: who
        spawned it may return, be cancelled or be drained without it.
        """
        if self._tasks is None:
            raise KernelStopped
        self._tasks.start_soon(self._begin_chain, work, args, name=name)

    async def _begin_chain(self, work: Callable[..., Awaitable[None]], args: Any) -> None:
        current.set(Envelope(here(), self.address, self.bus.time()))
        hearing.set(None)
        await work(*args)

    def addresses(self, message: type[Request[Any]]) -> tuple[str, ...]:
        """Who handles an addressed request at the moment."""
        return self.bus.addresses(message)

    @property
    def bus(self) -> "Bus":
        if self._bus is None:
            raise KernelStopped
        return self._bus

    def bind(self, bus: "Bus | None", tasks: "TaskGroup | None") -> None:
        """Called by the supervisor: where to speak, and where tasks belong."""
        self._bus, self._tasks = bus, tasks
