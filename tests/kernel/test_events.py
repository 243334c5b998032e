import asyncio
from collections import defaultdict

import anyio
import pytest
from anyio.lowlevel import checkpoint
from hypothesis import given, settings
from hypothesis import strategies as st

from aoskernel.kernel import (
    Event,
    Kernel,
    KernelStopped,
    Request,
    Service,
    handles,
    subscribes,
)
from aoskernel.kernel.call import here
from aoskernel.kernel.events import Lagged
from aoskernel.kernel.testing import Bench, run_virtual


class Tick(Event, topic="clock.tick"):
    by: int = 0
    n: int


class Alarm(Event, topic="clock.alarm", urgent=True):
    n: int


class Pong(Event, topic="clock.pong"):
    n: int


class Ear(Service, name="ear"):
    def __init__(self) -> None:
        self.heard: list[Event] = []

    @subscribes("clock.*", size=100_000)
    async def hear(self, event: Event) -> None:
        self.heard.append(event)


class Small(Service, name="small"):
    """Hears four at most, and only when let."""

    def __init__(self) -> None:
        self.heard: list[int] = []
        self.let = anyio.Event()

    @subscribes(Tick, size=4)
    async def hear(self, event: Tick) -> None:
        await self.let.wait()
        self.heard.append(event.n)


class Careful(Service, name="careful"):
    def __init__(self, pause_s: float = 0.0) -> None:
        self.heard: list[Tick] = []
        self.let = anyio.Event()
        self.pause_s = pause_s

    @subscribes(Tick, size=2, overflow="lossless")
    async def hear(self, event: Tick) -> None:
        await self.let.wait()
        await anyio.sleep(self.pause_s)
        self.heard.append(event)


@settings(max_examples=25, deadline=None)
@given(
    publishers=st.integers(1, 5),
    each=st.integers(1, 30),
    pauses=st.lists(st.sampled_from([0.0, 0.1, 1.0]), min_size=1, max_size=7),
    size=st.integers(1, 8),
)
def test_every_publishers_events_arrive_complete_and_in_order_where_lossless(
    publishers: int, each: int, pauses: list[float], size: int
) -> None:
    class Lossless(Service, name="lossless"):
        def __init__(self) -> None:
            self.heard: dict[int, list[int]] = defaultdict(list)

        @subscribes(Tick, size=size, overflow="lossless")
        async def hear(self, event: Tick) -> None:
            await anyio.sleep(pauses[event.n % len(pauses)])
            self.heard[event.by].append(event.n)

    async def main() -> None:
        service = Lossless()

        async def publish(by: int) -> None:
            for n in range(each):
                await bench.kernel.publish(Tick(by=by, n=n))
                await anyio.sleep(pauses[(n + by) % len(pauses)])

        async with Bench(service) as bench:
            with anyio.fail_after(10_000):
                async with anyio.create_task_group() as group:
                    for by in range(publishers):
                        group.start_soon(publish, by)
                await bench.settle()
        assert service.heard == {by: list(range(each)) for by in range(publishers)}

    run_virtual(main)


@settings(max_examples=40, deadline=None)
@given(
    size=st.integers(1, 8),
    bursts=st.lists(st.integers(1, 20), min_size=1, max_size=10),
    pause_s=st.sampled_from([0.0, 0.3, 2.0]),
)
def test_nothing_is_dropped_uncounted(size: int, bursts: list[int], pause_s: float) -> None:
    class Lossy(Service, name="lossy"):
        def __init__(self) -> None:
            self.heard: list[int] = []

        @subscribes(Tick, size=size)
        async def hear(self, event: Tick) -> None:
            await anyio.sleep(pause_s)
            self.heard.append(event.n)

    async def main() -> None:
        service = Lossy()
        async with Bench(service) as bench:
            n = 0
            for burst in bursts:
                for _ in range(burst):
                    await bench.kernel.publish(Tick(n=n))
                    n += 1
                await anyio.sleep(1)
            with anyio.fail_after(1000):
                await bench.settle()
            (queue,) = (s for s in bench.kernel.bus.subscriptions if s.name == "lossy.hear")
            assert len(service.heard) + queue.dropped == n
            assert service.heard == sorted(service.heard)
            assert service.heard[-1] == n - 1, "the newest is never the one that goes"

    run_virtual(main)


async def test_the_urgent_lane_overtakes() -> None:
    ear = Ear()
    async with Bench(ear) as bench:
        for n in range(3):
            await bench.kernel.publish(Tick(n=n))
        await bench.publish(Alarm(n=9))
    assert [type(event) for event in ear.heard] == [Alarm, Tick, Tick, Tick]


async def test_a_flood_of_ordinary_events_drops_no_urgent_one() -> None:
    class Both(Ear, name="both"):
        @subscribes("clock.*", size=4)
        async def hear(self, event: Event) -> None:
            self.heard.append(event)

    both = Both()
    async with Bench(both) as bench:
        for n in range(4):
            await bench.kernel.publish(Alarm(n=n))
        for n in range(50):
            await bench.kernel.publish(Tick(n=n))
        await bench.settle()
    assert [event for event in both.heard if isinstance(event, Alarm)] == [
        Alarm(n=n) for n in range(4)
    ]


async def test_a_subscriber_that_falls_behind_is_told_of_once_per_episode() -> None:
    small = Small()
    async with Bench(small) as bench:
        for episode in (1, 2):
            small.let = anyio.Event()
            for n in range(20):
                await bench.kernel.publish(Tick(n=n))
            assert len(bench.told(Lagged)) == episode
            small.let.set()
            await bench.settle()


async def test_lagged_says_who_and_how_many() -> None:
    async with Bench(Small()) as bench:
        for n in range(6):
            await bench.kernel.publish(Tick(n=n))
        assert bench.told(Lagged) == [Lagged(subscriber="small.hear", dropped=1)]
        bench.service.let.set()  # type: ignore[attr-defined]


async def test_a_full_lossless_queue_makes_the_publisher_wait() -> None:
    careful = Careful()
    async with Bench(careful) as bench:
        with anyio.fail_after(60):
            for n in range(2):
                await bench.kernel.publish(Tick(n=n))
            await anyio.wait_all_tasks_blocked()  # one is being heard now
            await bench.kernel.publish(Tick(n=2))
            with anyio.move_on_after(1) as waiting:
                await bench.kernel.publish(Tick(n=3))
            assert waiting.cancelled_caught
            careful.let.set()
            await bench.settle()


async def test_a_publisher_that_gave_up_waiting_has_published_nothing() -> None:
    careful = Careful()
    async with Bench(careful) as bench:
        with anyio.move_on_after(1):
            for n in range(10):
                await bench.kernel.publish(Tick(n=n))
        careful.let.set()
        await bench.settle()
    assert [event.n for event in careful.heard] == [0, 1, 2]


async def test_a_slow_subscriber_does_not_slow_the_others() -> None:
    slow, ear = Small(), Ear()
    async with Kernel(slow, ear) as kernel:
        for n in range(100):
            await kernel.publish(Tick(n=n))
        await anyio.wait_all_tasks_blocked()
        assert len(ear.heard) == 100
        slow.let.set()


async def test_a_raising_subscriber_hurts_nobody(caplog: pytest.LogCaptureFixture) -> None:
    class Clumsy(Service, name="clumsy"):
        heard = 0

        @subscribes(Tick)
        async def hear(self, event: Tick) -> None:
            self.heard += 1
            raise RuntimeError("clumsy")

    clumsy, ear = Clumsy(), Ear()
    async with Kernel(clumsy, ear) as kernel:
        for n in range(3):
            await kernel.publish(Tick(n=n))
        await anyio.wait_all_tasks_blocked()
        assert (clumsy.heard, len(ear.heard)) == (3, 3)
        assert [seat.state for seat in kernel.services()] == ["up", "up"]
    assert "subscriber.failed" in caplog.text


class Left(Service, name="left"):
    """Answers each ball with two, lossless, until they are many."""

    heard = 0

    @subscribes(Tick, size=1, overflow="lossless")
    async def hear(self, event: Tick) -> None:
        self.heard += 1
        for _ in range(2):
            if event.n < 6:
                await self.publish(Pong(n=event.n + 1))


class Right(Service, name="right"):
    heard = 0

    @subscribes(Pong, size=1, overflow="lossless")
    async def hear(self, event: Pong) -> None:
        self.heard += 1
        for _ in range(2):
            if event.n < 6:
                await self.publish(Tick(n=event.n + 1))


async def test_two_lossless_subscribers_that_publish_to_each_other_do_not_deadlock() -> None:
    left, right = Left(), Right()
    async with Kernel(left, right) as kernel:
        with anyio.fail_after(60):
            await kernel.publish(Tick(n=0))
            while left.heard + right.heard < 2**7 - 1:
                await anyio.sleep(0.1)


async def test_a_subscriber_may_publish_to_itself_although_its_queue_is_full() -> None:
    class Echo(Service, name="echo"):
        heard = 0

        @subscribes(Tick, size=1, overflow="lossless")
        async def hear(self, event: Tick) -> None:
            self.heard += 1
            if event.n < 3:
                await self.publish(Tick(n=event.n + 1))
                await self.publish(Tick(n=event.n + 1))

    echo = Echo()
    async with Bench(echo) as bench:
        with anyio.fail_after(5):
            await bench.publish(Tick(n=0))
    assert echo.heard == 1 + 2 + 4 + 8


async def test_a_subscriber_that_always_tells_itself_more_does_not_hold_up_the_others() -> None:
    class Chatty(Service, name="chatty"):
        heard = 0
        quiet = False

        @subscribes(Tick)
        async def hear(self, event: Tick) -> None:
            self.heard += 1
            if not self.quiet:
                await self.publish(event)

    chatty = Chatty()
    async with Kernel(chatty) as kernel:
        await kernel.publish(Tick(n=1))
        for _ in range(10):
            await checkpoint()
        chatty.quiet = True
        assert 1 < chatty.heard < 20


async def test_a_task_that_a_subscriber_started_waits_for_room_like_anybody() -> None:
    class Spawns(Service, name="spawns"):
        waited = False

        @subscribes(Pong)
        async def hear(self, event: Pong) -> None:
            self.start_soon(self.work, name="work")

        async def work(self) -> None:
            began = anyio.current_time()
            for n in range(5):
                await self.publish(Tick(n=n))
            self.waited = anyio.current_time() > began

    spawns, careful = Spawns(), Careful(pause_s=1)
    careful.let.set()
    async with Kernel(spawns, careful) as kernel:
        await kernel.publish(Pong(n=1))
        await anyio.sleep(20)
        assert spawns.waited


async def test_an_application_listens() -> None:
    async with Kernel() as kernel, kernel.listen("clock.*") as events:
        await kernel.publish(Tick(n=1))
        await kernel.publish(Tick(n=2))
        with anyio.fail_after(1):
            assert await anext(events) == Tick(n=1)
            assert await anext(events) == Tick(n=2)


async def test_listening_ends_with_the_kernel() -> None:
    heard: list[Event] = []
    listening = anyio.Event()

    async def listen(kernel: Kernel) -> None:
        async with kernel.listen("clock.*") as events:
            listening.set()
            async for event in events:
                heard.append(event)

    with anyio.fail_after(5):
        async with anyio.create_task_group() as group:
            async with Kernel() as kernel:
                group.start_soon(listen, kernel)
                await listening.wait()
                await kernel.publish(Tick(n=1))
    assert heard == [Tick(n=1)]


async def test_what_nobody_hears_costs_nobody_anything() -> None:
    async with Kernel() as kernel:
        await kernel.publish(Tick(n=1))
        assert not kernel.bus.hears(Tick)


async def test_publishing_after_the_end_raises_kernel_stopped() -> None:
    async with Kernel(Ear()) as kernel:
        await kernel.publish(Tick(n=1))
    with pytest.raises(KernelStopped):
        await kernel.publish(Tick(n=1))


async def test_what_is_queued_is_heard_out_at_the_end() -> None:
    careful = Careful(pause_s=1)
    async with Kernel(careful) as kernel:
        careful.let.set()
        for n in range(3):
            await kernel.publish(Tick(n=n))
    assert [event.n for event in careful.heard] == [0, 1, 2]


async def test_ten_publishers_and_fifty_subscribers_under_load_lose_nothing() -> None:
    ears = [Ear().named(f"ear{number}") for number in range(50)]

    async def publish(kernel: Kernel, by: int) -> None:
        for n in range(200):
            await kernel.publish(Tick(by=by, n=n))
            if n % 10 == by:
                await asyncio.sleep(0)

    async with Kernel(*ears) as kernel:
        with anyio.fail_after(100):
            async with anyio.create_task_group() as group:
                for by in range(10):
                    group.start_soon(publish, kernel, by)
    for ear in ears:
        for by in range(10):
            heard = [event.n for event in ear.heard if isinstance(event, Tick) and event.by == by]
            assert heard == list(range(200))


async def test_what_is_said_under_an_event_carries_its_trace_and_one_cause() -> None:
    seen: list[tuple[str, str | None]] = []

    class Ask(Request[None], topic="clock.ask", effect="none"):
        """Note under what this was asked."""

    class Asked(Service, name="asked"):
        @handles(Ask)
        async def ask(self, request: Ask) -> None:
            envelope = here()
            assert envelope is not None
            seen.append((envelope.trace_id, envelope.cause))

    class Listener(Service, name="listener", needs=[Ask]):
        @subscribes(Tick)
        async def hear(self, event: Tick) -> None:
            await self.request(Ask())

    async with Kernel(Asked(), Listener(), Listener().named("other")) as kernel:
        await kernel.publish(Tick(by=0, n=1))
    assert len(seen) == 2
    assert len(set(seen)) == 1  # both heard the same event, so both have the same cause
    assert seen[0][1] is not None


async def test_a_method_hears_several_events_in_the_order_they_were_told() -> None:
    class Both(Service, name="both"):
        def __init__(self) -> None:
            self.heard: list[str] = []

        @subscribes(Tick, "clock.p*")
        async def hear(self, event: Event) -> None:
            self.heard.append(event.topic)

    both = Both()
    told: list[Event] = [Tick(n=1), Pong(n=1), Alarm(n=1), Tick(n=2), Pong(n=2)]
    async with Kernel(both) as kernel, kernel.listen("clock.tick", "clock.alarm") as listened:
        for event in told:
            await kernel.publish(event)
        assert [await anext(listened) for _ in range(3)] == [told[2], told[0], told[3]]
    assert both.heard == [event.topic for event in told if event != told[2]]
