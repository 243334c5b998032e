"""A process seen by others: from outside, or from its parent."""

from collections.abc import AsyncIterator, Coroutine, Generator
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

from pydantic import TypeAdapter

from ....kernel.message import R, Request
from ...llm.messages import Delta
from ...storage.messages import Pid, ProcessRecord
from ..messages import Inspect, Kill, OpenStream, ProcessFailed, ProcessStatus, Send, Signal, Wait

if TYPE_CHECKING:
    from .process import Process

T = TypeVar("T")


class Requester(Protocol):
    """Whoever can ask: a Kernel, or a service's `request`."""

    def request(
        self, message: Request[R], /, *, to: str | None = None
    ) -> Coroutine[Any, Any, R]: ...


class ProcessRef(Generic[T]):
    """A process seen from outside. Awaiting it gives its result or raises ProcessFailed."""

    def __init__(self, kernel: Requester, pid: Pid, result: TypeAdapter[T]) -> None:
        self._kernel, self.pid, self._result = kernel, pid, result

    def __await__(self) -> Generator[Any, None, T]:
        return self.wait().__await__()

    async def wait(self) -> T:
        return self.result_of(await self._kernel.request(Wait(pid=self.pid)))

    def result_of(self, record: ProcessRecord) -> T:
        """The result in the process's last record. Raises ProcessFailed when there is none."""
        if record.state != "exited" or record.result is None:
            raise ProcessFailed.of(record)
        return self._result.validate_json(record.result)

    async def status(self) -> ProcessStatus:
        return await self._kernel.request(Inspect(pid=self.pid))

    async def send(self, body: Any, /) -> None:
        """Put a letter into its mailbox; the body must be JSON data."""
        await self._kernel.request(Send(to=self.pid, body=body))

    async def kill(
        self, signal: Signal = "TERM", *, grace_s: float = 5.0, group: bool = False
    ) -> None:
        """Send a signal, to a `group` with all descendants."""
        kill = Kill(pid=self.pid, signal=signal, grace_s=grace_s, group=group)
        await self._kernel.request(kill)

    async def stream(self) -> AsyncIterator[Delta]:
        """Every piece of text its model calls produce from now on, until it ends.

        It holds the process back when you are slow; `break` lets it go. A reply that is cut and
        made again begins anew, at offset 0 of the next `attempt`.
        """
        async for delta in await self._kernel.request(OpenStream(pid=self.pid)):
            yield delta


class Child(ProcessRef[T]):
    """A process seen from its parent: what is asked of it here is the parent's syscall."""

    def __init__(self, parent: "Process", pid: Pid, result: TypeAdapter[T]) -> None:
        super().__init__(parent.asking, pid, result)
        self._parent = parent

    async def wait(self) -> T:
        return await self._parent.wait(self)

    async def send(self, body: Any, /) -> None:
        await self._parent.send(self, body)

    async def kill(
        self, signal: Signal = "TERM", *, grace_s: float = 5.0, group: bool = False
    ) -> None:
        await self._parent.kill(self, signal, grace_s=grace_s, group=group)


async def attach(kernel: Requester, pid: Pid | int, /) -> ProcessRef[Any]:
    """A process that already is, by number. Raises NoSuchProcess."""
    status = await kernel.request(Inspect(pid=Pid(pid)))
    return ProcessRef(kernel, status.pid, TypeAdapter(Any))
