"""How a process is born: its record, what binds it, and who has its key already."""

from typing import TYPE_CHECKING, NamedTuple

from ..policy.messages import Bounds
from ..quota.messages import Quota, of_process
from ..storage.messages import AddProcess, NewPid, Pid, ProcessRecord, ReadProcess, Write
from .messages import ProcessSpawned, Spawn

if TYPE_CHECKING:
    from .service import Processes

_NONE = Quota()


async def prepare(service: "Processes", request: Spawn) -> tuple[ProcessRecord, tuple[Write, ...]]:
    """The record of a process to be, and how it is born; or of the one that has its key."""
    definition = service.register(request.program)
    if request.key is not None:
        known = await service.request(ReadProcess(key=request.key))
        if known is not None:
            return known, ()
    pid, inherited = await service.request(NewPid()), await _inherited(service, request)
    bounds = request.bounds
    record = ProcessRecord(
        pid=pid,
        program=definition.name,
        version=definition.version,
        state_json=request.state_json,
        key=request.key,
        name=request.name,
        role=request.role,
        tags=request.tags,
        parent=request.parent,
        bound=request.bound,
        process_class=request.process_class,
        priority=request.priority,
        tenant=request.tenant,
        user=request.user,
        quotas=inherited.quotas if request.quota is None else (*inherited.quotas, pid),
        bounds=inherited.bounds if bounds is None else (*inherited.bounds, bounds.written()),
    )
    service.newborn.add(pid)
    quota, now = request.quota or _NONE, service.bus.wall()
    return record, (AddProcess(record=record), *quota.accounts(of_process(pid), now))


class Inherited(NamedTuple):
    """What binds a process because it binds its parent."""

    quotas: tuple[Pid, ...]
    bounds: tuple[str, ...]


async def _inherited(service: "Processes", request: Spawn) -> Inherited:
    """What binds it already. A first bound of its own comes within those of the configuration."""
    if request.parent is None:
        return Inherited((), ())
    live = service.live.get(request.parent)
    parent = live.record if live is not None else await service.read(request.parent)
    return Inherited(parent.quotas, parent.bounds or _configured(request.bounds))


def _configured(bounds: Bounds | None) -> tuple[str, ...]:
    """What binds a parent without bounds: what a child is given stays within that."""
    return () if bounds is None else (Bounds().written(),)


async def announce(service: "Processes", record: ProcessRecord) -> None:
    """Tell whoever listens that it has begun."""
    begun = ProcessSpawned(
        pid=record.pid,
        program=record.program,
        name=record.name,
        process_class=record.process_class,
        priority=record.priority,
    )
    await service.publish(begun)
