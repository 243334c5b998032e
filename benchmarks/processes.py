"""Processes that have taken a step and wait for a letter: what each holds, and what it took.

Spawning is measured from the call up to the wait; waking from the letters to the results.
"""

import asyncio
import time
from typing import Any, Self

from aoskernel import Exit, Kernel, Process, ProcessRef, Program, spawn

from .case import Effort, Figures, Goal, case, resident_bytes
from .composition import default_kernel

SETTLE_S = 0.02
FEW = 100


class Waiter(Program[int], name="waiter"):
    """Takes a step, then waits for a number and adds its own."""

    number: int
    steps: int = 0

    async def step(self, process: Process) -> Self | Exit[int]:
        if self.steps == 0:
            return self.next(steps=1)
        letter: int = await process.receive()
        return Exit(self.number + letter)


async def _spawn(kernel: Kernel, numbers: range) -> list[ProcessRef[int]]:
    return [await spawn(kernel, Waiter(number=number)) for number in numbers]


async def _until(process: ProcessRef[Any], *, live: bool) -> None:
    """Wait until this one, spawned last, waits for its letter, in memory or outside of it."""
    while True:
        status = await process.status()
        waits = status.doing is not None and status.doing.kind == "receive"
        if status.live is live and waits is live:
            return
        await asyncio.sleep(SETTLE_S / 10)


async def _answers_us(waiting: list[ProcessRef[int]]) -> float:
    """Wake all of them; each must add right."""
    began = time.process_time()
    for process in waiting:
        await process.send(1)
    results = [await process for process in waiting]
    assert results == [number + 1 for number in range(len(waiting))]
    return (time.process_time() - began) / len(waiting) * 1e6


@case("processes", "floor: a task and its queue", floor=True)
async def tasks_and_queues(effort: Effort) -> Figures:
    inboxes: list[asyncio.Queue[int]] = []
    results: list[int] = []

    async def wait(number: int, inbox: asyncio.Queue[int]) -> None:
        results.append(number + await inbox.get())

    async with asyncio.TaskGroup() as tasks:

        def start(number: int) -> None:
            inboxes.append(asyncio.Queue())
            tasks.create_task(wait(number, inboxes[-1]))

        for number in range(FEW):
            start(number)
        await asyncio.sleep(SETTLE_S)
        before, began = resident_bytes(), time.process_time()
        for number in range(FEW, FEW + effort.count):
            start(number)
        await asyncio.sleep(SETTLE_S)
        spawned = time.process_time() - began
        held = resident_bytes() - before
        for inbox in inboxes:
            inbox.put_nowait(1)
    assert len(results) == FEW + effort.count
    return {"bytes": held / effort.count, "spawn_us": spawned / effort.count * 1e6}


@case("processes", "live", goals=[Goal("bytes", value=8192), Goal("spawn_us", value=80)])
async def live(effort: Effort) -> Figures:
    async with default_kernel() as kernel:
        waiting = await _spawn(kernel, range(FEW))
        await _until(waiting[-1], live=True)
        before, began = resident_bytes(), time.process_time()
        waiting += await _spawn(kernel, range(FEW, FEW + effort.count))
        await _until(waiting[-1], live=True)
        spawned = time.process_time() - began
        held = resident_bytes() - before
        return {
            "bytes": held / effort.count,
            "spawn_us": spawned / effort.count * 1e6,
            "wake_us": await _answers_us(waiting),
        }


@case("processes", "parked", goals=[Goal("bytes", value=1024)])
async def parked(effort: Effort) -> Figures:
    async with default_kernel(processes={"park_after_s": 0}) as kernel:
        waiting = await _park(kernel, range(FEW))
        before = resident_bytes()
        for first in range(FEW, FEW + effort.count, FEW):
            waiting += await _park(kernel, range(first, min(first + FEW, FEW + effort.count)))
        held = resident_bytes() - before
        return {"bytes": held / effort.count, "wake_us": await _answers_us(waiting)}


async def _park(kernel: Kernel, numbers: range) -> list[ProcessRef[int]]:
    waiting = await _spawn(kernel, numbers)
    await _until(waiting[-1], live=False)
    return waiting
