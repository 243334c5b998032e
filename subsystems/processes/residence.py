"""A process's stay in memory: from the log to its end, or until it is parked."""

import asyncio
from collections.abc import Awaitable
from contextvars import Context
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

from ...kernel.call import Envelope, current, here
from ...kernel.secrets import redacted
from ..storage.messages import (
    ENDED,
    Annotate,
    Announce,
    Entry,
    Erased,
    Fenced,
    Key,
    ProcessRecord,
    ReadLog,
    ReadProcess,
    SaveProcess,
    State,
    StorageUnavailable,
    TakeCommand,
    Write,
)
from . import exits
from .doubt import Finding, outcome_unknown
from .live import Live
from .messages import DoubtfulCall, Origin, ProcessParked, StepDone
from .program import Exit, Process
from .signals import KILLED
from .syscall import Suspended
from .transcript import Transcript

if TYPE_CHECKING:
    from .service import Processes

Verdict = State | Literal["lost"]


def begin_stay(service: "Processes", live: Live, tasks: asyncio.TaskGroup) -> None:
    """A task for this process, which is in memory now."""
    record = live.record
    whose = Origin(
        pid=record.pid,
        program=record.program,
        process_class=record.process_class,
        priority=record.priority,
        tenant=record.tenant,
        user=record.user,
        epoch=record.epoch,
        bounds=record.bounds,
    )
    caused_by = Envelope(here(), service.address, service.bus.time(), whose)
    # In a context of its own: a copy of ours would keep the spawning call alive with it.
    Context().run(
        tasks.create_task,
        _live_through(service, live, caused_by),
        name=f"{record.program}[{record.pid}]",
    )


async def _live_through(service: "Processes", live: Live, caused_by: Envelope) -> None:
    """One stay, in a task of its own."""
    live.task = asyncio.current_task()
    current.set(caused_by)
    try:
        result = await _steps(service, live)
        await _leave(service, live, "exited", result=result)
    except Suspended:
        await _leave(service, live, live.verdict or "parked", error=live.error)
    except asyncio.CancelledError:
        if live.verdict is None:
            raise  # the kernel is ending; the process is suspended
        await _leave(service, live, live.verdict)
    except Fenced:
        await _leave(service, live, "lost")
    except StorageUnavailable:
        await _leave(service, live, "parked")
    except Exception as error:  # noqa: BLE001 - the run border: a program's error is its end
        await _leave(service, live, live.verdict or "failed", error=error)


async def _steps(service: "Processes", live: Live) -> str:
    """Step after step until Exit; gives the result as JSON."""
    definition = service.programs[live.record.program, live.record.version]
    said = Transcript(service, live)
    process = Process(service, live, said)
    if live.record.state_json == "null":  # which is no program's
        raise Erased(f"what process {live.record.pid} has said was erased; it cannot go on")
    state: Any = definition.state.model_validate_json(live.record.state_json)
    while True:
        said.begin(live.record.step, await _read_log(service, live))
        state = await _step(service, live, definition.step(process, state))
        if definition.single or isinstance(state, Exit):
            result = state.result if isinstance(state, Exit) else state
            return definition.result.dump_json(result).decode()
        live.record = replace(
            live.record, step=live.record.step + 1, state_json=state.model_dump_json()
        )
        # Lazily: what is lost of it in a crash, the step's log gives again.
        await service.commit(live.record, SaveProcess(record=live.record), lazy=True)


async def _step(service: "Processes", live: Live, work: Awaitable[Any]) -> Any:
    """One step; that it is done is told if anybody listens."""
    if not service.bus.hears(StepDone):
        return await work
    began = service.bus.time()
    try:
        state = await work
    except Exception:  # one that was cut is taken again, or never ends
        await _tell_step(service, live, True, service.bus.time() - began)
        raise
    await _tell_step(service, live, False, service.bus.time() - began)
    return state


async def _tell_step(service: "Processes", live: Live, failed: bool, seconds: float) -> None:
    done = StepDone(pid=live.record.pid, step=live.record.step, failed=failed, seconds=seconds)
    await service.publish(done)


async def _read_log(service: "Processes", live: Live) -> dict[Key, Entry]:
    """What the log knows of the step that begins."""
    if live.fresh:
        return {}
    live.fresh = True  # the steps after this one are
    log = await service.request(ReadLog(pid=live.record.pid, step=live.record.step))
    return {entry.key: entry for entry in log}


async def _leave(
    service: "Processes",
    live: Live,
    verdict: Verdict,
    *,
    result: str | None = None,
    error: Exception | None = None,
) -> None:
    """Leave memory: ended, parked or stopped; lost, it is somebody else's already."""
    live.sealed = True
    if live.doubts and verdict in ("parked", "stopped"):
        verdict, error = "stopped", error or outcome_unknown(live.doubts)
    if verdict == "lost" or not await _saved(service, live, _left(live, verdict, result, error)):
        service.forget(live)
        # Its end may have been told while we took it for ours.
        await service.adoption.ring((live.record.pid,))
        return
    service.forget(live)
    record = live.record
    if record.state in ENDED:
        await exits.announce(service, record)
        return
    await service.publish(ProcessParked(pid=record.pid, waits_in=live.waits_in))
    if record.state == "stopped":
        await service.signals.after_leaving(record.pid)
        return
    service.adoption.note(record.wake_at)
    await service.resume(record.pid)  # what it waits for may have come while it was leaving


def _left(live: Live, state: State, result: str | None, error: Exception | None) -> ProcessRecord:
    """The record of a process that leaves."""
    if state == "killed":
        error = None  # what its clean-up ran into is not how it ended
    record = replace(
        live.record,
        state=state,
        result=result,
        error=KILLED if state == "killed" else redacted(str(error)) if error else None,
        error_kind=type(error).__name__ if error else None,
    )
    return live.parked(record)


async def _saved(service: "Processes", live: Live, record: ProcessRecord) -> bool:
    """Write it, however long the database is away. Not if it is somebody else's by then."""
    noted = [Annotate(key=call.key, note=_unknown(call)) for call in live.doubts]
    taken = [TakeCommand(number=number, signal=said) for number, said in live.commands.items()]
    is_heard = live.rests or live.followed_until > service.bus.time()
    more: list[Write] = [*noted, *taken, *([Announce()] if is_heard else [])]
    while True:
        try:
            if not await _written(service, record, *more):
                return False
        except StorageUnavailable:
            if service.ending:
                return False
        else:
            live.record = record
            return True


async def _written(service: "Processes", record: ProcessRecord, *more: Write) -> bool:
    """Is it there, be it by an attempt before this one, whose answer was lost?"""
    try:
        await service.commit(record, SaveProcess(record=record), *more)
    except Fenced:
        found = await service.request(ReadProcess(pid=record.pid))
        return found is not None and (found.epoch, found.state) == (record.epoch, record.state)
    return True


def _unknown(call: DoubtfulCall) -> str:
    return Finding(outcome="unknown", error=call.why).model_dump_json()
