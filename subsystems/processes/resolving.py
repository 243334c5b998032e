"""What humans say of calls in doubt, which their processes are stopped for."""

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from ..storage.messages import (
    Annotate,
    Entry,
    FindProcesses,
    Key,
    Pid,
    ProcessRecord,
    ReadLog,
    SaveProcess,
)
from .doubt import Finding, outcome_unknown
from .messages import DoubtfulCall, NotInDoubt, OutcomeUnknown, Resolve

if TYPE_CHECKING:
    from .service import Processes

MOST = 1_000_000


class Doubts:
    """Those of stopped processes, as their logs have them."""

    def __init__(self, service: "Processes") -> None:
        self._service = service

    async def of(self, pid: Pid | None) -> tuple[DoubtfulCall, ...]:
        """Of one process, or of all."""
        if pid is not None:
            return await self._read(await self._service.read(pid))
        found = await self._service.request(FindProcesses(limit=MOST))
        each = [await self._read(record) for record in found]
        return tuple(call for calls in each for call in calls)

    async def _read(self, record: ProcessRecord) -> tuple[DoubtfulCall, ...]:
        if record.state != "stopped" or record.error_kind != OutcomeUnknown.__name__:
            return ()
        return await self._left(record, ())

    async def _left(
        self, record: ProcessRecord, resolved: Sequence[Key]
    ) -> tuple[DoubtfulCall, ...]:
        """Those that nobody has said anything of."""
        log = await self._service.request(ReadLog(pid=record.pid, step=record.step))
        doubts = (_doubtful(record.pid, entry) for entry in log if entry.key not in resolved)
        return tuple(call for call in doubts if call is not None)

    async def resolve(self, request: Resolve) -> None:
        """Write down what a human says; the process goes on when nothing is left in doubt."""
        record = await self._service.read(request.pid)
        keys = _meant(request, record, await self._read(record))
        owned = await self._service.signals.claim(record.pid, "stopped")
        if owned is None:
            raise NotInDoubt(f"process {request.pid} has just gone on")
        said = Finding(outcome=request.outcome, result=request.result, error=request.error)
        notes = (Annotate(key=key, note=said.model_dump_json()) for key in keys)
        saved = _standing(owned, await self._left(owned, keys))
        await self._service.commit(owned, *notes, SaveProcess(record=saved))
        await self._service.resume(owned.pid)


def _doubtful(pid: Pid, entry: Entry) -> DoubtfulCall | None:
    noted = Finding.of(entry)
    if noted is None or noted.outcome != "unknown":
        return None
    return DoubtfulCall(
        pid=pid, key=entry.key, kind=entry.kind, attempts=entry.attempts, why=noted.error
    )


def _meant(
    request: Resolve, record: ProcessRecord, doubts: Sequence[DoubtfulCall]
) -> tuple[Key, ...]:
    """The keys of the calls that are meant. Raises NotInDoubt."""
    calls = {call.key: call for call in doubts}
    if not calls:
        raise NotInDoubt(f"process {record.pid} ({record.state}) is in no doubt of a call")
    if not request.keys and len(calls) > 1:
        raise NotInDoubt(
            f"process {record.pid} is in doubt of {len(calls)} calls; say which you mean, by "
            f"their keys: {', '.join(calls)}"
        )
    keys = request.keys or tuple(calls)
    for key in keys:
        if key not in calls:
            raise NotInDoubt(
                f"no call of process {record.pid} at {key} is in doubt; there are: "
                f"{', '.join(calls)}"
            )
        if calls[key].kind == "think" and request.outcome == "done":
            raise NotInDoubt("a model's answer cannot be made up; let it be asked `again`")
    return keys


def _standing(record: ProcessRecord, left: Sequence[DoubtfulCall]) -> ProcessRecord:
    """Its record for as long as calls are left in doubt, or as it goes on."""
    if not left:
        return replace(record, state="parked", error=None, error_kind=None, waits_in=())
    return replace(record, state="stopped", error=str(outcome_unknown(left)))
