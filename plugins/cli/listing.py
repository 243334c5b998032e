"""`aosk ps`: the processes, and why one does not go on."""

import time
from collections.abc import Iterable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple, get_args

from ...kernel.config import Config
from ...subsystems.processes.messages import ListProcesses, ProcessStatus
from ...subsystems.storage.messages import ENDED, FindTenures, ProcessRecord, State, Tenure
from . import loop, output
from .desk import configured, opened
from .exits import ExitCode, Stop

MOST = 10_000
SHOWN = 5
"""Processes that one reason is told of by their numbers."""
WHAT_STRANDED_ONES_NEED = """\
Stranded processes go on when a kernel starts that has their program, such as `aosk up`
with it in [services.processes] programs. `aosk resume PID` goes on with one here,
`aosk kill PID --signal KILL` ends it."""
UNITS = (("d", 86400), ("h", 3600), ("min", 60), ("s", 1))
STRANDED = "stranded"
COLUMNS = ("pid", "program", "state", "for", "waits in", "step", "class", "tenant", "kernel")


def ps(config_file: Path | None, *, ended: bool, states: Sequence[str], as_json: bool) -> None:
    """A table, and under it a line for each process that does not go on by itself."""
    _check(states)
    ended = ended or not ENDED.isdisjoint(states)
    found = loop.run(_found, configured(config_file), ended)
    if len(found) == MOST:
        output.tell(f"The first {MOST}; there are more.")
    chosen = [one for one in found if not states or standing(one.status) in states]
    if as_json:
        output.document({"ok": True, "processes": [told(one) for one in chosen]})
    elif not chosen:
        output.tell("No processes." if ended or states else "No processes; --all shows ended ones.")
    else:
        output.table(COLUMNS, map(_row, chosen))
        _tell_reasons([one.status for one in chosen])


def _check(states: Iterable[str]) -> None:
    known = (*get_args(State), STRANDED)
    for state in states:
        if state not in known:
            raise Stop(f"no state {state!r}; there are: {', '.join(known)}", ExitCode.USAGE)


class Listed(NamedTuple):
    """A process, and who has it."""

    status: ProcessStatus
    tenure: Tenure


async def _found(config: Config, ended: bool) -> list[Listed]:
    async with opened(config) as kernel:
        found = await kernel.request(ListProcesses(ended=ended, limit=MOST))
        pids = tuple(status.pid for status in found)
        tenures = {one.pid: one for one in await kernel.request(FindTenures(pids=pids))}
        return [Listed(status, tenures[status.pid]) for status in found]


def is_stranded(status: ProcessStatus) -> bool:
    """Would it go on, if a kernel had its program?"""
    return status.stranded and status.record.state != "stopped"


def standing(status: ProcessStatus) -> str:
    """Its state, or that it is stranded."""
    return STRANDED if is_stranded(status) else status.record.state


def told(one: Listed) -> dict[str, Any]:
    """A process as JSON; `state` is as it is stored."""
    status, record = one.status, one.status.record
    return {
        "pid": record.pid,
        "program": record.program,
        "version": record.version,
        "state": record.state,
        "stranded": is_stranded(status),
        "reason": reason(status),
        "since": one.tenure.since,
        "kernel": one.tenure.kernel,
        "waits_in": list(record.waits_in),
        "waits_for": list(record.waits_for),
        "wake_at": record.wake_at,
        "step": record.step,
        "class": record.process_class,
        "priority": record.priority,
        "tenant": record.tenant,
        "user": record.user,
        "key": record.key,
        "name": record.name,
        "role": record.role,
        "tags": list(record.tags),
        "parent": record.parent,
        "epoch": record.epoch,
        "bare": record.bare,
    }


def _row(one: Listed) -> tuple[str, ...]:
    record = one.status.record
    return (
        str(record.pid),
        program(record),
        standing(one.status),
        span(time.time() - one.tenure.since),
        waiting(record),
        str(record.step),
        f"{record.process_class} {record.priority}",
        record.tenant,
        str(one.tenure.kernel or ""),
    )


def program(record: ProcessRecord) -> str:
    """Its name, with the version where that is not the first."""
    return record.program if record.version == "1" else f"{record.program} {record.version}"


def waiting(record: ProcessRecord) -> str:
    """What it waits in, for whom or until when."""
    if record.state != "parked":
        return ""
    whom = " ".join(map(str, record.waits_for))
    until = "" if record.wake_at is None else clock(record.wake_at)
    return " ".join(filter(None, [", ".join(record.waits_in), whom, until]))


def span(seconds: float) -> str:
    """How long, by its largest unit."""
    unit, size = next((u for u in UNITS if seconds >= u[1]), UNITS[-1])
    return f"{max(seconds, 0) / size:.0f} {unit}"


def clock(seconds: float) -> str:
    """A time of today, or with its day."""
    at = datetime.fromtimestamp(seconds).astimezone()
    today = at.date() == datetime.now().astimezone().date()
    return at.strftime("%H:%M:%S" if today else "%Y-%m-%d %H:%M")


def _tell_reasons(found: Sequence[ProcessStatus]) -> None:
    """Each once, with the processes that it is the reason of."""
    reasons: dict[str, list[str]] = {}
    for status in found:
        if why := reason(status):
            reasons.setdefault(why, []).append(str(status.pid))
    if reasons:
        print()
        output.facts(
            (", ".join(pids[:SHOWN]) + "…" * (len(pids) > SHOWN), why)
            for why, pids in reasons.items()
        )
    if any(map(is_stranded, found)):
        print(f"\n{WHAT_STRANDED_ONES_NEED}")


def reason(status: ProcessStatus) -> str | None:
    """Why it does not go on, and what would help."""
    record = status.record
    if is_stranded(status):
        return f"no kernel that runs has the program {record.program!r} version {record.version!r}"
    why = ": ".join(filter(None, [record.error_kind, record.error])) or None
    if record.state == "stopped":
        return f"{why or 'stopped by a signal'}; {_help(record)}"
    return why if record.state in ENDED else None


def _help(record: ProcessRecord) -> str:
    match record.error_kind:
        case "OverBudget":
            return f"raise its quota (`aosk quota set`) and `aosk cont {record.pid}`"
        case "OutcomeUnknown":
            return f"say what became of it: `aosk resolve {record.pid} KEY...`"
        case "Erased":
            return f"it cannot; `aosk kill {record.pid} --signal KILL` ends it"
        case "ProgramDiverged":
            return (
                f"run the code that it began with and `aosk cont {record.pid}`, or end it with "
                f"`aosk kill {record.pid} --signal KILL`"
            )
    return f"`aosk cont {record.pid}` lets it go on"
