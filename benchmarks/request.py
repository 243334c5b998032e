"""Requests: ask a service and have its reply, beside a queue and a future.

The kernel runs the handler in its caller's task, so a thousand callers of a handler that waits
for nothing are never inside at once; the floor needs its server's task for each of them.
"""

import asyncio
from collections.abc import Awaitable, Callable

from aoskernel import Kernel, Request, Service, handles
from aoskernel.kernel import Call, Proceed
from aoskernel.kernel.message import R

from .case import Effort, Figures, Goal, case, cpu_us

CALLERS = 1000
BATCH = 2000


class Increment(Request[int], topic="bench.increment", effect="none"):
    """The number after this one."""

    number: int


async def increment(request: Increment) -> int:
    return request.number + 1


class Counting(Service, name="counting"):
    """Knows the next number."""

    @handles(Increment)
    async def increment(self, request: Increment) -> int:
        return request.number + 1


class PassThrough(Service, name="pass_through"):
    """A guard that has nothing against anything."""

    async def guard(self, call: Call[R], proceed: Proceed[R]) -> R:
        return await proceed(call)


Ask = Callable[[Increment], Awaitable[int]]


async def drive(ask: Ask, effort: Effort) -> Figures:
    """One after another, and a thousand callers at once; with one message, or one made each."""
    question = Increment(number=1)
    assert await ask(question) == 2

    async def sequential(times: int) -> None:
        for _ in range(times):
            await ask(question)

    async def sequential_made(times: int) -> None:
        for _ in range(times):
            await ask(Increment(number=1))

    def in_flight(work: Callable[[int], Awaitable[None]]) -> Callable[[int], Awaitable[None]]:
        async def callers(times: int) -> None:
            async with asyncio.TaskGroup() as tasks:
                for _ in range(CALLERS):
                    tasks.create_task(_as_coroutine(work(times // CALLERS)))

        return callers

    async def measure(work: Callable[[int], Awaitable[None]], batch: int = BATCH) -> float:
        return await cpu_us(work, effort, batch=batch)

    return {
        "sequential_us": await measure(sequential),
        "sequential_made_us": await measure(sequential_made),
        "in_flight_us": await measure(in_flight(sequential), 20 * CALLERS),
        "in_flight_made_us": await measure(in_flight(sequential_made), 20 * CALLERS),
    }


async def _as_coroutine(work: Awaitable[None]) -> None:
    await work


@case("request", "floor: queue and future", floor=True)
async def queue_and_future(effort: Effort) -> Figures:
    inbox: asyncio.Queue[tuple[Increment, asyncio.Future[int]]] = asyncio.Queue()
    loop = asyncio.get_running_loop()

    async def serve() -> None:
        while True:
            question, reply = await inbox.get()
            reply.set_result(await increment(question))

    async def ask(question: Increment) -> int:
        reply: asyncio.Future[int] = loop.create_future()
        inbox.put_nowait((question, reply))
        return await reply

    async with asyncio.TaskGroup() as tasks:
        server = tasks.create_task(serve())
        figures = await drive(ask, effort)
        server.cancel()
    return figures


@case("request", "bare await")
async def bare(effort: Effort) -> Figures:
    return await drive(increment, effort)


@case("request", "kernel", goals=[Goal("sequential_us", ratio=0.35)])
async def unguarded(effort: Effort) -> Figures:
    async with Kernel(Counting()) as kernel:
        return await drive(kernel.request, effort)


@case("request", "kernel, five guards", goals=[Goal("sequential_us", ratio=0.7)])
async def guarded(effort: Effort) -> Figures:
    guards = [PassThrough().named(f"guard_{number}") for number in range(5)]
    routes = {Increment.topic: [guard.address for guard in guards]}
    async with Kernel(Counting(), *guards, routes=routes) as kernel:
        return await drive(kernel.request, effort)
