"""The ends of processes, and who waits for them here."""

import asyncio
from typing import TYPE_CHECKING

from ..storage.messages import ENDED, Pid, ProcessRecord
from .messages import NoSuchProcess, ProcessExited

if TYPE_CHECKING:
    from .service import Processes


async def wait(service: "Processes", pid: Pid) -> ProcessRecord:
    """Wait for a process to end, wherever it runs. Raises NoSuchProcess."""
    ended = service.exits.get(pid)
    if ended is None:  # before we look, so that no end is missed
        ended = service.exits[pid] = asyncio.get_running_loop().create_future()
    if pid not in service.live:
        try:
            record = await service.read(pid)
        except NoSuchProcess:
            service.exits.pop(pid, None)
            raise
        if record.state in ENDED:
            tell(service, record)
            return record
    return await asyncio.shield(ended)  # others may wait for it too


def tell(service: "Processes", record: ProcessRecord) -> None:
    """Tell whoever waits here for this one, which has ended."""
    ended = service.exits.pop(record.pid, None)
    if ended is not None and not ended.done():
        ended.set_result(record)


async def announce(service: "Processes", record: ProcessRecord) -> None:
    """Tell everybody here; of others, the doorbell tells."""
    tell(service, record)
    if service.bus.hears(ProcessExited):
        ended = ProcessExited(
            pid=record.pid, program=record.program, state=record.state, error=record.error
        )
        await service.publish(ended)
