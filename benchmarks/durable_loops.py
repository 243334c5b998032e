"""Fifty durable agents at once on asyncio's own event loop and on uvloop's, which `aosk` uses."""

import time

from aoskernel import spawn

from .case import Effort, Figures, Goal, case
from .durable import Counting, database
from .durable_agents import AGENTS, TURNS, at_once, conversing, kernel_on

BLOCKS = 2


async def _fifty(effort: Effort) -> Figures:
    """Wall and CPU time of a turn; the model takes no time, and the log is on the disk."""
    turns, blocks = (1, 1) if effort.seconds == 0 else (TURNS, BLOCKS)
    async with database() as at, kernel_on(at.folder, Counting()) as kernel:

        async def talk() -> None:
            await (await spawn(kernel, conversing(turns=turns)))

        await at_once(talk)
        busy, seconds = time.process_time(), 0.0
        for _ in range(blocks):
            seconds += await at_once(talk)
        busy = time.process_time() - busy
        count = AGENTS * turns * blocks
        return {"turn_us": seconds / count * 1e6, "turn_cpu_us": busy / count * 1e6}


@case("durable_loops", "asyncio", floor=True)
async def its_own(effort: Effort) -> Figures:
    return await _fifty(effort)


@case("durable_loops", "uvloop", goals=[Goal("turn_cpu_us", ratio=1.2)], loop="uvloop")
async def uvloops(effort: Effort) -> Figures:
    return await _fifty(effort)
