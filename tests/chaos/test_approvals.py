"""A call that a human must approve: its kernel is killed before the answer, and after it."""

import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest
from chaos.mortal import Instant
from chaos.trial import Ground, Trial, each, trial

from aoskernel import Kernel
from aoskernel.kernel.config import Config
from aoskernel.plugins.cli.desk import opened
from aoskernel.subsystems.processes.messages import Answer, ListQuestions
from aoskernel.subsystems.storage.messages import Question

ASKED: dict[str, Any] = {"main": "purchase", "asks": ("tools.call:order_item",)}
APPROVED = {**ASKED, "approves": True}
INSTANTS: tuple[Instant, ...] = ("unwritten", "written", "acknowledged")
SURELY = 7
"""As many commits has every run; the slow test counts."""
EVER = "select count(*) from question where namespace = $1"


@asynccontextmanager
async def outside(tried: Trial) -> AsyncIterator[Kernel]:
    """What `aosk asks` and `aosk answer` see the questions with."""
    storage = {
        "driver": "embedded",
        "folder": str(tried.ground.folder / "data"),
        "settings": tried.ground.settings,
        "namespace": tried.namespace,
    }
    async with opened(Config.load(None, services={"storage": storage})) as kernel:
        yield kernel


async def under_way(tried: Trial) -> int:
    """An application that has spawned its program, or met it again; gives its pid."""
    application = tried.begin(**ASKED)
    await tried.wait(application, tried.world.next(lambda call: call.name == "under way"))
    return application


async def question(kernel: Kernel) -> Question:
    """The only one, once it is there."""
    with anyio.fail_after(30):
        while not (found := await kernel.request(ListQuestions())):
            await anyio.sleep(0.02)
    (one,) = found
    return one


async def ends_well(tried: Trial, **more: Any) -> None:
    """Run it to its end: it has asked once, and ordered once."""
    life = await tried.run_to_the_end(**{**ASKED, **more})
    assert life.result == "order wine: done"
    assert list(tried.world.effects.values()) == [1]
    connection = await tried.ground.connect(server_settings={"search_path": "aoskernel, public"})
    try:
        assert await connection.fetchval(EVER, tried.namespace) == 1
    finally:
        await connection.close()


async def killed_at(warm: Ground, number: int, instant: Instant) -> None:
    """It dies at that commit, and is told of whatever it cannot know."""
    async with trial(warm) as tried:
        await tried.run_to_death(dies_at=number, dies=instant, **APPROVED)
        await ends_well(tried, approves=True)


@pytest.mark.parametrize("kernel_runs", [True, False])
async def test_a_question_outlives_kills_and_its_call_is_made_once(
    warm: Ground, kernel_runs: bool
) -> None:
    async with trial(warm) as tried:
        first: Question | None = None
        for _ in range(3):
            application = await under_way(tried)
            async with outside(tried) as kernel:
                asked = await question(kernel)
                await tried.kill(application)
                assert await question(kernel) == asked == (first or asked)
            first = asked
        assert not tried.world.effects
        running = await under_way(tried) if kernel_runs else None
        async with outside(tried) as kernel:
            await kernel.request(Answer(number=(await question(kernel)).number, text="approve"))
            assert await kernel.request(ListQuestions()) == ()
        if running is not None:
            assert (await tried.over(running)).ended
        await ends_well(tried)


async def test_a_call_that_is_cut_after_its_approval_is_in_doubt_and_not_made_again(
    warm: Ground,
) -> None:
    async with trial(warm) as tried:
        await tried.kill_inside("order wine", **APPROVED)
        assert list(tried.world.effects.values()) == [1]
        await ends_well(tried)
        assert tried.world.truths == 1


@pytest.mark.parametrize("instant", INSTANTS)
async def test_a_kill_between_question_answer_and_effect_changes_nothing(
    warm: Ground, instant: Instant
) -> None:
    some = random.Random(instant).sample(range(1, SURELY + 1), 3)
    await each(lambda number: killed_at(warm, number, instant), some)


@pytest.mark.slow
@pytest.mark.parametrize("instant", INSTANTS)
async def test_a_kill_at_any_commit_of_an_approval_changes_nothing(
    warm: Ground, instant: Instant
) -> None:
    async with trial(warm) as tried:
        count = int((await tried.run_to_the_end(**APPROVED)).facts["commits"])
    assert count >= SURELY
    await each(lambda number: killed_at(warm, number, instant), range(1, count + 1))
