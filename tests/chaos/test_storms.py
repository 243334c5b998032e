"""An application in bad weather: its database dies, its connections are cut, it is frozen."""

import os
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest
from chaos.oracle import UNDISTURBED, ends_well, judge
from chaos.trial import PATIENCE_S, Ground, Trial, ground, trial
from chaos.world import Call

CUT = """
select pg_terminate_backend(pid) from pg_stat_activity
where application_name = 'aoskernel' and pid <> pg_backend_pid()
"""
ANY_STOPPED = """
select exists (select from aoskernel.process where namespace = $1 and state = 'stopped')
"""

IN_DOUBT = """
select intent.step || ':' || path as key from intent join process using (pid)
where namespace = $1 and state = 'stopped' and note like '%"unknown"%'
"""


@pytest.fixture
def durable() -> Iterator[Ground]:
    """A server of its own that waits for its disk."""
    with ground() as kept:
        yield kept


def slowly(*names: str) -> Iterator[Any]:
    """Parameters for `make test-all`."""
    return (pytest.param(name, marks=pytest.mark.slow) for name in names)


async def kill_the_server(ground: Ground) -> None:
    os.kill(ground.postmaster(), signal.SIGKILL)


async def until_called(tried: Trial, application: int, name: str) -> None:
    await tried.wait(application, tried.world.next(lambda call: call.name == name))


async def test_an_application_outlives_its_database(durable: Ground) -> None:
    async with trial(durable) as tried:
        application = tried.begin()
        for name in ("hello", "put 2", "ten 9", "wins", "child 1"):
            await until_called(tried, application, name)
            await kill_the_server(durable)
        life = await tried.over(application)
        assert life.result == UNDISTURBED
        await judge(tried)


async def test_an_application_outlives_its_connections(warm: Ground) -> None:
    async with trial(warm) as tried:
        connection = await warm.connect()
        try:
            application = tried.begin()
            await until_called(tried, application, "hello")
            with anyio.move_on_after(1.5):
                while True:
                    await connection.execute(CUT)
                    await anyio.sleep(0.005)
            life = await tried.over(application)
        finally:
            await connection.close()
        assert life.result == UNDISTURBED
        await judge(tried)


@asynccontextmanager
async def frozen_before(tried: Trial, name: str) -> AsyncIterator[tuple[int, anyio.Event]]:
    """An application stopped between its intent and the effect; set the event to let it go on."""
    thawed = anyio.Event()

    async def hold(call: Call) -> None:
        if call.kind == "pause":
            await thawed.wait()

    tried.world.hold = hold
    application = tried.begin(pauses=(name,))
    await tried.wait(application, tried.world.next(lambda call: call.kind == "pause"))
    os.kill(application, signal.SIGSTOP)
    tried.kills += 1  # what it had in flight may be sent again
    yield application, thawed


async def until_stopped(tried: Trial) -> None:
    """Wait until the successor has found a call whose outcome it cannot know."""
    connection = await tried.ground.connect()
    try:
        with anyio.fail_after(PATIENCE_S):
            while not await connection.fetchval(ANY_STOPPED, tried.namespace):
                await anyio.sleep(0.02)
    finally:
        await connection.close()


async def in_doubt(tried: Trial) -> list[str]:
    """The keys of the calls that a human is told of."""
    connection = await tried.ground.connect(server_settings={"search_path": "aoskernel, public"})
    try:
        rows: list[Any] = await connection.fetch(IN_DOUBT, tried.namespace)
    finally:
        await connection.close()
    return [row["key"] for row in rows]


@pytest.mark.parametrize(
    "name", ["child 1", *slowly("hello", "peek 1", "put 2", "book 3", "ten 4")]
)
async def test_a_frozen_owner_is_fenced_when_it_thaws(warm: Ground, name: str) -> None:
    async with trial(warm) as tried, frozen_before(tried, name) as (frozen, thawed):
        await ends_well(tried)
        os.kill(frozen, signal.SIGCONT)
        thawed.set()
        life = await tried.over(frozen)
        assert life.result == UNDISTURBED
        await judge(tried)


@pytest.mark.parametrize("name", ["order 5", *slowly("reserve 4")])
async def test_what_a_frozen_owner_may_still_do_its_successor_does_not(
    warm: Ground, name: str
) -> None:
    async with trial(warm) as tried, frozen_before(tried, name) as (frozen, thawed):
        successor = tried.begin(tells_the_truth=False)
        await until_stopped(tried)
        assert not [call for call in tried.world.calls if call.name == name and call.effect]
        thawed.set()
        await anyio.wait_all_tasks_blocked()  # it goes on before it hears of the take-over
        os.kill(frozen, signal.SIGCONT)
        await until_called(tried, frozen, name)
        for application in (frozen, successor):
            await tried.kill(application)
        await ends_well(tried)


async def test_two_applications_at_once_share_one_program(warm: Ground) -> None:
    async with trial(warm) as tried:
        for application in [tried.begin(), tried.begin()]:
            life = await tried.over(application)
            assert life.result == UNDISTURBED
        await judge(tried)


INSIDE = ("ten 4", "peek ten 5", "held: loses", "put race", "in time", "held: late")


@pytest.mark.parametrize("name", ["put ten 6", "wins", *slowly(*INSIDE)])
async def test_a_kill_inside_a_parallel_a_race_or_a_timeout_changes_nothing(
    warm: Ground, name: str
) -> None:
    async with trial(warm) as tried:
        await tried.kill_inside(name)
        await ends_well(tried)


async def test_all_that_a_kill_leaves_in_doubt_is_known_at_once(warm: Ground) -> None:
    """The other eight of the ten go on, or never began; the process stops once."""
    async with trial(warm) as tried:
        await tried.kill_inside("order ten 3", "order ten 8")
        successor = tried.begin(tells_the_truth=False)
        await until_stopped(tried)
        keys = [call.key for call in tried.world.calls if call.name.startswith("order ten")]
        assert sorted(await in_doubt(tried)) == sorted(key.partition("/")[2] for key in keys)
        await tried.kill(successor)
        await ends_well(tried)
        assert tried.world.truths == 2


async def test_what_waits_for_a_slot_when_it_is_killed_never_began(warm: Ground) -> None:
    async with trial(warm) as tried:
        await tried.kill_inside("peek first", "ten wait", main="shopping", slots=1)
        assert [call.name for call in tried.world.calls] == ["peek first", "ten wait"]
        life = await tried.run_to_the_end(main="shopped", slots=1)
        assert life.result == ["peek first: done", *(f"order {n}: done" for n in range(10))]
        once = [call.key for call in tried.world.calls if call.effect == "once"]
        assert len(once) == len(set(once)) == 10
