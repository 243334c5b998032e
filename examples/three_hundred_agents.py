"""Three hundred agents, one limit: the scheduler lets eight model calls run at once.

No agent knows of the limit. It stands in the config of one guard, on the route of every
model call. The model is scripted and counts how many calls are inside it at the same time.
"""

import time

import anyio

from aoskernel import Kernel, Process, program, spawn
from aoskernel.subsystems.llm.messages import Complete

AGENTS, LIMIT = 300, 8


class Gauge:
    """How many are inside, and how many were at most."""

    def __init__(self) -> None:
        self.inside = self.most = 0

    async def answer(self, ask: Complete) -> str:
        self.inside += 1
        self.most = max(self.most, self.inside)
        await anyio.sleep(0.002)
        self.inside -= 1
        return ask.messages[-1].text.upper()


@program
async def shout(self: Process, word: str) -> str:
    return (await self.think(word)).text


async def main() -> None:
    gauge = Gauge()
    services = {
        "llm.default": {"driver": "scripted", "script": gauge.answer, "slots": AGENTS},
        "scheduler": {"slots": {"llm.default": LIMIT}},
    }
    answers = [""] * AGENTS

    began = time.perf_counter()
    async with Kernel.from_config(services=services) as kernel:

        async def run(n: int) -> None:
            answers[n] = await (await spawn(kernel, shout(word=f"agent {n}")))

        async with anyio.create_task_group() as agents:  # all at once: their commits are shared
            for n in range(AGENTS):
                agents.start_soon(run, n)
    seconds = time.perf_counter() - began

    right = sum(answer == f"AGENT {n}" for n, answer in enumerate(answers))
    print(f"{right} of {AGENTS} agents got their own answer in {seconds:.2f} s")
    print(f"at most {gauge.most} model calls ran at once; the limit is {LIMIT}")


if __name__ == "__main__":
    anyio.run(main)
