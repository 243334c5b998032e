"""An application killed at every commit, and at random, ends as if nobody had killed it."""

import random

import anyio
import pytest
from chaos.mortal import Instant
from chaos.oracle import UNDISTURBED, ends_well
from chaos.trial import Ground, each, trial

INSTANTS: tuple[Instant, ...] = ("unwritten", "written", "acknowledged")
MOST_KILLS = 6
SURELY = 110
"""As many commits has every run; the slow test counts."""


async def boundaries(warm: Ground) -> int:
    """How many commits an undisturbed run makes."""
    async with trial(warm) as tried:
        life = await tried.run_to_the_end()
        assert life.result == UNDISTURBED
        return int(life.facts["commits"])


async def killed_at(warm: Ground, *deaths: tuple[int, Instant]) -> None:
    """One run after the other dies there; the last ends."""
    async with trial(warm) as tried:
        for number, instant in deaths:
            await tried.run_to_death(dies_at=number, dies=instant)
        await ends_well(tried)


async def killed_at_random(warm: Ground, seed: int) -> None:
    chance = random.Random(seed)
    async with trial(warm) as tried:
        for _ in range(chance.randint(1, MOST_KILLS)):
            application = tried.begin()
            await anyio.sleep(chance.uniform(0.1, 1.2))
            await tried.kill(application)
        await ends_well(tried)


async def test_an_undisturbed_run_ends_well(warm: Ground) -> None:
    async with trial(warm) as tried:
        await ends_well(tried)


async def test_a_main_that_is_run_again_meets_its_ended_program(warm: Ground) -> None:
    async with trial(warm) as tried:
        await tried.run_to_the_end()
        await ends_well(tried)


@pytest.mark.parametrize("instant", INSTANTS)
async def test_a_kill_at_some_commits_changes_nothing(warm: Ground, instant: Instant) -> None:
    some = random.Random(instant).sample(range(1, SURELY), 3)
    await each(lambda number: killed_at(warm, (number, instant)), some)


async def test_a_hundred_seeds_of_kills_change_nothing(warm: Ground) -> None:
    await each(lambda seed: killed_at_random(warm, seed), range(100))


async def test_an_application_that_dies_again_and_again_gets_to_its_end(warm: Ground) -> None:
    death: tuple[int, Instant] = (25, "written")
    await killed_at(warm, *[death] * 3)


@pytest.mark.slow
@pytest.mark.parametrize("instant", INSTANTS)
async def test_a_kill_at_any_commit_changes_nothing(warm: Ground, instant: Instant) -> None:
    count = await boundaries(warm)
    await each(lambda number: killed_at(warm, (number, instant)), range(1, count + 1))


@pytest.mark.soak
async def test_five_hundred_seeds_of_kills_change_nothing(warm: Ground) -> None:
    await each(lambda seed: killed_at_random(warm, seed), range(1000, 1500))
