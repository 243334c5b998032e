"""Publishing: CPU per delivery, beside an asyncio.Queue and a task for each subscriber.

Events go out in windows; the publisher waits until a window has been heard by all.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

from aoskernel import Event, Kernel, Service, subscribes

from .case import Effort, Figures, Goal, case, cpu_us

WINDOW = 40


class Ticked(Event, topic="bench.ticked"):
    """Something happened."""

    number: int
    text: str


class Count:
    """Counts deliveries; one waiter waits for a number of them."""

    def __init__(self) -> None:
        self.heard = self._awaited = 0
        self._reached: asyncio.Future[None] | None = None

    def hit(self) -> None:
        self.heard += 1
        if self.heard == self._awaited and self._reached is not None:
            self._reached.set_result(None)

    async def reach(self, number: int) -> None:
        if self.heard < number:
            self._awaited, self._reached = number, asyncio.get_running_loop().create_future()
            await self._reached


Publish = Callable[[Ticked], Awaitable[None]]
Bus = Callable[[Count, int], AbstractAsyncContextManager[Publish]]


async def drive(bus: Bus, effort: Effort) -> Figures:
    figures = {}
    for subscribers in (1, 10, 100):
        count = Count()
        async with bus(count, subscribers) as publish:
            figures[f"{subscribers}_subscribers_us"] = await _deliveries(
                publish, lambda: EVENT, count, subscribers, effort
            )
    async with bus(count := Count(), 1) as publish:
        figures["made_1_subscriber_us"] = await _deliveries(publish, _made, count, 1, effort)
    return figures


EVENT = Ticked(number=1, text="hello")


def _made() -> Ticked:
    return Ticked(number=1, text="hello")


async def _deliveries(
    publish: Publish, make: Callable[[], Ticked], count: Count, subscribers: int, effort: Effort
) -> float:
    async def windows(deliveries: int) -> None:
        for _ in range(deliveries // subscribers // WINDOW):
            expected = count.heard + WINDOW * subscribers
            for _ in range(WINDOW):
                await publish(make())
            await count.reach(expected)

    return await cpu_us(windows, effort, batch=100 * WINDOW)


@case("publish", "floor: a queue each", floor=True)
async def queues(effort: Effort) -> Figures:
    @asynccontextmanager
    async def bus(count: Count, subscribers: int) -> AsyncIterator[Publish]:
        async def hear(event: Ticked) -> None:
            count.hit()

        async def work_off(queue: asyncio.Queue[Ticked]) -> None:
            while True:
                await hear(await queue.get())

        async def publish(event: Ticked) -> None:
            for queue in inboxes:
                queue.put_nowait(event)

        inboxes: list[asyncio.Queue[Ticked]] = [asyncio.Queue() for _ in range(subscribers)]
        async with asyncio.TaskGroup() as tasks:
            workers = [tasks.create_task(work_off(queue)) for queue in inboxes]
            yield publish
            for worker in workers:
                worker.cancel()

    return await drive(bus, effort)


class Hearer(Service, name="hearer"):
    """Counts what it hears."""

    def __init__(self, count: Count) -> None:
        self._count = count

    @subscribes(Ticked)
    async def hear(self, event: Ticked) -> None:
        self._count.hit()


@case(
    "publish",
    "kernel",
    goals=[
        Goal("1_subscribers_us", ratio=1.6),
        Goal("10_subscribers_us", ratio=1.0),
        Goal("100_subscribers_us", ratio=1.0),
    ],
)
async def subscriptions(effort: Effort) -> Figures:
    @asynccontextmanager
    async def bus(count: Count, subscribers: int) -> AsyncIterator[Publish]:
        hearers = [Hearer(count).named(f"hearer_{number}") for number in range(subscribers)]
        async with Kernel(*hearers) as kernel:
            yield kernel.publish

    return await drive(bus, effort)
