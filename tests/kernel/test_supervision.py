from collections.abc import Callable

import anyio
import pytest

from aoskernel.kernel import (
    Event,
    Kernel,
    KernelFailed,
    Request,
    Service,
    Unavailable,
    handles,
    subscribes,
)
from aoskernel.kernel.events import ServiceCrashed, ServiceDown, ServiceStarted


class Ask(Request[int], topic="fragile.ask", effect="none"):
    pass


class Hint(Event, topic="some.hint"):
    n: int


class Fragile(Service, name="fragile"):
    """Its `run` raises whenever told to."""

    def __init__(self) -> None:
        self.lives = 0
        self.diary: list[str] = []
        self.hints: list[int] = []
        self.fails_to_start = False

    async def start(self) -> None:
        if self.fails_to_start:
            raise OSError("cannot start")
        self.lives += 1
        self.crash = anyio.Event()
        self.diary.append("start")

    async def run(self) -> None:
        await self.crash.wait()
        raise OSError(f"crash {self.lives}")

    async def stop(self) -> None:
        self.diary.append("stop")

    @handles(Ask)
    async def ask(self, request: Ask) -> int:
        lives = self.lives
        try:
            await anyio.sleep(1)
        finally:
            self.diary.append("left")
        return lives

    @subscribes(Hint)
    async def hint(self, event: Hint) -> None:
        self.hints.append(event.n)


class Dependent(Service, name="dependent", needs=[Ask]):
    pass


class Heard(Service, name="listener"):
    def __init__(self) -> None:
        self.events: list[Event] = []

    @subscribes("service.*")
    async def hear(self, event: Event) -> None:
        self.events.append(event)


async def crash(service: Fragile, times: int, pause_s: float = 0.1) -> None:
    for _ in range(times):
        service.crash.set()
        await anyio.sleep(pause_s)


async def test_a_crash_in_run_restarts_the_service() -> None:
    fragile = Fragile()
    async with Kernel(fragile) as kernel:
        await crash(fragile, 1)
        assert fragile.diary == ["start", "stop", "start"]
        assert await kernel.request(Ask()) == 2


async def test_a_crash_in_a_task_of_the_service_is_one_too() -> None:
    class Spawning(Fragile, name="spawning"):
        async def run(self) -> None:
            self.start_soon(self.work, name="work")

        async def work(self) -> None:
            await self.crash.wait()
            raise OSError("work")

    service = Spawning()
    async with Kernel(service):
        await crash(service, 1)
        assert service.lives == 2


async def test_run_may_return_without_ending_the_service() -> None:
    class Short(Fragile, name="short"):
        async def run(self) -> None:
            return

    service = Short()
    async with Kernel(service) as kernel:
        assert await kernel.request(Ask()) == 1


async def test_restart_always_starts_again_when_run_returns() -> None:
    class Always(Fragile, name="always", restart="always"):
        async def run(self) -> None:
            await self.crash.wait()

    service = Always()
    async with Kernel(service):
        await crash(service, 1)
        assert service.lives == 2


async def test_callers_inside_a_crashed_service_get_unavailable() -> None:
    fragile = Fragile()
    async with Kernel(fragile) as kernel, anyio.create_task_group() as group:
        group.start_soon(crash, fragile, 1)
        with pytest.raises(Unavailable, match=r"crashed: OSError\('crash 1'\)"):
            await kernel.request(Ask())


async def test_a_crashed_service_stops_only_after_its_callers_have_left() -> None:
    fragile = Fragile()
    async with Kernel(fragile) as kernel:
        async with anyio.create_task_group() as group:
            group.start_soon(crash, fragile, 1)
            with pytest.raises(Unavailable):
                await kernel.request(Ask())
        assert fragile.diary == ["start", "left", "stop", "start"]


async def test_callers_that_come_during_a_restart_wait_for_it() -> None:
    class SlowStart(Fragile, name="slowstart"):
        async def start(self) -> None:
            if self.lives:
                await anyio.sleep(5)
            await super().start()

    service = SlowStart()
    async with Kernel(service) as kernel:
        await crash(service, 1)
        with anyio.fail_after(20):
            assert await kernel.request(Ask()) == 2


async def test_events_that_come_during_a_restart_are_heard_afterwards() -> None:
    class SlowStart(Fragile, name="slowstart"):
        async def start(self) -> None:
            if self.lives:
                await anyio.sleep(5)
            await super().start()

    service = SlowStart()
    async with Kernel(service) as kernel:
        await crash(service, 1)
        await kernel.publish(Hint(n=1))
        await anyio.sleep(1)
        assert service.hints == []
        await anyio.sleep(5)
        assert service.hints == [1]


async def test_five_crashes_within_thirty_seconds_are_borne() -> None:
    fragile = Fragile()
    async with Kernel(fragile, Dependent()) as kernel:
        await crash(fragile, 5)
        assert await kernel.request(Ask()) == 6


async def test_crashes_far_apart_never_add_up() -> None:
    fragile = Fragile()
    async with Kernel(fragile, Dependent()):
        await crash(fragile, 20, pause_s=10)
        assert fragile.lives == 21


async def test_the_sixth_crash_of_a_needed_service_stops_the_kernel_with_all_causes() -> None:
    fragile = Fragile()
    with pytest.raises(KernelFailed, match=r"'fragile' is down and dependent need") as caught:
        async with Kernel(fragile, Dependent()):
            await crash(fragile, 6)
            await anyio.sleep_forever()
    assert [str(cause) for cause in caught.value.causes] == [f"crash {n}" for n in range(1, 7)]


async def test_a_dead_kernel_cancels_its_body() -> None:
    fragile, cleaned = Fragile(), anyio.Event()
    with pytest.raises(KernelFailed):
        async with Kernel(fragile, Dependent()):
            await crash(fragile, 5)
            fragile.crash.set()
            try:
                await anyio.sleep_forever()
            finally:
                cleaned.set()
    assert cleaned.is_set()


async def test_a_service_that_a_guarded_route_needs_stops_the_kernel_too() -> None:
    class Guarding(Fragile, name="guarding"):
        async def guard(self, call, proceed):  # type: ignore[no-untyped-def]
            return await proceed(call)

    class Target(Service, name="target"):
        @handles(Other)
        async def other(self, request: "Other") -> int:
            return 1

    guarding = Guarding()
    with pytest.raises(KernelFailed, match=r"route other\.ask need it"):
        async with Kernel(guarding, Target(), routes={"other.ask": ["guarding"]}):
            await crash(guarding, 6)
            await anyio.sleep_forever()


class Other(Request[int], topic="other.ask"):
    pass


async def test_the_sixth_crash_of_a_service_nobody_needs_takes_it_down_for_a_while() -> None:
    fragile, listener = Fragile(), Heard()
    async with Kernel(fragile, listener) as kernel:
        await crash(fragile, 6)
        (seat,) = (seat for seat in kernel.services() if seat.address == "fragile")
        assert seat.state == "down"
        with pytest.raises(Unavailable, match="it is down"):
            await kernel.request(Ask())
        assert [e.again_s for e in listener.events if isinstance(e, ServiceDown)] == [1.0]


async def test_a_service_that_was_down_comes_back() -> None:
    fragile = Fragile()
    async with Kernel(fragile) as kernel:
        await crash(fragile, 6)
        await anyio.sleep(1)
        assert await kernel.request(Ask()) == 7
        await kernel.publish(Hint(n=1))
        await anyio.wait_all_tasks_blocked()
        assert fragile.hints == [1]


async def test_the_back_off_doubles_up_to_a_minute_while_it_cannot_start() -> None:
    fragile, listener = Fragile(), Heard()
    async with Kernel(fragile, listener):
        fragile.fails_to_start = True
        fragile.crash.set()
        await anyio.sleep(400)
        downs = [e.again_s for e in listener.events if isinstance(e, ServiceDown)]
        assert downs[:9] == [1, 2, 4, 8, 16, 32, 60, 60, 60]


async def test_a_service_may_fail_to_start_again_for_months() -> None:
    fragile = Fragile()
    async with Kernel(fragile) as kernel:
        fragile.fails_to_start = True
        fragile.crash.set()
        await anyio.sleep(60 * 2000)  # 2,000 attempts: no recursion that grows
        fragile.fails_to_start = False
        await anyio.sleep(61)
        assert await kernel.request(Ask()) == 2


async def test_a_quiet_while_forgives_the_back_off() -> None:
    fragile, listener = Fragile(), Heard()
    async with Kernel(fragile, listener):
        await crash(fragile, 6)
        await anyio.sleep(100)
        listener.events.clear()
        await crash(fragile, 1)
        assert [type(e) for e in listener.events] == [ServiceCrashed, ServiceStarted]


async def test_restart_never_stays_down() -> None:
    class Once(Fragile, name="once", restart="never"):
        pass

    once, listener = Once(), Heard()
    async with Kernel(once, listener) as kernel:
        await crash(once, 1)
        await anyio.sleep(1000)
        assert once.lives == 1
        assert [e.again_s for e in listener.events if isinstance(e, ServiceDown)] == [None]
        with pytest.raises(Unavailable):
            await kernel.request(Ask())


async def test_a_lossless_subscriber_that_is_down_holds_up_nobody() -> None:
    class Deaf(Fragile, name="deaf", restart="never"):
        @subscribes(Hint, size=1, overflow="lossless")
        async def hint(self, event: Hint) -> None: ...

    deaf = Deaf()
    async with Kernel(deaf) as kernel:
        await crash(deaf, 1)
        with anyio.fail_after(20):
            for n in range(10):
                await kernel.publish(Hint(n=n))


async def test_a_supervised_service_that_hears_of_its_own_crash_losslessly_does_not_hang() -> None:
    class Vain(Fragile, name="vain"):
        @subscribes("service.*", size=1, overflow="lossless")
        async def about(self, event: Event) -> None:
            await anyio.sleep(100)

    vain = Vain()
    async with Kernel(vain):
        with anyio.fail_after(50):
            for _ in range(3):
                await crash(vain, 1)
        assert vain.lives == 4


async def test_stop_does_not_wait_for_a_back_off() -> None:
    fragile = Fragile()
    with anyio.fail_after(1):
        async with Kernel(fragile):
            fragile.fails_to_start = True
            await crash(fragile, 1)


async def test_stop_does_not_wait_for_a_restart_that_hangs() -> None:
    class Hangs(Fragile, name="hangs"):
        async def start(self) -> None:
            if self.lives:
                await anyio.sleep_forever()
            await super().start()

    hangs = Hangs()
    with anyio.fail_after(1):
        async with Kernel(hangs):
            await crash(hangs, 1)


@pytest.mark.parametrize("scope", [anyio.fail_after, anyio.move_on_after])
async def test_a_timeout_around_an_aborted_call_still_works(
    scope: Callable[[float], anyio.CancelScope],
) -> None:
    fragile = Fragile()
    async with Kernel(fragile) as kernel, anyio.create_task_group() as group:
        group.start_soon(crash, fragile, 1)
        with anyio.move_on_after(5) as outer:
            with pytest.raises(Unavailable):
                await kernel.request(Ask())
            await anyio.sleep_forever()
        assert outer.cancelled_caught
