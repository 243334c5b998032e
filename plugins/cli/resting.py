"""`aosk checkpoint`: brings a process to rest, and tells what a resume has to go by."""

from pathlib import Path
from typing import NamedTuple

from ...kernel import Kernel
from ...kernel.config import Config
from ...subsystems.processes.messages import Checkpoint
from ...subsystems.storage.messages import ENDED, FindTenures, ProcessRecord, ReadLog, ReadPages
from . import loop, output
from .bell import Bell
from .desk import configured, opened, process
from .exits import ExitCode, Stop
from .listing import waiting

KIB = 1024


class Rest(NamedTuple):
    """A process, and what the log has of it; a resume replays what its step has said."""

    record: ProcessRecord
    syscalls: int
    replays: int
    size: int

    @classmethod
    async def of(cls, kernel: Kernel, record: ProcessRecord) -> "Rest":
        entries = await kernel.request(ReadLog(pid=record.pid))
        pages = await kernel.request(ReadPages(pid=record.pid))
        texts = [entry.body for entry in entries]
        texts += [page.text for page in pages if page.entry is None]
        size = sum(len(text.encode("utf-8", "surrogatepass")) for text in texts)
        replays = [entry for entry in entries if entry.key.startswith(f"{record.step}:")]
        return cls(record, len(entries), len(replays), size)


def checkpoint(config_file: Path | None, pid: int, *, as_json: bool) -> None:
    """Wait until it has come to rest. Raises Stop where it has ended."""
    try:
        rest = loop.run(_rested, configured(config_file), pid)
    except KeyboardInterrupt:
        told = f"interrupted; process {pid} comes to rest when its syscall ends"
        raise Stop(told, ExitCode.INTERRUPTED) from None
    record = rest.record
    if as_json:
        output.document(
            {
                "ok": True,
                "pid": pid,
                "state": record.state,
                "waits_in": list(record.waits_in),
                "step": record.step,
                "syscalls": rest.syscalls,
                "replays": rest.replays,
                "bytes": rest.size,
            }
        )
        return
    standing = f"{record.state} {waiting(record)}".rstrip()
    print(
        f"{pid} {standing}: all it has said is committed, {rest.syscalls} syscalls with "
        f"{rest.size / KIB:.1f} KiB; a resume replays the {rest.replays} of step {record.step}"
    )


async def _rested(config: Config, pid: int) -> Rest:
    async with opened(config) as kernel, Bell.of(kernel) as bell:
        before = record = await process(kernel, pid)
        if record.state in ENDED:
            raise Stop(f"process {pid} has {record.state} already", ExitCode.FAILED, "ended")
        if await _is_owned(kernel, record):
            await kernel.request(Checkpoint(pid=record.pid))
        while record.epoch == before.epoch and await _is_owned(kernel, record):
            record = await bell.next(record)
        return await Rest.of(kernel, record)


async def _is_owned(kernel: Kernel, record: ProcessRecord) -> bool:
    """Does a living kernel have it in memory?"""
    if record.state != "running":
        return False
    (tenure,) = await kernel.request(FindTenures(pids=(record.pid,)))
    return tenure.kernel is not None
