"""What tests of storage write: processes, commits, vectors."""

import struct
from typing import Any

from aoskernel.subsystems.storage.driver import (
    AddProcess,
    Commit,
    Pid,
    ProcessRecord,
    StorageDriver,
)
from aoskernel.subsystems.storage.messages import Write


def record(pid: Pid, **more: Any) -> ProcessRecord:
    given = {"program": "p", "version": "1", "state_json": "{}", **more}
    return ProcessRecord(pid=pid, **given)


async def born(driver: StorageDriver, **more: Any) -> Pid:
    pid = await driver.new_pid()
    await put(driver, pid, AddProcess(record=record(pid, **more)))
    return pid


async def put(driver: StorageDriver, pid: Pid, *writes: Write, epoch: int = 0) -> None:
    await driver.commit(Commit(pid=pid, epoch=epoch, writes=writes))


def vector(*numbers: float) -> bytes:
    return struct.pack(f"<{len(numbers)}f", *numbers)


EAST, NORTH, WEST = vector(1, 0), vector(0, 1), vector(-1, 0)
NORTHEAST = vector(0.6, 0.8)
