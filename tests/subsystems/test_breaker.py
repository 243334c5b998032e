"""What keeps failing is left alone, tried out, and let through again, at exact moments."""

from collections.abc import Callable
from functools import partial
from typing import Any

import anyio
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from aoskernel import ConfigError, Kernel, Request, Service, handles
from aoskernel.kernel.config import build
from aoskernel.kernel.errors import KernelError
from aoskernel.kernel.testing import run_virtual
from aoskernel.subsystems.breaker.circuit import FAILURE, NOTHING, WELL, Circuit, Outcome, Rules
from aoskernel.subsystems.breaker.messages import (
    CircuitOpen,
    Closed,
    HalfOpened,
    Opened,
    ReadCircuits,
)
from aoskernel.subsystems.breaker.service import Breaker
from aoskernel.subsystems.llm.driver import BadPrompt, ModelUnavailable, RateLimited


class Fetch(Request[str], topic="shop.fetch", effect="none", addressed=True):
    """Have something from the shop."""


class Shop(Service, name="shop"):
    """Does what it is told to: answers, raises, or takes its time."""

    def __init__(self) -> None:
        self.error: BaseException | None = None
        self.takes_s = 0.0
        self.asked = 0

    @handles(Fetch)
    async def fetch(self, request: Fetch) -> str:
        self.asked += 1
        await anyio.sleep(self.takes_s)
        if self.error is not None:
            raise self.error
        return "goods"


ROUTES = {"shop.fetch": ["breaker"]}
RULES = Rules(window_calls=10, least_calls=4, failure_rate=0.5, open_s=30, longest_open_s=100)
DOWN = ModelUnavailable("down")


def on_virtual_time(scenario: Callable[[Kernel, Shop], Any], **rules: Any) -> None:
    """Run it with a shop behind a breaker."""

    async def run() -> None:
        shop = Shop()
        breaker = Breaker(RULES.model_copy(update=rules))
        async with Kernel(shop, breaker, routes=ROUTES) as kernel:
            with anyio.fail_after(100_000):
                await scenario(kernel, shop)

    run_virtual(run)


async def fetch(kernel: Kernel, times: int = 1) -> list[str]:
    """How each of so many calls came out."""
    told = []
    for _ in range(times):
        try:
            told.append(await kernel.request(Fetch()))
        except KernelError as error:
            told.append(type(error).__name__)
    return told


def test_it_opens_when_the_part_that_failed_is_reached_and_not_before() -> None:
    async def scenario(kernel: Kernel, shop: Shop) -> None:
        assert await fetch(kernel, 3) == ["goods"] * 3
        shop.error = DOWN
        assert await fetch(kernel, 3) == ["ModelUnavailable"] * 3  # 3 of 6 are half
        assert await fetch(kernel) == ["CircuitOpen"]
        assert shop.asked == 6

    on_virtual_time(scenario)


def test_too_few_calls_say_nothing() -> None:
    async def scenario(kernel: Kernel, shop: Shop) -> None:
        shop.error = DOWN
        assert await fetch(kernel, 5) == ["ModelUnavailable"] * 4 + ["CircuitOpen"]

    on_virtual_time(scenario)


def test_what_left_the_window_does_not_count() -> None:
    async def scenario(kernel: Kernel, shop: Shop) -> None:
        shop.error = DOWN
        await fetch(kernel, 3)
        shop.error = None
        await fetch(kernel, 10)
        shop.error = DOWN
        assert await fetch(kernel, 4) == ["ModelUnavailable"] * 4  # 4 of 10, without those 3

    on_virtual_time(scenario)


def test_a_window_of_time_forgets_what_is_older() -> None:
    async def scenario(kernel: Kernel, shop: Shop) -> None:
        shop.error = DOWN
        await fetch(kernel, 3)
        await anyio.sleep(10)
        assert await fetch(kernel, 3) == ["ModelUnavailable"] * 3
        await anyio.sleep(9.9)
        assert await fetch(kernel) == ["ModelUnavailable"]
        assert await fetch(kernel) == ["CircuitOpen"]

    on_virtual_time(scenario, window_s=10.0)


def test_after_its_time_one_probe_decides() -> None:
    async def scenario(kernel: Kernel, shop: Shop) -> None:
        shop.error = DOWN
        await fetch(kernel, 4)
        opened_at = kernel.bus.time()
        with pytest.raises(CircuitOpen) as caught:
            await kernel.request(Fetch())
        assert caught.value.until == opened_at + 30
        await anyio.sleep(29.999)
        assert await fetch(kernel) == ["CircuitOpen"]
        await anyio.sleep(0.001)
        shop.error = None
        assert await fetch(kernel, 2) == ["goods"] * 2
        (circuit,) = await kernel.request(ReadCircuits())
        assert (circuit.state, circuit.calls) == ("closed", 1)

    on_virtual_time(scenario)


def test_a_failing_probe_opens_it_for_twice_as_long_and_at_most_so_long() -> None:
    async def scenario(kernel: Kernel, shop: Shop) -> None:
        shop.error = DOWN
        await fetch(kernel, 4)
        waits = []
        for _ in range(4):
            with pytest.raises(CircuitOpen) as caught:
                await kernel.request(Fetch())
            waits.append(caught.value.until - kernel.bus.time())
            await anyio.sleep(waits[-1])
            assert await fetch(kernel) == ["ModelUnavailable"]
        assert waits == [30, 60, 100, 100]

    on_virtual_time(scenario)


def test_no_more_probes_go_through_than_there_may_be_and_all_must_go_well() -> None:
    async def scenario(kernel: Kernel, shop: Shop) -> None:
        shop.error = DOWN
        await fetch(kernel, 4)
        await anyio.sleep(30)
        shop.error, shop.takes_s, before = None, 1.0, shop.asked
        told: list[list[str]] = []

        async def one() -> None:
            told.append(await fetch(kernel))

        async with anyio.create_task_group() as tasks:
            for _ in range(5):
                tasks.start_soon(one)
            await anyio.wait_all_tasks_blocked()
            assert shop.asked - before == 2
        assert sorted(told) == [["CircuitOpen"]] * 3 + [["goods"]] * 2
        assert await fetch(kernel, 3) == ["goods"] * 3

    on_virtual_time(scenario, probes=2)


def test_a_cancelled_probe_decides_nothing_and_gives_its_place_back() -> None:
    async def scenario(kernel: Kernel, shop: Shop) -> None:
        shop.error = DOWN
        await fetch(kernel, 4)
        await anyio.sleep(30)
        shop.error, shop.takes_s = None, 5.0
        with anyio.move_on_after(1):
            await fetch(kernel)
        (circuit,) = await kernel.request(ReadCircuits())
        assert (circuit.state, circuit.probes) == ("half_open", 0)
        assert await fetch(kernel) == ["goods"]

    on_virtual_time(scenario)


def test_a_call_that_was_cancelled_is_no_failure_but_slow_when_it_had_been() -> None:
    async def scenario(kernel: Kernel, shop: Shop) -> None:
        shop.takes_s = 100.0
        for _ in range(20):
            with anyio.move_on_after(1):
                await fetch(kernel)
        assert shop.asked == 20
        for _ in range(4):
            with anyio.move_on_after(3):
                await fetch(kernel)
        assert await fetch(kernel) == ["CircuitOpen"]

    on_virtual_time(scenario, slow_s=2.0)


def test_slow_calls_open_it_and_say_so() -> None:
    async def scenario(kernel: Kernel, shop: Shop) -> None:
        shop.takes_s = 2.0
        assert await fetch(kernel, 5) == ["goods"] * 4 + ["CircuitOpen"]
        with pytest.raises(CircuitOpen, match="4 of the last 4 calls took 2 s or more"):
            await kernel.request(Fetch())

    on_virtual_time(scenario, slow_s=2.0)


def test_what_is_the_caller_s_fault_or_a_limit_s_does_not_open_it() -> None:
    async def scenario(kernel: Kernel, shop: Shop) -> None:
        for error in (BadPrompt("no"), RateLimited("later"), KeyError("x")):
            shop.error = error
            for _ in range(20):
                with pytest.raises(type(error)):
                    await kernel.request(Fetch())
        assert shop.asked == 60

    on_virtual_time(scenario)


def test_which_errors_count_is_for_the_configuration_to_say() -> None:
    async def run() -> None:
        shop, breaker = Shop(), Breaker(RULES, counts=("LookupError",))
        shop.error = KeyError("x")
        async with Kernel(shop, breaker, routes=ROUTES) as kernel:
            for _ in range(4):
                with pytest.raises(KeyError):
                    await kernel.request(Fetch())
            assert await fetch(kernel) == ["CircuitOpen"]

    run_virtual(run)


def test_its_changes_are_told() -> None:
    async def scenario(kernel: Kernel, shop: Shop) -> None:
        async with kernel.listen("breaker.*") as events:
            shop.error = DOWN
            await fetch(kernel, 4)
            until = kernel.bus.time() + 30
            await anyio.sleep(30)
            shop.error = None
            await fetch(kernel)
            told = [await anext(events) for _ in range(3)]
        here: dict[str, Any] = {"circuit": "shop", "addresses": ("shop",)}
        assert told == [
            Opened(**here, until=until, probes=1, reason="4 of the last 4 calls failed"),
            HalfOpened(**here, probes=1),
            Closed(**here),
        ]

    on_virtual_time(scenario)


def test_a_swapped_breaker_goes_on_where_the_old_one_stood() -> None:
    async def scenario(kernel: Kernel, shop: Shop) -> None:
        shop.error = DOWN
        await fetch(kernel, 4)
        await kernel.swap("breaker", Breaker(Rules(open_s=5)))
        assert await fetch(kernel) == ["CircuitOpen"]
        await anyio.sleep(30)
        assert await fetch(kernel, 2) == ["ModelUnavailable", "CircuitOpen"]

    on_virtual_time(scenario)


def test_each_address_has_a_circuit_and_its_own_rules() -> None:
    async def run() -> None:
        good, bad = Shop().named("shop.good"), Shop().named("shop.bad")
        bad.error = DOWN
        breaker = Breaker(RULES, circuits={"shop.b*": Rules(least_calls=1)})
        async with Kernel(good, bad, breaker, routes=ROUTES) as kernel:
            with pytest.raises(ModelUnavailable):
                await kernel.request(Fetch(), to="shop.bad")
            with pytest.raises(CircuitOpen):
                await kernel.request(Fetch(), to="shop.bad")
            assert await kernel.request(Fetch(), to="shop.good") == "goods"

    run_virtual(run)


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ({"rules": {"open_s": 0}}, "open_s must be more than 0"),
        ({"rules": {"failure_rate": 1.5}}, "more than 0 and at most 1"),
        ({"rules": {"probes": 0}}, "probes must be at least 1"),
        ({"rules": {"least_calls": 50}}, "the circuit would never open"),
        ({"rules": {"open_s": 30, "longest_open_s": 10}}, "must not be less than open_s"),
        ({"rules": {"opens_s": 3}}, "opens_s"),
        ({"counts": ["tool failed"]}, "'tool failed' is no class of errors"),
    ],
)
def test_rules_that_cannot_work_are_refused(table: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        build("breaker", {"use": "aoskernel.subsystems.breaker.service:Breaker", **table})


class Circuits(RuleBasedStateMachine):
    """A circuit beside a plain account of what the rules say."""

    def __init__(self) -> None:
        super().__init__()
        self.terms = Rules(
            window_calls=5, least_calls=3, failure_rate=0.6, open_s=10, longest_open_s=30, probes=2
        )
        self.circuit = Circuit("x", self.terms)
        self.now = 0.0
        self.state, self.until, self.opened = "closed", 0.0, 0
        self.window: list[bool] = []
        self.age, self.passed = 0, 0
        self.inside: list[tuple[int, int]] = []  # turn of the circuit, age of the account

    def turn(self, state: str) -> None:
        self.state, self.window, self.age, self.passed = state, [], self.age + 1, 0

    def open(self) -> None:
        self.turn("open")
        self.until = self.now + min(30, 10 * 2**self.opened)
        self.opened += 1

    @rule(seconds=st.floats(0, 15))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    @rule()
    def its_time_comes(self) -> None:
        self.now = max(self.now, self.until)

    @rule()
    def a_call_comes(self) -> None:
        if self.state == "open" and self.now >= self.until:
            self.turn("half_open")
        probing = sum(age == self.age for _, age in self.inside)
        free = self.state == "closed" or (
            self.state == "half_open" and probing + self.passed < self.terms.probes
        )
        try:
            self.inside.append((self.circuit.enter(self.now), self.age))
        except CircuitOpen:
            assert not free
        else:
            assert free

    @precondition(lambda self: self.inside)
    @rule(which=st.integers(0, 99), outcome=st.sampled_from([WELL, FAILURE, NOTHING]))
    def a_call_leaves(self, which: int, outcome: Outcome) -> None:
        turn, age = self.inside.pop(which % len(self.inside))
        self.circuit.leave(turn, self.now, 0.1, outcome)
        if age != self.age or not outcome.counts:
            return
        if self.state == "half_open":
            self.passed += 1
            if outcome.failed:
                self.open()
            elif self.passed == self.terms.probes:
                self.turn("closed")
                self.opened = 0
            return
        self.window = [*self.window, outcome.failed][-5:]
        if len(self.window) >= 3 and outcome.failed and sum(self.window) >= 0.6 * len(self.window):
            self.open()

    @invariant()
    def they_agree(self) -> None:
        assert self.circuit.state == self.state
        if self.state == "open":
            assert self.circuit.until == self.until
        assert self.circuit.calls == len(self.window)


Circuits.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestEveryScheduleOfACircuit = Circuits.TestCase


def test_nothing_is_lost_or_doubled_through_an_outage_and_a_swap() -> None:
    """A hundred callers that come again, an outage of a minute, a new breaker in the middle."""

    async def run() -> None:
        shop, done, before = Shop(), 0, 0
        shop.takes_s = 0.1

        async def caller(kernel: Kernel) -> None:
            nonlocal done
            while True:
                try:
                    await kernel.request(Fetch())
                    done += 1
                    return
                except CircuitOpen as error:
                    await anyio.sleep(max(error.until - kernel.bus.time(), 0.001))
                except ModelUnavailable:
                    await anyio.sleep(0.5)

        async with Kernel(shop, Breaker(RULES), routes=ROUTES) as kernel:
            with anyio.fail_after(1000):
                async with anyio.create_task_group() as tasks:
                    shop.error = DOWN
                    for _ in range(100):
                        tasks.start_soon(partial(caller, kernel))
                    await anyio.sleep(40)
                    await kernel.swap("breaker", Breaker(RULES))
                    before = shop.asked
                    await anyio.sleep(20)
                    assert shop.asked - before <= 2  # it is still open for the new one
                    shop.error, before = None, shop.asked
        assert done == 100
        assert shop.asked - before == 100

    run_virtual(run)
