"""`aosk resume`: a process that was left behind goes on here, and is watched to its end."""

import json
from functools import partial
from pathlib import Path
from typing import Any

from ...kernel import Kernel
from ...kernel.config import Config
from ...subsystems.processes.messages import ProcessStatus, Resume
from ...subsystems.processes.program import ProcessRef, attach
from ...subsystems.storage.messages import Pid
from . import loop, output
from .daemon import importing_from_here
from .desk import configured, driver
from .exits import ExitCode, Stop
from .listing import reason
from .view import view
from .watching import Watch, foreground

OURS = ("assistant", "read_and_think")
PLACES = ("subsystems.processes.assistant", "plugins.cli.programs")

DRAIN_S = 0.5
"""Somebody waits for the end of this command; what is cut is done again."""


def resume(config_file: Path | None, pid: int, *, as_json: bool) -> None:
    """Tell the result. Raises Stop, ProcessFailed."""
    importing_from_here()
    config = _with_ours(configured(config_file))
    driver(config)  # refused where nothing can be left behind
    watch = Watch(view(as_json=as_json))
    try:
        result = loop.run(_to_the_end, config, pid, watch)
    except KeyboardInterrupt:
        told = f"interrupted; process {pid} is suspended, and `aosk resume {pid}` goes on with it"
        raise Stop(told, ExitCode.INTERRUPTED) from None
    watch.done(result if isinstance(result, str) else json.dumps(result, ensure_ascii=False))
    if as_json:
        output.document({"ok": True, "pid": pid, "result": result})


def _with_ours(config: Config) -> Config:
    """With the programs of `aosk run` beside the configuration's, and suspending at once."""
    root = __name__.removesuffix(".plugins.cli.resuming")
    ours = [f"{root}.{place}:{name}" for place, name in zip(PLACES, OURS, strict=True)]
    table = config.services.get("processes", {})
    programs = [*table.get("programs", ()), *ours]
    processes = {**table, "programs": programs, "drain_s": DRAIN_S}
    services = {**config.services, "processes": processes}
    return config.model_copy(update={"services": services})


async def _to_the_end(config: Config, pid: int, watch: Watch) -> Any:
    async with foreground(config) as kernel:
        agent = await watch.to_the_end(kernel, partial(_resumed, Pid(pid)), _suspend)
        return await agent


async def _resumed(pid: Pid, kernel: Kernel) -> ProcessRef[Any]:
    """The process, at work here. Raises Stop where that cannot be."""
    status = await kernel.request(Resume(pid=pid))
    if not status.live:
        raise Stop(_why(status), ExitCode.FAILED, "not_resumed")
    return await attach(kernel, pid)


def _why(status: ProcessStatus) -> str:
    record = status.record
    if record.state in ("running", "parked"):
        return (
            f"process {record.pid} belongs to a kernel that runs; `aosk attach {record.pid}` "
            "follows it. If that kernel was killed a moment ago on another machine, wait until "
            "its lease has run out"
        )
    why = reason(status)
    return f"process {record.pid} is {record.state}" + (f": {why}" if why else "")


async def _suspend(agent: ProcessRef[Any]) -> None:
    """Nothing to do: a process that its kernel leaves is suspended."""
