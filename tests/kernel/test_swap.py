import asyncio
from typing import Any

import anyio
import pytest

from aoskernel.kernel import (
    BootError,
    Call,
    ConfigError,
    Event,
    Kernel,
    KernelConfig,
    KernelStopped,
    Proceed,
    Request,
    Service,
    SwapFailed,
    Unavailable,
    WouldDeadlock,
    handles,
    subscribes,
)
from aoskernel.kernel.events import ServiceSwapped, SwapRejected
from aoskernel.kernel.message import R


class Ask(Request[str], topic="shop.ask"):
    n: int = 0


class Wait(Request[str], topic="shop.wait"):
    pass


class Enter(Request[str], topic="shop.enter"):
    depth: int = 0


class Hint(Event, topic="some.hint"):
    n: int


class Shop(Service, name="shop"):
    """One version of a service; `open_` counts what its state is worth."""

    def __init__(self, version: str, *, fails: bool = False, pause_s: float = 1) -> None:
        self.version, self.fails, self.pause_s = version, fails, pause_s
        self.served: list[int] = []
        self.hints: list[int] = []
        self.diary: list[str] = []

    async def start(self) -> None:
        if self.fails:
            raise OSError("port taken")
        self.diary.append("start")

    async def stop(self) -> None:
        self.diary.append("stop")

    def hand_over(self, successor: "Shop") -> None:
        successor.served += self.served

    @handles(Ask)
    async def ask(self, request: Ask) -> str:
        assert self.diary[-1] == "start", "served by a service that is not up"
        await anyio.sleep(self.pause_s)
        self.served.append(request.n)
        return self.version

    @handles(Wait, waits=True)
    async def wait(self, request: Wait) -> str:
        if self.version == "old":
            await anyio.sleep_forever()
        return self.version

    @subscribes(Hint)
    async def hint(self, event: Hint) -> None:
        assert self.diary[-1] == "start", "told a service that is not up"
        await anyio.sleep(0.1)
        self.hints.append(event.n)


class Exclusive(Shop, name="shop", exclusive=True):
    pass


async def ask_many(kernel: Kernel, many: int, replies: list[str], pause_s: float = 0.0) -> None:
    async def one(n: int) -> None:
        await anyio.sleep(n * pause_s)
        replies.append(await kernel.request(Ask(n=n)))

    async with anyio.create_task_group() as group:
        for n in range(many):
            group.start_soon(one, n)


async def test_a_swap_under_two_hundred_open_requests_loses_none() -> None:
    old, new, replies = Shop("old"), Shop("new"), list[str]()
    with anyio.fail_after(100):
        async with Kernel(old) as kernel, anyio.create_task_group() as group:
            group.start_soon(ask_many, kernel, 200, replies, 0.01)
            await anyio.sleep(0.5)
            await kernel.swap("shop", new)
    assert len(replies) == 200
    assert set(replies) == {"old", "new"}
    assert sorted(new.served) == list(range(200)), "state and work went over complete"
    assert old.diary == ["start", "stop"]


async def test_a_swap_of_an_exclusive_service_loses_none_and_stops_the_old_first() -> None:
    diary: list[str] = []
    old, new, replies = Exclusive("old"), Exclusive("new"), list[str]()
    old.diary = new.diary = diary
    with anyio.fail_after(100):
        async with Kernel(old) as kernel, anyio.create_task_group() as group:
            group.start_soon(ask_many, kernel, 200, replies, 0.01)
            await anyio.sleep(0.5)
            await kernel.swap("shop", new)
    assert diary == ["start", "stop", "start", "stop"]
    assert sorted(new.served) == list(range(200))


@pytest.mark.parametrize("shop", [Shop, Exclusive])
async def test_when_the_successor_does_not_start_the_old_one_goes_on_and_none_is_lost(
    shop: type[Shop],
) -> None:
    old, replies = shop("old"), list[str]()
    with anyio.fail_after(100):
        async with Kernel(old) as kernel, anyio.create_task_group() as group:
            group.start_soon(ask_many, kernel, 200, replies, 0.01)
            await anyio.sleep(0.5)
            with pytest.raises(SwapFailed, match=r"port taken.*the old one goes on"):
                await kernel.swap("shop", shop("new", fails=True))
    assert replies == ["old"] * 200


async def test_when_hand_over_raises_the_old_one_goes_on() -> None:
    class Stubborn(Shop):
        def hand_over(self, successor: Shop) -> None:
            raise TypeError("not to you")

    old, new = Stubborn("old"), Shop("new")
    async with Kernel(old) as kernel:
        with pytest.raises(SwapFailed, match="not to you"):
            await kernel.swap("shop", new)
        with anyio.fail_after(20):
            assert await kernel.request(Ask()) == "old"
    assert new.diary == ["start", "stop"]


async def test_a_successor_that_crashes_before_its_turn_is_not_taken() -> None:
    class Crashes(Shop):
        async def run(self) -> None:
            await anyio.sleep(0.5)
            raise OSError("too early")

    old = Shop("old")
    async with Kernel(old) as kernel, anyio.create_task_group() as group:
        group.start_soon(ask_many, kernel, 1, [])
        await anyio.wait_all_tasks_blocked()
        with pytest.raises(SwapFailed, match="too early"):
            await kernel.swap("shop", Crashes("new"))
        assert await kernel.request(Ask()) == "old"


class Frail(Shop):
    async def start(self) -> None:
        await super().start()
        self.crash = anyio.Event()

    async def run(self) -> None:
        await self.crash.wait()
        raise OSError("frail")


async def test_an_old_service_that_crashes_during_the_swap_is_replaced_all_the_same() -> None:
    old, new = Frail("old", pause_s=5), Shop("new")
    async with Kernel(old) as kernel, anyio.create_task_group() as group:

        async def ask() -> None:
            with pytest.raises(Unavailable, match="crashed"):
                await kernel.request(Ask())

        group.start_soon(ask)
        await anyio.wait_all_tasks_blocked()
        change = kernel.swap("shop", new)
        await anyio.wait_all_tasks_blocked()
        old.crash.set()
        await change
        assert await kernel.request(Ask()) == "new"
        await anyio.sleep(10)
        assert (old.diary, new.diary) == (["start", "stop"], ["start"])


async def test_an_old_service_that_crashes_during_a_swap_that_fails_comes_back() -> None:
    class SlowAndBad(Shop):
        async def start(self) -> None:
            await anyio.sleep(5)
            raise OSError("bad")

    old = Frail("old")
    async with Kernel(old) as kernel:
        change = kernel.swap("shop", SlowAndBad("new"))
        await anyio.sleep(1)
        old.crash.set()
        with pytest.raises(SwapFailed):
            await change
        with anyio.fail_after(20):
            assert await kernel.request(Ask()) == "old"


async def test_a_service_that_is_down_can_be_swapped() -> None:
    class Down(Frail, restart="never"):
        pass

    old, new = Down("old"), Shop("new")
    async with Kernel(old) as kernel:
        old.crash.set()
        await anyio.sleep(1)
        await kernel.swap("shop", new)
        assert await kernel.request(Ask()) == "new"


async def test_a_successor_is_restarted_when_it_crashes() -> None:
    new = Frail("new")
    async with Kernel(Shop("old")) as kernel:
        await kernel.swap("shop", new)
        new.crash.set()
        await anyio.sleep(1)
        assert await kernel.request(Ask()) == "new"
        assert new.diary == ["start", "stop", "start"]


async def test_no_event_is_lost_over_a_swap_and_none_comes_twice() -> None:
    old, new = Shop("old"), Shop("new")
    async with Kernel(old) as kernel:
        for n in range(50):
            await kernel.publish(Hint(n=n))
        await anyio.sleep(1)
        await kernel.swap("shop", new)
        for n in range(50, 60):
            await kernel.publish(Hint(n=n))
    assert old.hints
    assert old.hints + new.hints == list(range(60))


async def test_a_successor_may_hear_something_else() -> None:
    class Deaf(Shop):
        @subscribes("shop.news")
        async def hint(self, event: Hint) -> None: ...

    async with Kernel(Shop("old")) as kernel:
        await kernel.swap("shop", Deaf("new"))
        assert not kernel.bus.hears(Hint)


async def test_what_is_cut_by_the_drain_arrives_as_unavailable() -> None:
    old = Shop("old", pause_s=60)
    async with Kernel(old, config=KernelConfig(drain_s=2)) as kernel:
        task = asyncio.current_task()
        assert task is not None
        with anyio.fail_after(100) as scope:
            kernel.swap("shop", Shop("new"))
            with pytest.raises(Unavailable, match="it was replaced"):
                await kernel.request(Ask())
        assert task.cancelling() == 0
        assert not scope.cancelled_caught
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(1):
                await anyio.sleep_forever()
        with anyio.move_on_after(1) as later:
            await anyio.sleep_forever()
        assert later.cancelled_caught


async def test_a_timeout_in_the_same_moment_as_the_abort_is_still_a_timeout_or_unavailable() -> (
    None
):
    for scope in (lambda: anyio.move_on_after(2), lambda: asyncio.timeout(2)):
        async with Kernel(Shop("old", pause_s=60), config=KernelConfig(drain_s=2)) as kernel:
            task = asyncio.current_task()
            assert task is not None
            kernel.swap("shop", Shop("new"))
            try:
                manager: Any = scope()
                if hasattr(manager, "__aenter__"):
                    async with manager:
                        await kernel.request(Ask())
                else:
                    with manager:
                        await kernel.request(Ask())
            except (TimeoutError, Unavailable):
                pass
            assert task.cancelling() == 0
            with anyio.fail_after(1):
                await anyio.sleep(0.5)


async def test_an_aborted_handler_with_a_task_group_arrives_as_unavailable() -> None:
    class Grouped(Shop):
        @handles(Ask)
        async def ask(self, request: Ask) -> str:
            async with anyio.create_task_group() as group:
                for _ in range(3):
                    group.start_soon(anyio.sleep_forever)
            return ""

    async with Kernel(Grouped("old"), config=KernelConfig(drain_s=2)) as kernel:
        task = asyncio.current_task()
        assert task is not None
        kernel.swap("shop", Shop("new"))
        with pytest.raises(Unavailable):
            await kernel.request(Ask())
        assert task.cancelling() == 0


async def test_a_long_wait_is_asked_again_after_the_swap() -> None:
    replies: list[str] = []
    async with Kernel(Shop("old")) as kernel, anyio.create_task_group() as group:

        async def wait() -> None:
            replies.append(await kernel.request(Wait()))

        for _ in range(5):
            group.start_soon(wait)
        await anyio.wait_all_tasks_blocked()
        with anyio.fail_after(1):  # not even the grace is waited for
            await kernel.swap("shop", Shop("new"))
    assert replies == ["new"] * 5


async def test_a_long_wait_ends_with_the_kernel() -> None:
    async with anyio.create_task_group() as group:
        async with Kernel(Shop("old")) as kernel:

            async def wait() -> None:
                with pytest.raises(KernelStopped):
                    await kernel.request(Wait())

            group.start_soon(wait)
            await anyio.wait_all_tasks_blocked()


class Reentrant(Service, name="reentrant", needs=[Enter]):
    """Calls itself while it is inside; with a pause, so that a drain falls in between."""

    def __init__(self, version: str) -> None:
        self.version = version

    @handles(Enter)
    async def enter(self, request: Enter) -> str:
        await anyio.sleep(1)
        if request.depth:
            return self.version + await self.request(Enter(depth=request.depth - 1))
        return self.version


async def test_a_chain_that_reenters_passes_a_closed_gate() -> None:
    replies: list[str] = []
    async with Kernel(Reentrant("o")) as kernel, anyio.create_task_group() as group:

        async def ask() -> None:
            replies.append(await kernel.request(Enter(depth=4)))

        group.start_soon(ask)
        await anyio.sleep(0.5)
        with anyio.fail_after(9):
            await kernel.swap("reentrant", Reentrant("n"))
    assert replies == ["ooooo"]


async def test_a_subscriber_that_asks_its_own_service_passes_a_closed_gate() -> None:
    class Asks(Shop, needs=[Ask]):
        @subscribes(Hint)
        async def hint(self, event: Hint) -> None:
            await anyio.sleep(1)
            self.hints.append(event.n)
            await self.request(Ask(n=event.n))

    old = Asks("old")
    async with Kernel(old) as kernel:
        await kernel.publish(Hint(n=1))
        await anyio.sleep(0.5)
        with anyio.fail_after(20):
            await kernel.swap("shop", Asks("new"))
    assert old.served == [1]


class SwapsItself(Service, name="shop"):
    kernel: Kernel
    change: Any

    def __init__(self, *, awaits: bool) -> None:
        self.awaits = awaits

    @handles(Ask)
    async def ask(self, request: Ask) -> str:
        change = self.kernel.swap("shop", Shop("new", pause_s=0))
        if self.awaits:
            await change
        return "old"


async def test_a_swap_of_itself_cannot_be_awaited() -> None:
    service = SwapsItself(awaits=True)
    async with Kernel(service) as service.kernel:
        with pytest.raises(WouldDeadlock, match="the swap of 'shop'"):
            await service.kernel.request(Ask())


async def test_a_swap_of_itself_happens_after_it_returns() -> None:
    service = SwapsItself(awaits=False)
    async with Kernel(service) as service.kernel:
        with anyio.fail_after(20):
            assert await service.kernel.request(Ask()) == "old"
            await anyio.wait_all_tasks_blocked()
            assert await service.kernel.request(Ask()) == "new"


async def test_a_misspelt_service_cannot_be_swapped() -> None:
    async with Kernel(Shop("old")) as kernel:
        with pytest.raises(ConfigError, match=r"no service 'shpo'; did you mean 'shop'"):
            kernel.swap("shpo", Shop("new"))


async def test_a_successor_must_handle_all_that_the_old_one_does() -> None:
    class Less(Service, name="less"):
        @handles(Ask)
        async def ask(self, request: Ask) -> str:
            return "less"

    async with Kernel(Shop("old")) as kernel:
        with pytest.raises(BootError, match=r"Less does not handle shop.wait"):
            kernel.swap("shop", Less())


async def test_a_successor_may_handle_more() -> None:
    class Less(Service, name="shop"):
        @handles(Ask)
        async def ask(self, request: Ask) -> str:
            return "less"

    async with Kernel(Less()) as kernel:
        await kernel.swap("shop", Shop("new"))
        assert await kernel.request(Wait()) == "new"


async def test_what_a_successor_needs_must_be_handled() -> None:
    class Needy(Shop, needs=[Enter]):
        pass

    async with Kernel(Shop("old")) as kernel:
        with pytest.raises(BootError, match=r"needs shop.enter"):
            kernel.swap("shop", Needy("new"))


async def test_swaps_are_told() -> None:
    async with Kernel(Shop("old")) as kernel, kernel.listen("service.swap*") as events:
        await kernel.swap("shop", Shop("new"))
        with pytest.raises(SwapFailed):
            await kernel.swap("shop", Shop("newer", fails=True))
        assert {type(await anext(events)) for _ in range(2)} == {ServiceSwapped, SwapRejected}


async def test_two_swaps_of_one_service_happen_one_after_the_other() -> None:
    async with Kernel(Shop("old")) as kernel:
        first, second = kernel.swap("shop", Shop("2")), kernel.swap("shop", Shop("3"))
        await first
        await second
        assert await kernel.request(Ask()) == "3"


async def test_stop_cuts_a_swap_that_is_under_way() -> None:
    class Stuck(Shop):
        async def start(self) -> None:
            await anyio.sleep_forever()

    old = Shop("old")
    with anyio.fail_after(20):
        async with Kernel(old) as kernel:
            change = kernel.swap("shop", Stuck("new"))
            await anyio.wait_all_tasks_blocked()
        with pytest.raises(KernelStopped):
            await change
    assert old.diary == ["start", "stop"]


class Queue(Service, name="queue"):
    """A guard that holds calls until it is told to let them go; its queue is handed over."""

    def __init__(self, version: str) -> None:
        self.version = version
        self.held: list[asyncio.Future[None]] = []
        self.stopped = False

    async def guard(self, call: Call[R], proceed: Proceed[R]) -> R:
        assert not self.stopped
        turn = asyncio.get_running_loop().create_future()
        self.held.append(turn)
        await turn
        assert not self.stopped, "a guard that calls still run through was stopped"
        return await proceed(call)

    def hand_over(self, successor: "Queue") -> None:
        successor.held, self.held = self.held, []

    def let_go(self) -> None:
        for turn in self.held:
            turn.set_result(None)
        self.held = []

    async def stop(self) -> None:
        self.stopped = True


async def test_a_swap_of_a_guard_with_state_loses_none_of_two_hundred() -> None:
    old, new, replies = Queue("old"), Queue("new"), list[str]()
    routes = {"shop.ask": ["queue"]}
    with anyio.fail_after(100):
        async with Kernel(Shop("shop"), old, routes=routes) as kernel:
            async with anyio.create_task_group() as group:
                group.start_soon(ask_many, kernel, 200, replies, 0.01)
                await anyio.sleep(1)
                await kernel.swap("queue", new)
                assert len(new.held) > 50
                await anyio.sleep(2)
                assert len(new.held) == 200
                new.let_go()
            await anyio.wait_all_tasks_blocked()
            assert old.stopped
    assert replies == ["shop"] * 200


async def test_a_replaced_guard_lives_until_the_last_call_through_it_has_left() -> None:
    class Keeps(Queue):
        def hand_over(self, successor: Queue) -> None: ...

    outer, inner = Keeps("outer").named("outer"), Keeps("inner").named("inner")
    routes = {"shop.ask": ["outer", "inner"]}
    async with Kernel(Shop("shop"), outer, inner, routes=routes) as kernel:
        async with anyio.create_task_group() as group:
            group.start_soon(ask_many, kernel, 1, [])
            await anyio.wait_all_tasks_blocked()
            await kernel.swap("outer", Keeps("outer2"))
            await kernel.swap("inner", Keeps("inner2"))
            await anyio.wait_all_tasks_blocked()
            outer.let_go()
            await anyio.wait_all_tasks_blocked()
            assert not inner.stopped
            inner.let_go()
        await anyio.wait_all_tasks_blocked()
        assert outer.stopped
        assert inner.stopped


async def test_an_exclusive_guard_cannot_be_swapped() -> None:
    class Alone(Queue, exclusive=True):
        pass

    async with Kernel(Shop("shop"), Alone("old"), routes={"shop.ask": ["queue"]}) as kernel:
        with pytest.raises(BootError, match="exclusive and stands on routes"):
            kernel.swap("queue", Alone("new"))


class Narrow(Shop, name="shop", concurrency=2):
    pass


async def test_permits_are_counted_right_when_a_swap_changes_the_limit() -> None:
    class Wider(Shop, concurrency=5):
        most = inside = 0

        @handles(Ask)
        async def ask(self, request: Ask) -> str:
            self.inside += 1
            self.most = max(self.most, self.inside)
            try:
                return await super().ask(request)
            finally:
                self.inside -= 1

    wider, replies = Wider("new"), list[str]()
    async with Kernel(Narrow("old")) as kernel:
        with anyio.fail_after(1000):
            async with anyio.create_task_group() as group:
                group.start_soon(ask_many, kernel, 50, replies)
                await anyio.sleep(3.5)
                await kernel.swap("shop", wider)
            assert len(replies) == 50
            assert wider.most == 5
            wider.most = 0
            await ask_many(kernel, 50, [])
            assert wider.most == 5
