"""The chained log: what a turn costs with it and without, how fast it is written and verified.

With and without are two kernels on one database, which have their turns one after the other.
`row_us` is the time of a row when 64 processes at once commit eight in a batch, `commit_us` when
they commit one; a link is verified from the database, body and all.
"""

import time
from contextlib import AsyncExitStack, aclosing
from functools import partial

import anyio

from aoskernel import Kernel, spawn
from aoskernel.drivers.storage.embedded import Embedded
from aoskernel.subsystems.storage.driver import (
    AddProcess,
    Commit,
    Pid,
    ProcessRecord,
    Settle,
    Verifier,
)
from aoskernel.subsystems.storage.messages import NewPid
from aoskernel.subsystems.storage.service import Storage

from .case import Effort, Figures, Goal, case
from .composition import default_kernel, script
from .durable import database
from .durable_agents import conversing

BLOCKS, TURNS = 40, 10
TOGETHER, SOME, ROWS = 64, 8, 51_200
BODY = '"' + "x" * 198 + '"'
MARK = "00" * 12


def _kernel(folder: str, *, audit: bool) -> Kernel:
    storage = {"driver": "embedded", "folder": folder, "audit": audit, "namespace": str(audit)}
    model = {"driver": "scripted", "script": script, "slots": 50}
    return default_kernel(**{"storage": storage, "llm.default": model})


async def _turns(effort: Effort, agents: int) -> Figures:
    blocks, turns = (1, 1) if effort.seconds == 0 else (BLOCKS, TURNS)
    took = {True: 0.0, False: 0.0}
    async with database() as at, AsyncExitStack() as open_:
        kernels = {
            audit: await open_.enter_async_context(_kernel(at.folder, audit=audit))
            for audit in took
        }

        async def talk(kernel: Kernel) -> None:
            await (await spawn(kernel, conversing(turns=turns)))

        for block in range(-1, blocks):
            for audit in (True, False) if block % 2 else (False, True):
                began = time.perf_counter()
                async with anyio.create_task_group() as tasks:
                    for _ in range(agents):
                        tasks.start_soon(talk, kernels[audit])
                took[audit] += time.perf_counter() - began if block >= 0 else 0
    each = agents * turns * blocks
    return {
        "with_ms": took[True] / each * 1e3,
        "without_ms": took[False] / each * 1e3,
        "turn_x": took[True] / took[False],
    }


@case("audit", "a turn of one agent", goals=[Goal("turn_x", value=1.1)])
async def one(effort: Effort) -> Figures:
    return await _turns(effort, 1)


@case("audit", "a turn of fifty agents", goals=[Goal("turn_x", value=1.1)])
async def fifty(effort: Effort) -> Figures:
    return await _turns(effort, 50)


async def _write(kernel: Kernel, rows: int, each: int) -> float:
    """Microseconds for one of so many rows, where `each` commit has some."""
    pids = [await kernel.request(NewPid()) for _ in range(TOGETHER)]
    for pid in pids:
        born = ProcessRecord(pid=pid, program="p", version="1", state_json="{}")
        await kernel.request(Commit(pid=pid, writes=(AddProcess(record=born),)))

    async def work(pid: Pid) -> None:
        for first in range(0, rows // TOGETHER, each):
            outcomes = (
                Settle(key=f"0:{n}", kind="call", fingerprint=MARK, body=BODY)
                for n in range(first, first + each)
            )
            await kernel.request(Commit(pid=pid, writes=tuple(outcomes)))

    began = time.perf_counter()
    async with anyio.create_task_group() as tasks:
        for pid in pids:
            tasks.start_soon(partial(work, pid))
    return (time.perf_counter() - began) / rows * 1e6


@case("audit", "rows", goals=[Goal("row_us", value=100)])
async def rows(effort: Effort) -> Figures:
    count = TOGETHER * SOME if effort.seconds == 0 else ROWS
    figures: Figures = {}
    async with database() as at:
        driver = Embedded(folder=at.folder)
        async with Kernel(Storage(driver)) as kernel:
            figures["row_us"] = await _write(kernel, count, SOME)
            figures["commit_us"] = await _write(kernel, count, 1)
            verifier, began = Verifier({}), time.perf_counter()
            async with aclosing(driver.trail()) as items:
                async for item in items:
                    verifier.take(item)
            verifier.end()
            assert not verifier.faults
            figures["verified_us"] = (time.perf_counter() - began) / verifier.links * 1e6
            figures["links"] = verifier.links
    return figures
