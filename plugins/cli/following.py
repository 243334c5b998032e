"""`aosk wait` and `aosk attach`: to the end of a process, which may run in any kernel.

What is shown is what is committed, a model's text when it is complete: its pieces are only in
the kernel that runs the process.
"""

import json
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from textwrap import indent

from ...kernel import Kernel
from ...kernel.config import Config
from ...subsystems.processes.messages import Inspect, ProcessFailed, Wait
from ...subsystems.storage.messages import (
    ENDED,
    Entry,
    Key,
    Page,
    Pid,
    ProcessRecord,
    ReadLog,
    ReadPages,
)
from . import loop, output
from .bell import Bell
from .desk import configured, opened, process
from .exits import ExitCode, Stop
from .listing import reason, waiting
from .syscalls import Said, Syscall, syscalls


def wait(config_file: Path | None, pid: int, *, as_json: bool) -> None:
    """Print the result. Raises ProcessFailed."""
    record = _run(_ended, configured(config_file), pid)
    _tell_end(record, as_json=as_json)


def _run(
    work: Callable[[Config, int], Awaitable[ProcessRecord]], config: Config, pid: int
) -> ProcessRecord:
    try:
        return loop.run(work, config, pid)
    except KeyboardInterrupt:
        raise Stop(f"interrupted; process {pid} goes on", ExitCode.INTERRUPTED) from None


def _tell_end(record: ProcessRecord, *, as_json: bool) -> None:
    if record.state != "exited" or record.result is None:
        raise ProcessFailed.of(record)
    result = json.loads(record.result)
    if as_json:
        output.document({"ok": True, "pid": record.pid, "state": "exited", "result": result})
    else:
        print(result if isinstance(result, str) else record.result)


async def _ended(config: Config, pid: int) -> ProcessRecord:
    async with opened(config) as kernel:
        await _advise(kernel, await process(kernel, pid))
        return await kernel.request(Wait(pid=Pid(pid)))


async def _advise(kernel: Kernel, record: ProcessRecord) -> None:
    """Say why this may take long, if it may."""
    if record.state not in ENDED:
        why = reason(await kernel.request(Inspect(pid=record.pid)))
        if why is not None:
            output.tell(f"process {record.pid} does not go on: {why}")


def attach(config_file: Path | None, pid: int, *, as_json: bool) -> None:
    """Each syscall when it is committed, and the end. Raises ProcessFailed."""
    record = _run(partial(_followed, as_json=as_json), configured(config_file), pid)
    _tell_end(record, as_json=as_json)


async def _followed(config: Config, pid: int, *, as_json: bool) -> ProcessRecord:
    async with opened(config) as kernel, Bell.of(kernel) as bell:
        record = await process(kernel, pid)
        await _advise(kernel, record)
        following = _Following(kernel, record)
        await following.news(record)
        if as_json and record.state not in ENDED:
            _show_change(record, as_json=True)
        while record.state not in ENDED:
            before, record = record, await bell.next(record)
            for call in await following.news(record):
                _show(call, as_json=as_json)
            if record.state != before.state:
                _show_change(record, as_json=as_json)
        return record


def _show(call: Syscall, *, as_json: bool) -> None:
    """A line; what a model said stands under it in full."""
    if as_json:
        output.document({"event": "syscall", **call._asdict()})
        return
    print(output.fitting(call.line()), flush=True)
    if call.said:
        print(indent(call.said, "  "), flush=True)


def _show_change(record: ProcessRecord, *, as_json: bool) -> None:
    if as_json:
        output.document({"event": "state", "state": record.state, "waits_in": record.waits_in})
    elif record.state not in ENDED:
        output.tell(" ".join(filter(None, [record.state, waiting(record), record.error])))


class _Following:
    """What of a process's log has been seen."""

    def __init__(self, kernel: Kernel, record: ProcessRecord) -> None:
        self._kernel, self._pid, self._step = kernel, record.pid, record.step
        self._seen: set[Key] = set()
        self._pages: list[Page] = []

    async def news(self, record: ProcessRecord) -> list[Syscall]:
        """What has come out since the last time, in the order of its beginning."""
        new: list[Entry] = []
        for step in range(self._step, record.step + 1):
            log = await self._kernel.request(ReadLog(pid=self._pid, step=step))
            new += [entry for entry in log if entry.settled and entry.key not in self._seen]
        self._step = record.step
        if not new:
            return []
        self._seen |= {entry.key for entry in new}
        last = self._pages[-1].number if self._pages else 0
        self._pages += await self._kernel.request(ReadPages(pid=self._pid, after=last))
        return syscalls(new, Said.on(self._pages), running=True)
