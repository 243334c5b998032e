"""The bench and virtual time, as plugin authors use them."""

import time

import anyio
import pytest
from anyio import to_thread

from aoskernel.kernel import Call, Event, Proceed, Request, Service, handles, subscribes
from aoskernel.kernel.message import R
from aoskernel.kernel.testing import Bench, run_virtual


class Price(Request[int], topic="shop.price", addressed=True):
    item: str


class Total(Request[int], topic="till.total"):
    items: tuple[str, ...]


class Sold(Event, topic="till.sold"):
    total: int


class Opened(Event, topic="shop.opened"):
    pass


class Till(Service, name="till", needs=[Price]):
    open_ = False

    @handles(Total)
    async def total(self, request: Total) -> int:
        total = sum([await self.request(Price(item=item)) for item in request.items])
        await self.publish(Sold(total=total))
        return total

    @subscribes(Opened)
    async def opened(self, event: Opened) -> None:
        await anyio.sleep(60)
        self.open_ = True


async def test_neighbours_answer_with_a_value() -> None:
    async with Bench(Till()) as bench:
        bench.answer(Price, 3)
        assert await bench.request(Total(items=("tea", "milk"))) == 6


async def test_neighbours_answer_with_a_function() -> None:
    async with Bench(Till()) as bench:
        bench.answer(Price, lambda price: len(price.item))
        assert await bench.request(Total(items=("tea", "milk"))) == 7


async def test_neighbours_answer_with_an_async_function() -> None:
    async def slowly(price: Price) -> int:
        await anyio.sleep(5)
        return len(price.item)

    async with Bench(Till()) as bench:
        bench.answer(Price, slowly)
        assert await bench.request(Total(items=("tea",))) == 3


async def test_neighbours_raise() -> None:
    async with Bench(Till()) as bench:
        bench.answer(Price, LookupError("sold out"))
        with pytest.raises(LookupError, match="sold out"):
            await bench.request(Total(items=("tea",)))


async def test_what_is_not_scripted_says_so() -> None:
    async with Bench(Till()) as bench:
        with pytest.raises(AssertionError, match=r"bench.answer\(Price"):
            await bench.request(Total(items=("tea",)))


async def test_everything_asked_and_told_is_kept() -> None:
    async with Bench(Till()) as bench:
        bench.answer(Price, 3)
        await bench.request(Total(items=("tea", "milk")))
        assert bench.asked(Price) == [Price(item="tea"), Price(item="milk")]
        assert bench.told(Sold) == [Sold(total=6)]


async def test_publishing_settles() -> None:
    till = Till()
    async with Bench(till) as bench:
        await bench.publish(Opened())
        assert till.open_


async def test_a_neighbour_may_have_an_address() -> None:
    class Asks(Till, name="asks"):
        @handles(Total)
        async def total(self, request: Total) -> int:
            return await self.request(Price(item="tea"), to="shop.b")

    bench = Bench(Asks())
    bench.answer(Price, 1, at="shop.a")
    bench.answer(Price, 2, at="shop.b")
    async with bench:
        assert await bench.request(Total(items=())) == 2


async def test_a_guard_is_benched_before_a_scripted_handler() -> None:
    class Twice(Service, name="twice"):
        async def guard(self, call: Call[R], proceed: Proceed[R]) -> R:
            await proceed(call)
            return await proceed(call)

    bench = Bench(Twice(), routes={"shop.price": ["twice"]})
    bench.answer(Price, 4)
    async with bench:
        assert await bench.request(Price(item="tea")) == 4
        assert len(bench.asked(Price)) == 2


def test_an_hour_of_virtual_time_takes_no_time() -> None:
    async def main(hours: int) -> float:
        began = anyio.current_time()
        await anyio.sleep(3600 * hours)
        return anyio.current_time() - began

    began = time.monotonic()
    assert run_virtual(main, 5) == 5 * 3600
    assert time.monotonic() - began < 5


def test_virtual_time_stands_still_while_a_thread_works() -> None:
    async def main() -> None:
        with anyio.fail_after(3600):
            await to_thread.run_sync(time.sleep, 0.05)
        assert anyio.current_time() < 3600

    run_virtual(main)


def test_timers_fire_in_order_on_virtual_time() -> None:
    async def main() -> list[int]:
        fired: list[int] = []

        async def fire(after_s: int) -> None:
            await anyio.sleep(after_s)
            fired.append(after_s)

        async with anyio.create_task_group() as group:
            for after_s in (30, 10, 20):
                group.start_soon(fire, after_s)
        return fired

    assert run_virtual(main) == [10, 20, 30]
