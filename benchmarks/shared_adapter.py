"""Our side of the comparison with other frameworks; `peers.py` passes this file to their harness.

The harness (see README.md) brings the modules `common` and `bench_*`, drives every framework with
the same loops, and checks every answer. Ours makes a pydantic message for each, as its users do.
"""

import sys
from importlib import import_module
from pathlib import Path
from typing import Any

from aoskernel import (
    Event,
    Kernel,
    Process,
    Request,
    Service,
    assistant,
    handles,
    program,
    spawn,
    subscribes,
)

sys.path.append(str(Path(__file__).resolve().parent.parent))
from benchmarks.composition import default_kernel
from benchmarks.request import PassThrough

impl = import_module("common").impl
Metrics = dict[str, tuple[float, str]]


class Said(Event, topic="bench.said"):
    """What is published."""

    seq: int
    text: str


class Asked(Request[int], topic="bench.asked", effect="none"):
    """What is asked: the number after this one."""

    n: int


class Answering(Service, name="answering"):
    """Knows the next number."""

    @handles(Asked)
    async def answer(self, request: Asked) -> int:
        return request.n + 1


class Hearing(Service, name="hearing"):
    """Counts what it hears."""

    def __init__(self, count: Any) -> None:
        self._count = count

    @subscribes(Said)
    async def hear(self, event: Said) -> None:
        self._count.hit()


@program
async def idle(self: Process, number: int) -> int:
    """Waits for a letter."""
    letter: int = await self.receive()
    return number + letter


@impl("bus_pubsub", "aoskernel")
async def bus_pubsub(parameters: dict[str, Any]) -> Metrics:
    bench = import_module("bench_bus_pubsub")
    count = bench.Count()
    hearers = [Hearing(count).named(f"hearing_{n}") for n in range(parameters["subs"])]
    async with Kernel(*hearers) as kernel:
        return await bench.drive(
            parameters, kernel.publish, count, make=lambda seq, text: Said(seq=seq, text=text)
        )


async def _requests(parameters: dict[str, Any], guards: int) -> Metrics:
    stack = [PassThrough().named(f"guard_{number}") for number in range(guards)]
    routes = {Asked.topic: [guard.address for guard in stack]}
    async with Kernel(Answering(), *stack, routes=routes) as kernel:
        return await import_module("bench_bus_request").drive(
            parameters, kernel.request, make=lambda n: Asked(n=n), get=lambda reply: reply
        )


@impl("bus_request", "aoskernel")
async def bus_request(parameters: dict[str, Any]) -> Metrics:
    return await _requests(parameters, guards=0)


@impl("bus_request", "aoskernel-5-guards")
async def bus_request_guarded(parameters: dict[str, Any]) -> Metrics:
    return await _requests(parameters, guards=5)


@impl("turn", "aoskernel")
async def turn(parameters: dict[str, Any]) -> Metrics:
    """Each turn is a process of its own, spawned, journaled and ended."""
    async with default_kernel() as kernel:

        async def conversation(number: int) -> None:
            pass

        async def one(state: None, text: str) -> str:
            return await (await spawn(kernel, assistant(task=text)))

        return await import_module("bench_turn").drive(parameters, conversation, one)


@impl("idle_agents", "aoskernel")
async def idle_agents(parameters: dict[str, Any]) -> Metrics:
    async with default_kernel() as kernel:

        async def make(number: int) -> None:
            await spawn(kernel, idle(number=number))

        return await import_module("bench_turn").spawn(parameters, make)
