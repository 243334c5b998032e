"""Places that kernels share: never more than there are, whoever asks and whatever the driver."""

import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import anyio.lowlevel
from one_storage import until
from postgres import Make, opened

from aoskernel.subsystems.storage.driver import (
    Held,
    HoldSeats,
    ReadSeats,
    SeatsCalled,
    SharesSeats,
    StorageDriver,
)


class Holder:
    """One that asks for places of a name with spaces in it."""

    def __init__(self, driver: StorageDriver, name: str, places: int = 4) -> None:
        assert isinstance(driver, SharesSeats)
        self.driver, self.name, self.places, self.turn = driver, name, places, 0

    def said(self, used: int = 0, *, most: int, wants: bool = False) -> HoldSeats:
        self.turn += 1
        whose: dict[str, Any] = {"name": "the key", "holder": self.name, "turn": self.turn}
        return HoldSeats(places=self.places, used=used, wants=wants, most=most, **whose)

    async def want(self, used: int = 0, most: int = 1) -> Held:
        return await self.driver.hold(self.said(used, wants=True, most=max(most, used + 1)))

    async def keep(self, used: int = 0, most: int | None = None) -> Held:
        return await self.driver.hold(self.said(used, most=used if most is None else most))


@asynccontextmanager
async def hearing(driver: StorageDriver) -> AsyncIterator[list[SeatsCalled]]:
    heard: list[SeatsCalled] = []
    assert isinstance(driver, SharesSeats)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(driver.hear_seats, heard.append)
        await anyio.lowlevel.checkpoint()
        yield heard
        tasks.cancel_scope.cancel()


async def test_a_block_is_what_there_is_and_no_more_than_the_places(driver: StorageDriver) -> None:
    a, b = Holder(driver, "a"), Holder(driver, "b")
    async with opened(driver):
        assert (await a.want(most=3)).held == 3
        assert (await b.want(most=3)).held == 1
        refused = await b.want(used=1, most=3)
        assert (refused.held, refused.share) == (1, 2)
        assert 0 < refused.wait_s <= 1


async def test_what_is_given_back_another_may_have(driver: StorageDriver) -> None:
    a, b = Holder(driver, "a"), Holder(driver, "b")
    async with opened(driver):
        await a.want(most=4)
        assert (await b.want()).held == 0
        assert (await a.keep(used=3)).wanted
        assert (await b.want()).held == 1
        assert not (await a.keep(used=3)).wanted


async def test_asked_twice_it_is_held_once(driver: StorageDriver) -> None:
    a, b = Holder(driver, "a"), Holder(driver, "b")
    async with opened(driver):
        assert [(await a.want(used=1, most=2)).held for _ in range(3)] == [2, 2, 2]
        assert (await b.want(most=4)).held == 2


async def test_a_word_that_comes_late_changes_nothing(driver: StorageDriver) -> None:
    a, b = Holder(driver, "a"), Holder(driver, "b")
    async with opened(driver):
        late = a.said(most=0)
        assert (await a.want(most=4)).held == 4
        assert isinstance(driver, SharesSeats)
        assert (await driver.hold(late)).held == 0
        assert (await b.want()).held == 0


async def test_whoever_waits_longest_goes_first(driver: StorageDriver) -> None:
    a, b, c = (Holder(driver, name, places=1) for name in "abc")
    async with opened(driver):
        assert (await a.want()).held == 1
        assert (await b.want()).held == 0
        assert (await c.want()).held == 0
        await a.keep()
        assert (await a.want()).held == 0
        assert (await c.want()).held == 0
        assert (await b.want()).held == 1


async def test_whoever_waits_no_more_holds_nobody_up(driver: StorageDriver) -> None:
    a, b, c = (Holder(driver, name, places=1) for name in "abc")
    async with opened(driver):
        await a.want()
        await b.want()
        await c.want()
        await a.keep()
        await b.keep()
        assert (await c.want()).held == 1


async def test_while_others_wait_nobody_is_given_more_than_its_share(driver: StorageDriver) -> None:
    a, b, c = (Holder(driver, name, places=6) for name in "abc")
    async with opened(driver):
        await a.want(most=6)
        await b.want()
        await c.want()
        await a.keep(used=1)
        given = await b.want(most=6)
        assert (given.held, given.share, given.wanted) == (2, 2, True)


async def test_holders_are_told_who_waits_and_when_a_place_is_free(driver: StorageDriver) -> None:
    a, b = Holder(driver, "a"), Holder(driver, "b")
    async with opened(driver), hearing(driver) as heard:
        await a.want(most=4)
        await b.want()
        await a.keep(used=3)
        await until(lambda: len(heard) == 2)
        assert heard == [
            SeatsCalled(name="the key", holder="b", wanted=True, freed=False, share=2),
            SeatsCalled(name="the key", holder="a", wanted=False, freed=True, share=2),
        ]


async def test_whoever_is_refused_again_has_given_back_what_it_did_not_use(
    driver: StorageDriver,
) -> None:
    a, b = Holder(driver, "a", places=1), Holder(driver, "b", places=1)
    async with opened(driver), hearing(driver) as heard:
        await a.want()
        await b.want()
        assert (await a.want()).held == 0
        await until(lambda: len(heard) == 2)
        assert (heard[1].holder, heard[1].wanted, heard[1].freed) == ("a", True, True)
        assert (await b.want()).held == 1


async def test_places_that_are_held_can_be_seen(driver: StorageDriver) -> None:
    a, b = Holder(driver, "a"), Holder(driver, "b")
    async with opened(driver):
        assert await driver.read(ReadSeats()) == ()
        await a.want(most=4)
        await b.want()
        (seats,) = await driver.read(ReadSeats())
        assert (seats.name, seats.places, seats.held, seats.waiting) == ("the key", 4, 4, 1)
        await a.keep()
        await b.keep()
        assert await driver.read(ReadSeats()) == ()


async def test_many_at_once_never_hold_more_than_there_are(driver: StorageDriver) -> None:
    """Each says what it was granted after the answer, and gives up before it asks."""
    holders, held = (
        [Holder(driver, f"h{number}", places=5) for number in range(8)],
        dict[str, int](),
    )
    dice = random.Random(7)

    async def work(holder: Holder) -> None:
        for _ in range(12):
            used = held[holder.name] = dice.randint(0, held.get(holder.name, 0))
            answer = await (
                holder.want(used, dice.randint(1, 5)) if dice.random() < 0.7 else holder.keep(used)
            )
            held[holder.name] = answer.held
            assert sum(held.values()) <= 5

    async with opened(driver):
        async with anyio.create_task_group() as tasks:
            for holder in holders:
                tasks.start_soon(work, holder)


async def test_a_kernel_that_leaves_holds_nothing(make: Make) -> None:
    one, two = make(), make()
    async with opened(two):
        async with opened(one):
            assert (await Holder(one, "a").want(most=4)).held == 4
            assert (await Holder(two, "b").want()).held == 0
        assert (await Holder(two, "c").want(most=4)).held > 0


async def test_places_of_a_kernel_that_falls_silent_are_free_with_its_lease(make: Make) -> None:
    silent, other = make(lease_s=2.0), make()
    async with opened(other):
        await silent.start()  # and never runs, so that nothing renews its lease
        a, b = Holder(silent, "a"), Holder(other, "b")
        given = await a.want(most=4)
        assert given.held == 4
        assert 0 < given.good_s <= 2
        answer = await b.want(most=4)
        assert (answer.held, answer.wait_s <= 1) == (0, True)
        with anyio.fail_after(20):
            while not answer.held:
                await anyio.sleep(answer.wait_s)
                answer = await b.want(most=4)
        assert answer.held == 4
        assert (await a.want(used=4, most=4)).held == 0
        await silent.stop()
