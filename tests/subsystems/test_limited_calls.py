"""Scheduler, limiter and breaker together: who goes next, and that nobody is lost or doubled."""

import itertools
from collections.abc import Callable, Coroutine
from typing import Any

import anyio
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from limited import Fetch, Metered, Shop, ask, most_within, virtually

from aoskernel import Kernel, KernelError, admitted, handles, tool
from aoskernel.drivers.tools.python import PythonTools
from aoskernel.kernel.errors import NotNow
from aoskernel.subsystems.breaker.circuit import Rules
from aoskernel.subsystems.breaker.service import Breaker
from aoskernel.subsystems.limiter.limits import Limit
from aoskernel.subsystems.limiter.service import Limiter
from aoskernel.subsystems.llm.driver import ModelUnavailable, RateLimited
from aoskernel.subsystems.llm.messages import Complete, Completion
from aoskernel.subsystems.scheduler.service import Scheduler
from aoskernel.subsystems.tools.messages import CallTool
from aoskernel.subsystems.tools.service import Toolset

ROUTES = {"llm.complete": ["scheduler", "limiter", "breaker"]}


def limits(**told: Any) -> tuple[Limit, ...]:
    return (Limit.model_validate(told),)


def kernel_of(model: Metered, *limits: Limit, rules: Rules | None = None, **slots: int) -> Kernel:
    guards = Scheduler(slots=slots), Limiter(limits), Breaker(rules)
    return Kernel(model, *guards, routes=ROUTES)


async def all_of(calls: list[Callable[[], Coroutine[Any, Any, Any]]]) -> None:
    """Begin them in this order, and wait until all are done."""
    async with anyio.create_task_group() as tasks:
        for call in calls:
            tasks.start_soon(call)


def asker(kernel: Kernel, text: str, **who: Any) -> Callable[[], Coroutine[Any, Any, str]]:
    return lambda: ask(kernel, text, **who)


def test_with_a_dry_key_and_four_low_turns_queued_a_high_one_that_comes_is_the_next() -> None:
    async def scenario() -> None:
        model = Metered("key")
        async with kernel_of(model, *limits(requests="1/s burst 1")) as kernel:
            async with anyio.create_task_group() as tasks:
                await ask(kernel, "first")
                for number in range(4):
                    tasks.start_soon(asker(kernel, f"low {number}", priority=90))
                await anyio.sleep(0.5)
                tasks.start_soon(asker(kernel, "high", priority=0))
        assert [text for _, text in model.asked] == [
            "first", "high", "low 0", "low 1", "low 2", "low 3",
        ]  # fmt: skip
        assert [at for at, _ in model.asked] == pytest.approx([0, 1, 2, 3, 4, 5])

    virtually(scenario)


def test_who_waits_for_a_key_is_woken_and_never_polls() -> None:
    """A thousand turns through a limit: hardly more is asked of it than it lets through."""

    async def scenario() -> None:
        model = Metered("key", slots=8)
        limiter = Limiter(limits(requests="10/s burst 2"))
        refused = 0
        inner = limiter._dry

        async def counted(*told: Any) -> Any:
            nonlocal refused
            refused += 1
            return await inner(*told)

        limiter._dry = counted  # type: ignore[method-assign]
        routes = {"llm.complete": ["scheduler", "limiter"]}
        async with Kernel(model, Scheduler(), limiter, routes=routes) as kernel:
            await all_of([asker(kernel, str(number)) for number in range(1000)])
        assert [text for _, text in model.asked] == [str(number) for number in range(1000)]
        assert model.asked[-1][0] == pytest.approx(99.8, abs=0.3)
        assert refused < 200

    virtually(scenario)


@settings(max_examples=40, deadline=None)
@given(
    per_s=st.floats(0.5, 50),
    burst=st.integers(1, 10),
    slots=st.integers(1, 8),
    takes_s=st.floats(0, 2),
    pauses=st.lists(st.floats(0, 1), min_size=5, max_size=60),
)
@example(per_s=3.0, burst=3, slots=1, takes_s=0.0, pauses=[0.0, 0, 0, 0, 1.0, 1.0, 0, 0])
def test_no_window_has_more_than_its_rate_and_burst_and_none_is_wasted(
    per_s: float, burst: int, slots: int, takes_s: float, pauses: list[float]
) -> None:
    """Whoever comes when: it is let through as soon as slots, rate and burst allow."""

    async def scenario() -> None:
        model = Metered("key", slots=slots, takes_s=takes_s)
        arrived: list[float] = []
        async with kernel_of(model, *limits(requests=f"{per_s}/s burst {burst}")) as kernel:
            async with anyio.create_task_group() as tasks:
                for number, pause in enumerate(pauses):
                    await anyio.sleep(pause)
                    arrived.append(kernel.bus.time())
                    tasks.start_soon(asker(kernel, str(number)))
        began = [at for at, _ in model.asked]
        assert [text for _, text in model.asked] == [str(n) for n in range(len(pauses))]
        for first, last in itertools.combinations(range(len(began)), 2):
            window_s = began[last] - began[first]
            assert last - first + 1 <= per_s * window_s + burst + 1e-3
        assert began == pytest.approx(_ideal(arrived, per_s, burst, slots, takes_s), abs=0.01)

    virtually(scenario)


def _ideal(
    arrived: list[float], per_s: float, burst: int, slots: int, takes_s: float
) -> list[float]:
    """When each would begin if nothing were ever wasted."""
    began: list[float] = []
    full_at, free_at = 0.0, [0.0] * slots
    for at in arrived:
        begin = max(at, free_at.pop(0), began[-1] if began else 0.0, full_at - (burst - 1) / per_s)
        full_at = max(full_at, begin) + 1 / per_s
        free_at = sorted([*free_at, begin + takes_s])
        began.append(begin)
    return began


def test_tenants_do_not_hold_each_other_up() -> None:
    async def scenario() -> None:
        model = Metered("key", slots=1)
        async with kernel_of(model, *limits(per="tenant", requests="1/s burst 1")) as kernel:
            turns = [("a", 0), ("a", 1), ("a", 2), ("b", 0), ("b", 1), ("c", 0)]
            await all_of([asker(kernel, f"{t}{n}", tenant=t) for t, n in turns])
        assert [text for _, text in model.asked] == ["a0", "b0", "c0", "a1", "b1", "a2"]
        assert model.asked[-1][0] == pytest.approx(2)

    virtually(scenario)


def test_a_free_place_goes_to_the_one_that_is_next_at_once() -> None:
    async def scenario() -> None:
        model = Metered("key", slots=8, takes_s=0.3)
        async with kernel_of(model, *limits(concurrency=2)) as kernel:
            async with anyio.create_task_group() as tasks:
                for number in range(10):
                    tasks.start_soon(asker(kernel, f"low {number}", priority=90))
                await anyio.sleep(0.1)
                tasks.start_soon(asker(kernel, "high", priority=0))
        assert model.asked[2][1] == "high"
        assert model.asked[-1][0] == pytest.approx(1.5)

    virtually(scenario)


def test_places_of_a_tenant_too() -> None:
    async def scenario() -> None:
        model = Metered("key", slots=8, takes_s=0.3)
        async with kernel_of(model, *limits(per="tenant", concurrency=1)) as kernel:
            await all_of([asker(kernel, str(number), tenant="a") for number in range(6)])
        assert [at for at, _ in model.asked] == pytest.approx([0, 0.3, 0.6, 0.9, 1.2, 1.5])
        assert [text for _, text in model.asked] == [str(number) for number in range(6)]

    virtually(scenario)


def test_a_tenant_s_free_place_goes_to_the_best_of_those_turned_away() -> None:
    async def scenario() -> None:
        model = Metered("key", slots=8, takes_s=0.3)
        async with kernel_of(model, *limits(per="tenant", concurrency=1)) as kernel:
            turns = [("low 0", 90), ("low 1", 90), ("low 2", 90), ("high", 0)]
            await all_of([asker(kernel, text, tenant="a", priority=p) for text, p in turns])
        assert [text for _, text in model.asked] == ["low 0", "high", "low 1", "low 2"]
        assert model.asked[-1][0] == pytest.approx(0.9)

    virtually(scenario)


def test_an_open_circuit_is_given_no_slots_and_then_as_many_as_are_to_be_tried() -> None:
    async def scenario() -> None:
        model = Metered("key", slots=8, takes_s=1.0)
        model.error = ModelUnavailable("down")
        rules = Rules(least_calls=2, open_s=30, probes=2)
        async with kernel_of(model, rules=rules) as kernel:
            for _ in range(2):
                with pytest.raises(ModelUnavailable):
                    await ask(kernel, "fails")
            model.error = None
            await all_of([asker(kernel, str(number)) for number in range(20)])
        tried = [at for at, text in model.asked if text != "fails"]
        assert tried[:2] == pytest.approx([30, 30])
        assert len(tried) == 20
        assert tried[2] == pytest.approx(31)  # when both probes had gone well
        assert tried[-1] == pytest.approx(33)

    virtually(scenario)


def test_who_was_turned_away_by_a_tool_s_circuit_comes_when_it_closes() -> None:
    async def scenario() -> None:
        shop, began = Shop(), list[float]()

        @tool(effect="none")
        async def fetch() -> str:
            """Have something from the shop."""
            began.append(anyio.current_time())
            await anyio.sleep(1)
            if shop.error is not None:
                raise TimeoutError
            return "goods"

        guards = Scheduler(), Breaker(Rules(least_calls=2, open_s=10))
        routes = {"tools.call": ["scheduler", "breaker"]}
        tools = Toolset(PythonTools(functions=(fetch,))).named("tools.shop")
        async with Kernel(tools, Metered(), *guards, routes=routes) as kernel:
            shop.error = TimeoutError()
            for _ in range(2):
                with pytest.raises(KernelError):
                    await kernel.request(CallTool(name="fetch", arguments={}))
            shop.error = None
            await all_of([lambda: kernel.request(CallTool(name="fetch", arguments={}))] * 4)
        assert began == pytest.approx([0, 1, 12, 13, 13, 13])

    virtually(scenario)


async def insistent(kernel: Kernel, text: str, answers: list[str]) -> None:
    """What retry does, in short: again and again, as long as it may work."""
    while True:
        try:
            await ask(kernel, text)
            answers.append(text)
            return
        except (RateLimited, ModelUnavailable, NotNow):
            await anyio.sleep(0.1)


class Strict(Metered):
    """A provider that counts: more than so many within a second are refused, and told when."""

    most = 5

    def __init__(self) -> None:
        super().__init__("key", slots=16, takes_s=0.05)
        self.counted: list[float] = []
        self.answered: list[str] = []
        self.refused = 0

    @handles(Complete)
    async def complete(self, ask: Complete) -> Completion:
        now = self.bus.time()
        self.counted = [at for at in self.counted if at > now - 1]
        if len(self.counted) >= self.most:
            self.refused += 1
            raise RateLimited("slow down", retry_after_s=self.counted[0] + 1 - now)
        self.counted.append(now)
        reply = await super().complete(ask)
        self.answered.append(ask.messages[-1].text)
        return reply


def test_through_a_storm_of_429_and_swaps_of_all_three_nobody_is_lost_or_doubled() -> None:
    async def scenario() -> None:
        model, answers = Strict(), list[str]()
        async with kernel_of(model) as kernel:
            async with anyio.create_task_group() as tasks:
                for number in range(200):
                    tasks.start_soon(insistent, kernel, str(number), answers)
                for _ in range(4):
                    await anyio.sleep(1.3)
                    await kernel.swap("limiter", Limiter())
                    await anyio.sleep(0.7)
                    await kernel.swap("breaker", Breaker())
                    await anyio.sleep(0.9)
                    await kernel.swap("scheduler", Scheduler(policy="fifo"))
        assert sorted(answers, key=int) == [str(number) for number in range(200)]
        assert sorted(model.answered, key=int) == sorted(answers, key=int)
        assert model.asked[-1][0] < 50  # 39 s at best
        assert model.refused < 100

    virtually(scenario)


def test_through_an_outage_nobody_is_lost_or_doubled() -> None:
    async def scenario() -> None:
        model, answers, failed = Metered("key", slots=4, takes_s=0.05), list[str](), 0
        rules = Rules(least_calls=4, open_s=5, longest_open_s=20)
        async with kernel_of(model, *limits(requests="20/s"), rules=rules) as kernel:
            async with anyio.create_task_group() as tasks:
                model.error = ModelUnavailable("down")
                for number in range(100):
                    tasks.start_soon(insistent, kernel, str(number), answers)
                await anyio.sleep(30)
                failed = len(model.asked)
                await kernel.swap("breaker", Breaker(rules))
                model.error = None
        assert failed < 12  # four, and a probe now and then
        assert sorted(answers, key=int) == [str(number) for number in range(100)]
        assert len(model.asked) == failed + 100

    virtually(scenario)


# Outside of a route


def test_a_hundred_callers_at_fifty_a_second_get_a_hundred_and_fifty_in_three_seconds() -> None:
    async def scenario() -> None:
        given: list[tuple[float, int]] = []
        of = limits(of="payments-api", per="all", requests="50/s burst 1")

        async def caller(kernel: Kernel, number: int) -> None:
            while True:
                async with admitted(kernel, "payments-api"):
                    if kernel.bus.time() >= 3:
                        return
                    given.append((kernel.bus.time(), number))

        async with Kernel(Limiter(of), Breaker()) as kernel:
            with anyio.move_on_after(3):
                async with anyio.create_task_group() as tasks:
                    for number in range(100):
                        tasks.start_soon(caller, kernel, number)
        assert abs(len(given) - 150) <= 1
        assert most_within([at for at, _ in given], 1.0) <= 51
        assert [number for _, number in given] == [n % 100 for n in range(len(given))]

    virtually(scenario)


def test_each_key_has_its_own_and_all_share_the_wider_one() -> None:
    async def scenario() -> None:
        of = (
            *limits(of="payments-api", per="key", requests="1/s burst 1"),
            *limits(of="payments-api", per="all", requests="2/s burst 2"),
        )
        given: list[tuple[str, float]] = []

        async def caller(kernel: Kernel, key: str) -> None:
            async with admitted(kernel, "payments-api", key=key):
                given.append((key, round(kernel.bus.time(), 6)))

        async with Kernel(Limiter(of), Breaker()) as kernel:
            async with anyio.create_task_group() as tasks:
                for key in ("a", "a", "b", "c"):
                    tasks.start_soon(caller, kernel, key)
        assert given == [("a", 0), ("b", 0), ("c", 0.5), ("a", 1.0)]

    virtually(scenario)


def test_who_gives_up_waiting_leaves_its_turn_to_the_next() -> None:
    async def scenario() -> None:
        of = limits(of="x", per="all", concurrency=1)
        async with Kernel(Limiter(of), Breaker()) as kernel:
            async with anyio.create_task_group() as tasks:

                async def hold(seconds: float) -> None:
                    async with admitted(kernel, "x"):
                        await anyio.sleep(seconds)

                tasks.start_soon(hold, 10)
                await anyio.sleep(1)
                with anyio.move_on_after(2) as impatient:
                    await hold(1)
                assert impatient.cancelled_caught
                tasks.start_soon(hold, 1)
                await anyio.sleep(0.5)
                await hold(1)
            assert kernel.bus.time() == pytest.approx(12)

    virtually(scenario)


def test_its_circuit_opens_by_what_the_body_raises_and_waiters_come_when_it_closes() -> None:
    async def scenario() -> None:
        rules = Rules(least_calls=2, open_s=10)
        async with Kernel(Limiter(), Breaker(rules)) as kernel:
            for _ in range(2):
                with pytest.raises(TimeoutError):
                    async with admitted(kernel, "payments-api"):
                        raise TimeoutError
            began: list[float] = []

            async def one() -> None:
                async with admitted(kernel, "payments-api"):
                    began.append(kernel.bus.time())
                    await anyio.sleep(1)

            await all_of([one] * 3)
            assert began == pytest.approx([10, 11, 11])

    virtually(scenario)


def test_a_probe_that_was_cancelled_lets_the_next_one_try_at_once() -> None:
    async def scenario() -> None:
        async with Kernel(Limiter(), Breaker(Rules(least_calls=1, open_s=10))) as kernel:
            with pytest.raises(TimeoutError):
                async with admitted(kernel, "payments-api"):
                    raise TimeoutError
            await anyio.sleep(10)

            async def impatient() -> None:
                with anyio.move_on_after(2):
                    async with admitted(kernel, "payments-api"):
                        await anyio.sleep_forever()

            async with anyio.create_task_group() as tasks:
                tasks.start_soon(impatient)
                await anyio.sleep(1)
                async with admitted(kernel, "payments-api"):
                    assert kernel.bus.time() == pytest.approx(12)

    virtually(scenario)


def test_a_limit_stands_on_any_route() -> None:
    async def scenario() -> None:
        routes = {"shop.fetch": ["scheduler", "limiter"]}
        of, shop = limits(of="shop", per="address", requests="1/s burst 1"), Shop()
        models = Metered()
        async with Kernel(shop, models, Scheduler(), Limiter(of), routes=routes) as kernel:
            await all_of([lambda: kernel.request(Fetch())] * 4)
        assert shop.asked_at == pytest.approx([0, 1, 2, 3])

    virtually(scenario)


def test_a_call_with_a_deadline_stops_waiting_then() -> None:
    async def scenario() -> None:
        model = Metered("key")
        async with kernel_of(model, *limits(requests="1/h burst 1")) as kernel:
            await ask(kernel, "first")
            with pytest.raises(TimeoutError):
                with anyio.fail_after(5):
                    await ask(kernel, "second")
            assert kernel.bus.time() == pytest.approx(5)
        assert len(model.asked) == 1

    virtually(scenario)
