"""What the guards cost a turn together: the turn of `turn`, beside guards that pass all through.

The floor has as many guards on each route as the default config, and none of them does
anything; so it writes no intents either.
"""

from typing import Any

from aoskernel import assistant, spawn

from .case import Effort, Figures, Goal, case, cpu_us
from .composition import default_kernel
from .request import PassThrough
from .turn import BATCH, TASK

TOOLS = ("policy", "retry", "scheduler", "quota", "limiter", "breaker", "journal")
MODELS = (*TOOLS, "failover")


async def turn_us(effort: Effort, *passing: PassThrough, **tables: Any) -> float:
    async with default_kernel(*passing, **tables) as kernel:

        async def turns(times: int) -> None:
            for _ in range(times):
                agent = await spawn(kernel, assistant(task=TASK))
                assert await agent == "the sum is 3"

        return await cpu_us(turns, effort, batch=BATCH)


@case("guards", "floor: as many that pass", floor=True)
async def passing(effort: Effort) -> Figures:
    guards = [PassThrough().named(f"pass.{number}") for number in range(len(MODELS))]
    names = [guard.address for guard in guards]
    routes = {
        "llm.complete": {"off": list(MODELS), "guards": names},
        "tools.call": {"off": list(TOOLS), "guards": names[: len(TOOLS)]},
    }
    return {"turn_us": await turn_us(effort, *guards, routes=routes)}


@case("guards", "all of the default config", goals=[Goal("turn_us", ratio=1.5)])
async def real(effort: Effort) -> Figures:
    return {"turn_us": await turn_us(effort)}
