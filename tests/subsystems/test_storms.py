"""Rate limits, outages and swaps under load: no call is lost, and none is answered twice."""

from collections import Counter
from collections.abc import Callable
from typing import Any, NamedTuple

import anyio
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from moody import Doorman, Mood, Moody, asking

from aoskernel import Kernel
from aoskernel.kernel import Service, Unavailable
from aoskernel.kernel.testing import run_virtual
from aoskernel.subsystems.cache.service import Cache
from aoskernel.subsystems.failover.alias import Alias
from aoskernel.subsystems.failover.service import Failover
from aoskernel.subsystems.llm.driver import CutReply, ModelUnavailable, RateLimited
from aoskernel.subsystems.llm.messages import Completion, Sampling
from aoskernel.subsystems.processes.messages import Origin
from aoskernel.subsystems.retry.service import Retry
from aoskernel.subsystems.scheduler.service import Scheduler

GUARDS = ["cache", "failover", "retry", "scheduler", "doorman"]
END_S = 120.0
"""By then every trouble is over."""


class Trouble(NamedTuple):
    """What is wrong with a model, from when to when."""

    kind: str
    since: float
    until: float

    def error(self, now: float) -> Exception:
        errors: dict[str, Callable[[], Exception]] = {
            "429": lambda: RateLimited("slow down", retry_after_s=min(self.until - now, 20.0)),
            "429 without a time": lambda: RateLimited("slow down"),
            "away": lambda: ModelUnavailable("away"),
            "cut": lambda: CutReply("cut"),
            "replaced": lambda: Unavailable("llm", "it was replaced"),
        }
        return errors[self.kind]()


def of(troubles: list[Trouble]) -> Mood:
    """Fails as the first trouble that there is at the time says."""

    def mood(now: float) -> Exception | None:
        there_is = (trouble for trouble in troubles if trouble.since <= now < trouble.until)
        found = next(there_is, None)
        return None if found is None else found.error(now)

    return mood


KINDS = ["429", "429 without a time", "away", "cut", "replaced"]
times = st.floats(0, END_S - 1)
troubles = st.lists(
    st.builds(
        lambda kind, since, length: Trouble(kind, since, min(since + length, END_S)),
        *(st.sampled_from(KINDS), times, st.floats(0.1, 60)),
    ),
    max_size=4,
)
swaps = st.lists(
    st.tuples(times, st.sampled_from(["failover", "retry", "scheduler", "cache"])), max_size=6
)
shut = st.lists(st.tuples(times, st.sampled_from(["llm.a", "llm.b"]), st.floats(1, 30)), max_size=4)


def made(name: str) -> Service:
    """A guard that gives up on nothing which ends in time."""
    guards: dict[str, Any] = {
        "failover": Failover,
        "retry": lambda: Retry(attempts=60, first_s=1, longest_s=30, share=1, spare=10**6, seed=1),
        "scheduler": Scheduler,
        "cache": Cache,
    }
    return guards[name]()


class Storm:
    """Two models behind an alias, what befalls them, and what becomes of each call."""

    def __init__(self, a: list[Trouble], b: list[Trouble], slots: int) -> None:
        self.models = [Moody(of(a), name="a", slots=slots), Moody(of(b), name="b", slots=slots)]
        for model in self.models:
            model.takes_s = 0.3
        self.doorman = Doorman()
        self.replies: list[str] = []

    async def blow(self, calls: list[float], swapped: list[Any], closed: list[Any]) -> None:
        a, b = (model.named(f"llm.{model.card.model}") for model in self.models)
        alias = Alias(models=("llm.a", "llm.b")).named("llm.smart")
        services = [a, b, alias, self.doorman, *map(made, GUARDS[:-1])]
        async with Kernel(*services, routes={"llm.complete": GUARDS}) as kernel:
            async with anyio.create_task_group() as tasks:
                for number, at in enumerate(calls):
                    tasks.start_soon(self._call, kernel, number, at)
                for at, name in swapped:
                    tasks.start_soon(self._swap, kernel, name, at)
                for at, address, seconds in closed:
                    tasks.start_soon(self._shut, kernel, address, at, seconds)

    async def _call(self, kernel: Kernel, number: int, at: float) -> None:
        await anyio.sleep(at)
        origin: Any = Origin(pid=number % 5, program="p")  # type: ignore[arg-type]
        ask = asking(str(number), sampling=Sampling(temperature=0))
        reply: Completion = await kernel.bus.request(ask, to="llm.smart", origin=origin)
        self.replies.append(reply.text)

    async def _swap(self, kernel: Kernel, name: str, at: float) -> None:
        await anyio.sleep(at)
        await kernel.swap(name, made(name))

    async def _shut(self, kernel: Kernel, address: str, at: float, seconds: float) -> None:
        await anyio.sleep(at)
        self.doorman.until[address] = kernel.bus.time() + seconds

    def check(self, calls: int) -> None:
        answered = Counter(text for model in self.models for text in model.answered)
        expected = Counter(map(str, range(calls)))
        assert Counter(self.replies) == expected, "each call has its one reply"
        assert answered == expected, "and no model has answered it twice"


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    a=troubles,
    b=troubles,
    slots=st.sampled_from([1, 3, 50]),
    calls=st.lists(times, min_size=1, max_size=30),
    swapped=swaps,
    closed=shut,
)
def test_no_call_is_lost_or_answered_twice(
    a: list[Trouble],
    b: list[Trouble],
    slots: int,
    calls: list[float],
    swapped: list[Any],
    closed: list[Any],
) -> None:
    storm = Storm(a, b, slots)
    run_virtual(storm.blow, calls, swapped, closed)
    storm.check(len(calls))


@pytest.mark.slow
@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    a=troubles,
    b=troubles,
    slots=st.integers(1, 20),
    calls=st.lists(times, min_size=1, max_size=200),
    swapped=swaps,
    closed=shut,
)
def test_no_call_is_lost_or_answered_twice_however_long_one_looks(
    a: list[Trouble],
    b: list[Trouble],
    slots: int,
    calls: list[float],
    swapped: list[Any],
    closed: list[Any],
) -> None:
    storm = Storm(a, b, slots)
    run_virtual(storm.blow, calls, swapped, closed)
    storm.check(len(calls))


def test_a_storm_of_429_over_two_hundred_callers() -> None:
    """Both providers refuse for a minute, while every guard is swapped."""
    a = [Trouble("429", 5, 65)]
    storm = Storm(a, [Trouble("429", 10, 60)], slots=50)
    swapped = [(20.0 + n, name) for n, name in enumerate(GUARDS[:-1])]
    run_virtual(storm.blow, [n / 5 for n in range(200)], swapped, [])
    storm.check(200)
