"""A turn of the assistant: spawn it, model, tool, model, its answer; the log kept in memory.

The model and the tool take no time, so what is measured is the kernel: processes, pager,
policy, scheduler, limiter, breaker, journal, storage, and the messages between them.
"""

from dataclasses import dataclass, field
from typing import Any

from aoskernel import assistant, spawn

from .case import Effort, Figures, Goal, case, cpu_us
from .composition import add, default_kernel

TASK = "What is 1 + 2?"
BATCH = 50


@dataclass(slots=True)
class Said:
    """A message of the bare loop."""

    role: str
    text: str = ""
    tool: str = ""
    arguments: dict[str, Any] = field(default_factory=dict)


async def answer(history: list[Said]) -> Said:
    if history[-1].role == "tool":
        return Said("assistant", f"the sum is {history[-1].text}")
    return Said("assistant", tool="add", arguments={"a": 1, "b": 2})


@case("turn", "floor: a bare loop", floor=True)
async def bare_loop(effort: Effort) -> Figures:
    tools = {"add": add}

    async def turn() -> str:
        history = [Said("user", TASK)]
        while True:
            reply = await answer(history)
            history.append(reply)
            if not reply.tool:
                return reply.text
            result = await tools[reply.tool](**reply.arguments)
            history.append(Said("tool", str(result)))

    async def turns(times: int) -> None:
        for _ in range(times):
            assert await turn() == "the sum is 3"

    return {"turn_us": await cpu_us(turns, effort, batch=BATCH)}


@case("turn", "kernel, assistant", goals=[Goal("turn_us", value=250)])
async def assistant_turn(effort: Effort) -> Figures:
    async with default_kernel() as kernel:

        async def turns(times: int) -> None:
            for _ in range(times):
                agent = await spawn(kernel, assistant(task=TASK))
                assert await agent == "the sum is 3"

        return {"turn_us": await cpu_us(turns, effort, batch=BATCH)}
