"""The process table, as others see it: what there is, and what it is doing."""

import heapq
from collections import Counter
from typing import TYPE_CHECKING

from ..storage.messages import ENDED, FindProcesses, FindStranded, ProcessRecord, ReadProcess
from .messages import (
    Blocked,
    Doing,
    Inspect,
    ListProcesses,
    LiveKind,
    NoSuchProcess,
    OpenStream,
    ProcessStatus,
)
from .stream import DeltaStream

if TYPE_CHECKING:
    from .service import Processes


async def inspect(service: "Processes", request: Inspect) -> ProcessStatus:
    """One process. Raises NoSuchProcess."""
    record = await service.request(ReadProcess(pid=request.pid, key=request.key))
    if record is None:
        which = f"number {request.pid}" if request.key is None else f"key {request.key!r}"
        raise NoSuchProcess(f"there is no process with {which}")
    (status,) = await _statuses(service, (record,))
    return status


async def find(service: "Processes", request: ListProcesses) -> tuple[ProcessStatus, ...]:
    """Those with all of these properties."""
    return await _statuses(service, await service.request(FindProcesses(**request.model_dump())))


async def _statuses(
    service: "Processes", found: tuple[ProcessRecord, ...]
) -> tuple[ProcessStatus, ...]:
    away = tuple(r.pid for r in found if r.pid not in service.live and r.state not in ENDED)
    stranded = await service.request(FindStranded(pids=away)) if away else ()
    return tuple(_status(service, record, record.pid in stranded) for record in found)


def _status(service: "Processes", record: ProcessRecord, stranded: bool) -> ProcessStatus:
    live = service.live.get(record.pid)
    return ProcessStatus(
        record=record if live is None else live.record,
        live=live is not None,
        stranded=stranded,
        doing=Blocked(kind=live.waits_in, since=live.since) if live and live.waits_in else None,
    )


def kinds(service: "Processes") -> tuple[LiveKind, ...]:
    """Those in memory, counted."""
    counted = Counter(
        (live.record.program, live.record.process_class, live.doing)
        for live in service.live.values()
    )
    return tuple(
        LiveKind(program=program, process_class=of_class, doing=doing, processes=number)
        for (program, of_class, doing), number in counted.items()
    )


def doings(service: "Processes", limit: int) -> tuple[Doing, ...]:
    """Those in memory, one by one: at most so many, those that work before the rest."""
    found = heapq.nsmallest(
        limit, service.live.values(), key=lambda live: (bool(live.waits_in), live.since)
    )
    return tuple(Doing(pid=live.record.pid, doing=live.doing) for live in found)


async def stream(service: "Processes", request: OpenStream) -> DeltaStream:
    """What it says from now on; of one that is not here, nothing. Raises NoSuchProcess."""
    live = service.live.get(request.pid)
    if live is not None:
        return live.open_stream()
    await service.read(request.pid)
    stream = DeltaStream()
    stream.close()
    return stream
