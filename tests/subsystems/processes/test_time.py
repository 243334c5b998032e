"""Durable time: sleeps, timeouts and schedules over parks, restarts and clocks that are set."""

from datetime import UTC, datetime

import anyio
import pytest
from one_storage import OneStorage, log_of, processes_of, reached, until

from aoskernel import Kernel, Process, attach, program, spawn
from aoskernel.kernel.testing import run_virtual
from aoskernel.subsystems.processes.messages import Inspect
from aoskernel.subsystems.processes.schedule import Schedule

HOUR = 3600.0
PARKS = {"park_after_s": 0.01}


@program
async def sleeper(self: Process, seconds: float) -> float:
    began = await self.now()
    await self.sleep(seconds)
    return await self.now() - began


@program
async def until_then(self: Process, moment: float) -> float:
    await self.sleep_until(moment)
    return await self.now()


@program
async def patient(self: Process, seconds: float) -> str:
    try:
        return str(await self.timeout(seconds, self.receive()))
    except TimeoutError:
        return "late"


@program
async def daily(self: Process, times: int) -> list[float]:
    return [await self.cron("0 9 * * *") for _ in range(times)]


KNOWS = {"programs": [__name__]}


class Clock:
    """A wall clock that a test sets."""

    def __init__(self, now: float = 1_000_000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now

    async def set(self, now: float, *kernels: Kernel) -> None:
        """Kernels hear of it as of anything else that makes them look."""
        self.now = now
        for kernel in kernels:
            await processes_of(kernel).adoption.ring(None)


def at(hour: int, minute: int = 0, day: int = 5) -> float:
    return datetime(2026, 1, day, hour, minute, tzinfo=UTC).timestamp()


def test_a_sleep_of_days_is_spent_outside_of_memory_and_ends_in_time() -> None:
    async def main() -> None:
        async with OneStorage().kernel(processes={"park_after_s": 60}) as kernel:
            agent = await spawn(kernel, sleeper(seconds=72 * HOUR))
            await anyio.sleep(HOUR)
            assert (await agent.status()).record.state == "parked"
            assert await agent == pytest.approx(72 * HOUR, abs=1)

    run_virtual(main)


def test_many_sleepers_need_one_timer_and_wake_each_at_its_time() -> None:
    async def main() -> None:
        async with OneStorage().kernel(processes={"park_after_s": 60}) as kernel:
            agents = [await spawn(kernel, sleeper(seconds=HOUR + n)) for n in range(300)]
            await anyio.sleep(HOUR / 2)
            assert not processes_of(kernel).live
            for n, agent in enumerate(agents):
                assert await agent == pytest.approx(HOUR + n, abs=0.5)

    run_virtual(main)


async def test_a_sleep_goes_on_in_the_next_kernel_to_the_same_end(one: OneStorage) -> None:
    clock = Clock()
    async with one.kernel() as kernel:
        kernel.bus.wall = clock
        agent = await spawn(kernel, sleeper(seconds=HOUR))
        await until(lambda: _note(kernel, agent.pid))
    clock.now += HOUR / 2
    async with one.kernel(processes=KNOWS) as kernel:
        kernel.bus.wall = clock
        status = await kernel.request(Inspect(pid=agent.pid))
        assert (status.live, status.record.wake_at) == (False, 1_000_000.0 + HOUR)
        await clock.set(1_000_000.0 + HOUR + 1, kernel)
        with anyio.fail_after(10):
            assert await (await attach(kernel, agent.pid)) == HOUR + 1


async def _note(kernel: Kernel, pid: int) -> bool:
    return any(entry.note for entry in (await log_of(kernel, pid)).values())  # type: ignore[arg-type]


async def test_a_sleep_that_ended_while_no_kernel_ran_is_over_at_once(one: OneStorage) -> None:
    async with one.kernel(processes=PARKS) as kernel:
        agent = await spawn(kernel, sleeper(seconds=0.3))
        await reached(kernel, agent.pid, "parked")
    await anyio.sleep(0.3)
    async with one.kernel(processes=KNOWS) as kernel:
        with anyio.fail_after(10):
            assert await (await attach(kernel, agent.pid)) >= 0.3


async def test_a_parked_sleeper_comes_back_by_a_timer(one: OneStorage) -> None:
    async with one.kernel(processes=PARKS) as kernel:
        agent = await spawn(kernel, sleeper(seconds=0.5))
        await reached(kernel, agent.pid, "parked")
        with anyio.fail_after(10):
            assert await agent >= 0.5


async def test_the_log_has_how_long_a_syscall_took(one: OneStorage) -> None:
    async with one.kernel(processes={"park_after_s": 60.0}) as kernel:
        agent = await spawn(kernel, sleeper(seconds=0.2))
        with anyio.fail_after(10):
            await agent
        took = [entry.took_s for entry in (await log_of(kernel, agent.pid)).values()]
    assert [value is not None and round(value, 1) for value in took] == [0.0, 0.2, 0.0]


async def test_a_sleep_out_of_memory_took_as_long_as_it_was(one: OneStorage) -> None:
    async with one.kernel(processes=PARKS) as kernel:
        agent = await spawn(kernel, sleeper(seconds=0.5))
        await reached(kernel, agent.pid, "parked")
        with anyio.fail_after(10):
            await agent
        entry = (await log_of(kernel, agent.pid))["0:1"]
    assert entry.kind == "sleep"
    assert entry.took_s is not None
    assert 0.45 < entry.took_s < 5


async def test_a_moment_that_is_past_is_not_waited_for() -> None:
    async with OneStorage().kernel() as kernel:
        agent = await spawn(kernel, until_then(moment=5.0))
        with anyio.fail_after(5):
            assert await agent > 5.0


async def test_a_sleep_whose_clock_is_set_back_ends_once_and_by_the_clock() -> None:
    clock, one = Clock(), OneStorage()
    async with one.kernel(processes=PARKS) as kernel:
        kernel.bus.wall = clock
        agent = await spawn(kernel, sleeper(seconds=HOUR))
        await reached(kernel, agent.pid, "parked")
        await clock.set(1_000_000.0 - HOUR, kernel)
        await clock.set(1_000_000.0 + HOUR / 2, kernel)
        assert (await agent.status()).record.state == "parked"
        await clock.set(1_000_000.0 + HOUR, kernel)
        with anyio.fail_after(5):
            assert await agent == HOUR


async def test_a_sleep_that_is_over_is_not_slept_again_when_the_clock_is_set_back() -> None:
    @program
    async def slept(self: Process) -> str:
        await self.sleep(HOUR)
        return str(await self.receive())

    clock, one = Clock(), OneStorage()
    async with one.kernel(processes=PARKS) as kernel:
        kernel.bus.wall = clock
        agent = await spawn(kernel, slept())
        await reached(kernel, agent.pid, "parked")
        await clock.set(1_000_000.0 + HOUR, kernel)

        async def receives() -> bool:
            return (await agent.status()).record.waits_in == ("receive",)

        await until(receives)
        await clock.set(1_000_000.0, kernel)
        await agent.send("awake")
        with anyio.fail_after(5):
            assert await agent == "awake"


async def test_a_timeout_goes_on_outside_of_memory_and_in_the_next_kernel(
    one: OneStorage,
) -> None:
    clock = Clock()
    async with one.kernel(processes=PARKS) as kernel:
        kernel.bus.wall = clock
        agent = await spawn(kernel, patient(seconds=HOUR))
        await reached(kernel, agent.pid, "parked")
    async with one.kernel(processes=KNOWS) as kernel:
        kernel.bus.wall = clock
        await clock.set(1_000_000.0 + HOUR, kernel)
        with anyio.fail_after(10):
            assert await (await attach(kernel, agent.pid)) == "late"


async def test_what_came_in_time_is_no_timeout_however_late_it_is_read(one: OneStorage) -> None:
    clock = Clock()
    async with one.kernel(processes=PARKS) as kernel:
        kernel.bus.wall = clock
        agent = await spawn(kernel, patient(seconds=HOUR))
        await reached(kernel, agent.pid, "parked")
        clock.now += HOUR / 2
        await agent.send("in time")
        with anyio.fail_after(10):
            assert await agent == "in time"


def test_a_schedule_names_the_next_time_in_its_zone() -> None:
    weekdays = Schedule("0 9 * * 1-5", "UTC")
    assert weekdays.after(at(8)) == at(9)
    assert weekdays.after(at(9)) == at(9, day=6)
    assert weekdays.after(at(10, day=9)) == at(9, day=12)  # from Friday to Monday
    assert Schedule("0 9 * * *", "Europe/Zurich").after(at(7)) == at(8)


@pytest.mark.parametrize(
    ("expression", "zone", "told"),
    [("often", "UTC", "no cron expression"), ("* * * * *", "Moon/Crater", "no time zone")],
)
def test_what_is_no_schedule_says_so(expression: str, zone: str, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        Schedule(expression, zone)


def test_cron_comes_at_each_of_its_times() -> None:
    async def main() -> None:
        async with OneStorage().kernel(processes={"park_after_s": 60}) as kernel:
            agent = await spawn(kernel, daily(times=3))
            assert await agent == [9 * HOUR, 33 * HOUR, 57 * HOUR]

    run_virtual(main)


async def test_what_a_schedule_missed_while_nothing_ran_is_made_up_for_once(
    one: OneStorage,
) -> None:
    clock = Clock(at(8))
    async with one.kernel(processes=PARKS) as kernel:
        kernel.bus.wall = clock
        agent = await spawn(kernel, daily(times=2))
        await reached(kernel, agent.pid, "parked")
    clock.now = at(12, day=8)  # three times later
    async with one.kernel(processes={**PARKS, **KNOWS}) as kernel:
        kernel.bus.wall = clock
        await clock.set(clock.now, kernel)

        async def next_time() -> bool:
            return (await kernel.request(Inspect(pid=agent.pid))).record.wake_at == at(9, day=9)

        await until(next_time)
        await clock.set(at(9, 1, day=9), kernel)
        with anyio.fail_after(10):
            assert await (await attach(kernel, agent.pid)) == [at(9), at(9, day=9)]


async def test_a_clock_that_is_set_back_makes_no_time_come_twice() -> None:
    clock, one = Clock(at(8)), OneStorage()
    moved: list[float] = []

    @program
    async def twice(self: Process) -> list[float]:
        first = await self.cron("0 9 * * *")
        if not moved:
            clock.now = at(8, 58)
            moved.append(clock.now)
        return [first, await self.cron("0 9 * * *")]

    async with one.kernel(processes=PARKS) as kernel:
        kernel.bus.wall = clock
        agent = await spawn(kernel, twice())
        await reached(kernel, agent.pid, "parked")
        await clock.set(at(9), kernel)

        async def again() -> bool:
            return (await agent.status()).record.wake_at == at(9, day=6)

        await until(again)
        await clock.set(at(9, day=6), kernel)
        with anyio.fail_after(5):
            assert await agent == [at(9), at(9, day=6)]
