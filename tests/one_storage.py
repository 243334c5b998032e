"""Several kernels on one storage, one after another or side by side."""

from collections.abc import Callable
from typing import Any, TypeVar
from uuid import uuid4

import anyio
from system import scripted_kernel

from aoskernel import Kernel
from aoskernel.drivers.storage.memory import MemoryStorage
from aoskernel.subsystems.processes.messages import Inspect
from aoskernel.subsystems.processes.service import Processes
from aoskernel.subsystems.storage.driver import StorageDriver
from aoskernel.subsystems.storage.messages import Entry, Pid, ProcessRecord, ReadLog, State

T = TypeVar("T")
_LENT: dict[str, Callable[[], StorageDriver]] = {}


def lent(name: str) -> StorageDriver:
    """What the configuration calls for the driver."""
    return _LENT[name]()


class OneStorage:
    """Makes kernels that share a storage, each with processes of its own.

    No kernel looks for lost processes by itself after its start, so that a test that passes
    has been woken by a doorbell or a timer, not by a sweep.
    """

    def __init__(self, make: Callable[[], StorageDriver] | None = None) -> None:
        """`make` gives each kernel its driver; without it all have one, in memory."""
        self._driver = MemoryStorage()
        self._name = uuid4().hex
        _LENT[self._name] = make or (lambda: self._driver)

    def kernel(
        self, script: Any = None, /, routes: dict[str, Any] | None = None, **tables: dict[str, Any]
    ) -> Kernel:
        storage = {"driver": "one_storage:lent", "name": self._name}
        processes = {"adopt_every_s": 3600.0, **tables.pop("processes", {})}
        given = {"storage": storage, "processes": processes, **tables}
        return scripted_kernel(script, routes=routes or {}, **given)

    @property
    def memory(self) -> MemoryStorage:
        return self._driver


def processes_of(kernel: Kernel) -> Processes:
    service = next(s.service for s in kernel.services() if s.address == "processes")
    assert isinstance(service, Processes)
    return service


async def until(check: Callable[[], Any], seconds: float = 30) -> Any:
    """Wait until it gives something true; async or not."""
    with anyio.fail_after(seconds):
        while not (found := await _of(check)):
            await anyio.sleep(0.002)
    return found


async def _of(check: Callable[[], Any]) -> Any:
    found = check()
    return await found if hasattr(found, "__await__") else found


async def reached(kernel: Kernel, pid: Pid, *states: State, seconds: float = 30) -> ProcessRecord:
    """The process's record, once it is in one of these states."""

    async def look() -> ProcessRecord | None:
        record = (await kernel.request(Inspect(pid=pid))).record
        return record if record.state in states else None

    record: ProcessRecord = await until(look, seconds)
    return record


async def log_of(kernel: Kernel, pid: Pid) -> dict[str, Entry]:
    return {entry.key: entry for entry in await kernel.request(ReadLog(pid=pid))}
