"""`aosk kill`, `stop`, `cont`: a signal to processes, wherever they run."""

from pathlib import Path
from typing import NamedTuple

import anyio

from ...kernel import Kernel
from ...kernel.config import Config
from ...subsystems.processes.messages import Kill, Signal, Wait
from ...subsystems.storage.messages import ENDED, Pid, ProcessRecord, ReadProcess
from . import loop, output
from .desk import configured, opened, process
from .exits import ExitCode, Stop

MOMENT_S = 1.0


class Order(NamedTuple):
    """What was typed."""

    signal: Signal
    pids: tuple[int, ...]
    grace_s: float = 5.0
    group: bool = False


def send(config_file: Path | None, order: Order, *, as_json: bool) -> None:
    """To all of them or, where one is not there, to none. Raises Stop."""
    records = loop.run(_sent, configured(config_file), order)
    if as_json:
        told = [{"pid": record.pid, "state": record.state} for record in records]
        output.document({"ok": True, "signal": order.signal, "processes": told})
        return
    for record in records:
        print(f"{record.pid} {record.state}: {_became(order, record)}")


async def _sent(config: Config, order: Order) -> list[ProcessRecord]:
    async with opened(config) as kernel:
        for pid in order.pids:
            _check(await process(kernel, pid))
        for pid in order.pids:
            await kernel.request(
                Kill(pid=Pid(pid), signal=order.signal, grace_s=order.grace_s, group=order.group)
            )
        return [await _after(kernel, order, Pid(pid)) for pid in order.pids]


def _check(record: ProcessRecord) -> None:
    if record.state in ENDED:
        raise Stop(
            f"process {record.pid} has {record.state} already; nothing was sent",
            ExitCode.FAILED,
            "ended",
        )


async def _after(kernel: Kernel, order: Order, pid: Pid) -> ProcessRecord:
    """How it is, when another kernel has had a moment to end it."""
    if order.signal in ("TERM", "KILL"):
        with anyio.move_on_after(MOMENT_S):
            return await kernel.request(Wait(pid=pid))
    record = await kernel.request(ReadProcess(pid=pid))
    assert record is not None
    return record


_EFFECT = {"TERM": ("killed",), "KILL": ("killed",), "STOP": ("stopped",)}


def _became(order: Order, record: ProcessRecord) -> str:
    """Whether it has come into effect, or who will see to that."""
    if record.state in _EFFECT.get(order.signal, ("running", "parked")):
        return "done"
    return (
        f"{order.signal} is on its way; the kernel that runs it carries it out, or the next one "
        "that has its program"
    )
