"""What a long conversation costs: as much for the next turn as at its beginning."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import anyio
from system import System

from aoskernel import Process, program, spawn
from aoskernel.drivers.llm.scripted import call


async def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


class Calls:
    """Functions that have begun, Python's and C's, in this thread."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self, frame: FrameType, event: str, arg: Any) -> None:
        self.count += event in ("call", "c_call")


@contextmanager
def counted() -> Iterator[Calls]:
    calls = Calls()
    sys.setprofile(calls)
    try:
        yield calls
    finally:
        sys.setprofile(None)


async def test_a_turn_makes_as_many_calls_after_two_hundred_others(system: System) -> None:
    took: list[int] = []

    @program
    async def talking(self: Process) -> None:
        for n in range(200):
            with counted() as calls:
                reply = await self.think(f"turn {n}")
                await self.call(reply.tool_calls[0])
                await self.think()
            took.append(calls.count)

    def script(ask: Any) -> Any:
        return "done" if ask.messages[-1].role == "tool" else call("add", a=1, b=2)

    tools = {"driver": "python", "functions": (add,)}
    model = {"context_window": 10**7}
    async with system(script, **{"llm.default": model, "tools.files": tools}) as kernel:
        with anyio.fail_after(20):
            await (await spawn(kernel, talking()))
    early, late = min(took[5:25]), min(took[-20:])
    assert late <= early * 1.05
