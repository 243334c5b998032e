"""Rates that kernels share: drawn by one clock, one after another, whatever the driver."""

import anyio
import pytest
from postgres import opened

from aoskernel.subsystems.storage.driver import (
    DrawRate,
    ReadRates,
    SharesRates,
    StorageDriver,
    StorageUnavailable,
)


def draw(
    least: float = 1, most: float = 1, *, owed: float = 0, each_s: float = 100, burst: float = 5
) -> DrawRate:
    return DrawRate(name="key", least=least, most=most, owed=owed, each_s=each_s, burst=burst)


def sharing(driver: StorageDriver) -> SharesRates:
    assert isinstance(driver, SharesRates)
    return driver


async def test_a_rate_gives_its_burst_and_then_says_how_long_to_wait(driver: StorageDriver) -> None:
    rates = sharing(driver)
    async with opened(driver):
        assert [(await rates.draw(draw())).granted for _ in range(5)] == pytest.approx([1.0] * 5)
        dry = await rates.draw(draw())
        assert dry.granted == 0
        assert 95 < dry.wait_s <= 100


async def test_a_block_is_what_there_is_and_never_less_than_the_least(
    driver: StorageDriver,
) -> None:
    rates = sharing(driver)
    async with opened(driver):
        assert (await rates.draw(draw(1, 3))).granted == pytest.approx(3)
        assert (await rates.draw(draw(3, 9))).granted == 0
        assert (await rates.draw(draw(1, 9))).granted == pytest.approx(2, abs=0.1)
        assert 290 < (await rates.draw(draw(3, 3))).wait_s <= 300


async def test_what_is_owed_is_drawn_and_what_was_not_used_comes_back(
    driver: StorageDriver,
) -> None:
    rates = sharing(driver)
    async with opened(driver):
        assert (await rates.draw(draw(owed=4))).granted == pytest.approx(1)
        assert (await rates.draw(draw())).granted == 0
        assert (await rates.draw(draw(owed=-2))).granted == pytest.approx(1)
        assert (await rates.draw(draw(owed=-100, most=99))).granted == pytest.approx(5)


async def test_time_brings_more_and_never_more_than_the_burst(driver: StorageDriver) -> None:
    rates = sharing(driver)
    async with opened(driver):
        assert (await rates.draw(draw(2, 2, each_s=0.02, burst=2))).granted == pytest.approx(2)
        dry = await rates.draw(draw(each_s=0.02, burst=2))
        with anyio.fail_after(20):
            while not dry.granted:
                await anyio.sleep(dry.wait_s)
                dry = await rates.draw(draw(each_s=0.02, burst=2))
        await anyio.sleep(0.1)
        assert (await rates.draw(draw(1, 9, each_s=0.02, burst=2))).granted == pytest.approx(2)


async def test_many_at_once_never_draw_more_than_there_is(driver: StorageDriver) -> None:
    rates, granted = sharing(driver), list[float]()

    async def one() -> None:
        granted.append((await rates.draw(draw(1, 2, burst=20))).granted)

    async with opened(driver):
        with anyio.fail_after(20):
            async with anyio.create_task_group() as tasks:
                for _ in range(40):
                    tasks.start_soon(one)
    assert 19 < sum(granted) <= 20.1  # a moment has passed since the first


async def test_rates_that_are_not_full_can_be_read(driver: StorageDriver) -> None:
    rates = sharing(driver)
    async with opened(driver):
        assert await driver.read(ReadRates()) == ()
        await rates.draw(draw(2, 2))
        (rate,) = await driver.read(ReadRates())
        assert (rate.name, rate.each_s, rate.burst) == ("key", 100, 5)
        assert rate.left == pytest.approx(3, abs=0.1)


async def test_a_database_that_is_not_there_gives_nothing(make: object) -> None:
    driver = sharing(make())  # type: ignore[operator]
    with pytest.raises(StorageUnavailable):
        await driver.draw(draw())
