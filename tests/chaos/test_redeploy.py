"""A hundred agents in flight, and their program changed underneath them."""

import random
from typing import Any

import anyio
import pytest
from chaos.trial import Ground, Trial, trial
from chaos.world import Call

CALLS = 900
"""Of a hundred agents with three steps of three thoughts."""

SAID = """
select process.key, process.step, log.path
from process join (
    select pid, step, path from intent union select pid, step, path from entry
) as log using (pid, step)
where namespace = $1 and state <> 'exited'
"""


async def killed_midway(warm: Ground, tried: Trial, seed: int) -> None:
    """Let version 1 go on until the agents are anywhere in their programs."""
    chance = random.Random(seed)

    async def hold(call: Call) -> None:
        await anyio.sleep(chance.uniform(0, 0.05))

    before, tried.world.hold = tried.world.hold, hold
    application, last = tried.begin(main="agents"), chance.randint(CALLS // 3, CALLS * 2 // 3)
    await tried.wait(application, tried.world.next(lambda call: len(tried.world.calls) >= last))
    await tried.kill(application)
    tried.world.hold = before


async def diverging(warm: Ground, tried: Trial) -> set[str]:
    """The agents of odd numbers that have said in their step what version 2 says otherwise."""
    connection = await warm.connect(server_settings={"search_path": "aoskernel, public"})
    try:
        rows: list[Any] = await connection.fetch(SAID, tried.namespace)
    finally:
        await connection.close()
    return {row["key"] for row in rows if row["path"] == "1" and int(row["key"][6:]) % 2}


async def test_agents_that_diverge_stop_with_the_first_difference_and_the_others_go_on(
    warm: Ground,
) -> None:
    async with trial(warm) as tried:
        await killed_midway(warm, tried, 1)
        expected = await diverging(warm, tried)
        life = await tried.run_to_the_end(main="agents", version=2)
        states = {key: state for key, state, _ in life.result}
        assert len(states) == len(life.result) == 100
        assert {key for key, state in states.items() if state == "stopped"} == expected
        assert set(states.values()) == {"stopped", "exited"}
        for error in (error for _, state, error in life.result if state == "stopped"):
            assert ":1 the program calls 'think' as before, but with other arguments" in error


@pytest.mark.slow
async def test_agents_that_diverged_go_on_with_their_former_program(warm: Ground) -> None:
    async with trial(warm) as tried:
        await killed_midway(warm, tried, 2)
        await tried.run_to_the_end(main="agents", version=2)
        life = await tried.run_to_the_end(main="mended", version=1)
        assert [state for _, state, _ in life.result] == 100 * ["exited"]
