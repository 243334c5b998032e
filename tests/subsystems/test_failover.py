"""Who answers for an alias, who is next, and what is waited for. On virtual time."""

from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any

import anyio
import pytest
from moody import Doorman, Moody, asking
from system import System

from aoskernel import ConfigError, Kernel, Process, program, spawn
from aoskernel.kernel import KernelError, NotNow, Service, Unroutable
from aoskernel.kernel.config import build
from aoskernel.kernel.testing import run_virtual
from aoskernel.subsystems.failover.alias import Alias
from aoskernel.subsystems.failover.messages import Moved
from aoskernel.subsystems.failover.service import Failover
from aoskernel.subsystems.llm.driver import (
    BadPrompt,
    ContentRefused,
    ModelUnavailable,
    OutOfFunds,
    PromptTooLong,
    RateLimited,
    Unauthorized,
)
from aoskernel.subsystems.llm.messages import Complete, Count, Describe
from aoskernel.subsystems.processes.messages import Origin
from aoskernel.subsystems.retry.service import Retry
from aoskernel.subsystems.scheduler.service import Scheduler

SMART = "llm.smart"


class Pair:
    """Two models behind the alias llm.smart, with every guard that a call meets."""

    def __init__(self, **options: Any) -> None:
        self.a, self.b = Moody(name="a", window=1000), Moody(name="b", window=4000)
        self.doorman, self.failover = Doorman(), Failover(**options)
        self.alias = Alias(models=("llm.a", "llm.b")).named(SMART)

    @property
    def services(self) -> list[Service]:
        models = [self.a.named("llm.a"), self.b.named("llm.b")]
        return [*models, self.alias, self.failover, Retry(seed=1), Scheduler(), self.doorman]

    def run(self, body: Callable[[Kernel], Coroutine[Any, Any, Any]]) -> Any:
        routes = {"llm.complete": ["failover", "retry", "scheduler", "doorman"]}

        async def main() -> Any:
            async with Kernel(*self.services, routes=routes) as kernel:
                return await body(kernel)

        return run_virtual(main)

    @property
    def asked(self) -> tuple[int, int]:
        return len(self.a.asked), len(self.b.asked)


async def _ask(kernel: Kernel, text: str = "hello", pid: int | None = None) -> str:
    """Which model answered."""
    origin = None if pid is None else Origin(pid=pid, program="p")  # type: ignore[arg-type]
    reply = await kernel.bus.request(asking(text), to=SMART, origin=origin)
    assert reply.text == text
    return reply.model


def failing(error: Callable[[], KernelError], until: float = 1e9) -> Callable[[float], Any]:
    return lambda now: error() if now < until else None


def down() -> KernelError:
    return ModelUnavailable("the server is away")


def test_the_first_model_answers_as_long_as_it_does() -> None:
    pair = Pair()

    @pair.run
    async def _(kernel: Kernel) -> None:
        assert [await _ask(kernel) for _ in range(3)] == ["a", "a", "a"]

    assert pair.asked == (3, 0)


@pytest.mark.parametrize(
    "error",
    [down, partial(RateLimited, "slow down", retry_after_s=60), partial(OutOfFunds, "pay")],
    ids=["away", "limited", "no_funds"],
)
def test_the_next_model_answers_at_once_when_the_first_cannot(
    error: Callable[[], KernelError],
) -> None:
    pair = Pair()
    pair.a.mood = failing(error)

    @pair.run
    async def _(kernel: Kernel) -> None:
        began = kernel.bus.time()
        async with kernel.listen("failover.moved") as told:
            assert await _ask(kernel, pid=7) == "b"
            moved = await anext(told)
        assert kernel.bus.time() == began
        assert isinstance(moved, Moved)
        assert (moved.alias, moved.left, moved.to) == (SMART, "llm.a", "llm.b")
        assert (moved.caller, moved.error) == ("p[7]", type(error()).__name__)

    assert pair.asked == (1, 1)


@pytest.mark.parametrize("kind", [BadPrompt, ContentRefused, Unauthorized])
def test_what_no_other_model_mends_comes_back(kind: type[KernelError]) -> None:
    pair = Pair()
    pair.a.mood = failing(lambda: kind("no"))

    @pair.run
    async def _(kernel: Kernel) -> None:
        with pytest.raises(kind):
            await _ask(kernel)

    assert pair.asked == (1, 0)


def test_a_prompt_that_is_too_long_goes_to_a_larger_window_only() -> None:
    pair = Pair()
    pair.a.mood = failing(lambda: PromptTooLong(tokens=2000, window=1000))

    @pair.run
    async def larger(kernel: Kernel) -> None:
        assert await _ask(kernel) == "b"

    same = Pair()
    same.a, same.b = Moody(pair.a.mood, window=1000), Moody(window=1000)

    @same.run
    async def _(kernel: Kernel) -> None:
        with pytest.raises(PromptTooLong):
            await _ask(kernel)

    assert same.asked == (1, 0)


def test_a_model_that_is_shut_is_passed_by_without_waiting() -> None:
    pair = Pair()
    pair.doorman.until["llm.a"] = 100

    @pair.run
    async def _(kernel: Kernel) -> None:
        assert await _ask(kernel) == "b"
        assert kernel.bus.time() == 0

    assert pair.asked == (0, 1)


def test_when_all_are_shut_the_one_that_opens_first_is_waited_for() -> None:
    pair = Pair()
    pair.doorman.until = {"llm.a": 100.0, "llm.b": 30.0}

    @pair.run
    async def _(kernel: Kernel) -> None:
        assert await _ask(kernel) == "b"
        assert kernel.bus.time() == 30

    assert pair.doorman.refused == [(0, "llm.a"), (0, "llm.b"), (0, "llm.b")]


def test_the_home_of_a_process_is_waited_for_a_little_longer_than_another_model() -> None:
    pair = Pair()

    @pair.run
    async def _(kernel: Kernel) -> None:
        assert await _ask(kernel, pid=1) == "a"
        pair.doorman.until = {"llm.a": 31.0, "llm.b": 30.0}
        assert await _ask(kernel, pid=1) == "a"
        assert kernel.bus.time() == 31


def test_a_model_that_is_shut_for_an_hour_is_not_preferred_to_one_that_may_be_back() -> None:
    pair = Pair()
    pair.doorman.until["llm.a"] = 3600
    pair.b.mood = failing(down, until=1)

    @pair.run
    async def _(kernel: Kernel) -> None:
        assert await _ask(kernel) == "b"
        assert kernel.bus.time() < 10


def test_when_none_answers_each_has_been_repeated_and_the_last_error_comes_back() -> None:
    pair = Pair()
    pair.a.mood, pair.b.mood = failing(down), failing(lambda: RateLimited("slow down"))

    @pair.run
    async def _(kernel: Kernel) -> None:
        with pytest.raises(RateLimited) as failed:
            await _ask(kernel)
        assert failed.value.__notes__[0].startswith("attempts made: 4")

    assert pair.asked == (1 + 4, 1 + 4)


def test_the_deadline_of_the_caller_holds_whoever_is_asked() -> None:
    pair = Pair()
    pair.a.mood, pair.b.mood = failing(down), failing(down)

    @pair.run
    async def _(kernel: Kernel) -> None:
        with pytest.raises(ModelUnavailable), anyio.fail_after(1):
            await _ask(kernel)
        assert kernel.bus.time() < 1
        pair.doorman.until = {"llm.a": 100.0, "llm.b": 30.0}
        with pytest.raises(TimeoutError), anyio.fail_after(1):
            await _ask(kernel)


def test_who_has_alternatives_above_is_not_kept_waiting() -> None:
    pair = Pair()
    pair.doorman.until = {"llm.a": 100.0, "llm.b": 30.0}

    class Impatient(Service, name="impatient"):
        async def guard(self, call: Any, proceed: Any) -> Any:
            call.patient = False
            return await proceed(call)

    async def main() -> None:
        routes = {"llm.complete": ["impatient", "failover", "retry", "scheduler", "doorman"]}
        async with Kernel(*pair.services, Impatient(), routes=routes) as kernel:
            with pytest.raises(NotNow):
                await _ask(kernel)
            assert kernel.bus.time() == 0

    run_virtual(main)


# Where the prefix cache is


def test_a_process_stays_with_the_model_that_answered_it_last() -> None:
    pair = Pair(stay_s=300)
    pair.a.mood = failing(down, until=1)

    @pair.run
    async def _(kernel: Kernel) -> None:
        assert await _ask(kernel, pid=1) == "b"
        await anyio.sleep(250)
        assert await _ask(kernel, pid=2) == "a", "it has no home yet"
        assert await _ask(kernel, pid=1) == "b"
        await anyio.sleep(250)
        assert await _ask(kernel, pid=1) == "b", "each answer keeps the cache warm"
        await anyio.sleep(301)
        assert await _ask(kernel, pid=1) == "a", "by now it is cold"


def test_a_process_leaves_its_home_when_that_fails_and_stays_at_the_new_one() -> None:
    pair = Pair()

    @pair.run
    async def _(kernel: Kernel) -> None:
        assert await _ask(kernel, pid=1) == "a"
        pair.a.mood = failing(down)
        assert await _ask(kernel, pid=1) == "b"
        pair.a.mood = failing(down, until=0)
        assert await _ask(kernel, pid=1) == "b"


def test_homes_outlive_a_swap_and_are_bounded() -> None:
    pair = Pair()
    pair.a.mood = failing(down, until=1)

    @pair.run
    async def _(kernel: Kernel) -> None:
        for pid in (1, 2, 3):
            assert await _ask(kernel, pid=pid) == "b"
        await kernel.swap("failover", successor := Failover(remembered=2))
        await anyio.sleep(2)
        assert await _ask(kernel, pid=3) == "b"
        assert await _ask(kernel, pid=4) == "a"
        assert len(successor._homes) == 2
        assert await _ask(kernel, pid=1) == "a", "it was forgotten"


# The alias as an address


def test_an_alias_has_the_smallest_window_and_counts_the_most() -> None:
    pair = Pair()
    pair.b = Moody(name="longer name", window=500, slots=3)

    @pair.run
    async def _(kernel: Kernel) -> None:
        card = await kernel.request(Describe(), to=SMART)
        assert (card.context_window, card.slots) == (500, 1003)
        assert card.members == ("llm.a", "llm.b")
        assert card.model == "a, longer name"
        count = Count(messages=asking("four").messages)
        assert await kernel.request(count, to=SMART) == len("longer name") + 4
        pair.b.mood = failing(down)
        assert await kernel.request(count, to=SMART) == len("a") + 4
        pair.a.mood = failing(down)
        with pytest.raises(ModelUnavailable):
            await kernel.request(count, to=SMART)


async def test_a_process_thinks_with_an_alias(system: System) -> None:
    def script(name: str) -> Callable[[Complete], str]:
        def say(ask: Complete) -> str:
            if name in broken:
                raise ModelUnavailable(f"{name} is away")
            return f"{name}: {ask.messages[-1].text}"

        return say

    @program
    async def thinker(self: Process) -> list[str]:
        said = [(await self.think("one", model=SMART)).text]
        broken.add("first")
        return [*said, (await self.think("two", model=SMART)).text]

    broken = set[str]()
    tables: dict[str, Any] = {
        "llm.first": {"driver": "scripted", "script": script("first")},
        "llm.second": {"driver": "scripted", "script": script("second")},
        SMART: {"use": "alias", "models": ["llm.first", "llm.second"]},
    }
    async with system(**tables) as kernel:
        with anyio.fail_after(5):
            assert await (await spawn(kernel, thinker())) == ["first: one", "second: two"]


def test_an_alias_may_be_swapped_for_one_of_other_models() -> None:
    pair = Pair()

    @pair.run
    async def _(kernel: Kernel) -> None:
        assert await _ask(kernel) == "a"
        await kernel.swap(SMART, {"use": "alias", "models": ["llm.b"]})
        await anyio.sleep(1)
        assert await _ask(kernel) == "b"


async def boots(*services: Service) -> None:
    models = [Moody().named("llm.a"), Moody().named("llm.b")]
    async with Kernel(*models, *services, Failover(), routes={"llm.complete": ["failover"]}):
        pass


async def test_an_alias_of_itself_refuses_to_boot() -> None:
    with pytest.raises(ConfigError, match=r"services\.llm\.x\.models: .* cannot stand for itself"):
        await boots(Alias(models=("llm.a", "llm.x")).named("llm.x"))


async def test_an_alias_of_nobody_refuses_to_boot_with_a_hint() -> None:
    with pytest.raises(ConfigError, match=r"no model 'llm\.aa'; did you mean 'llm\.a'\?"):
        await boots(Alias(models=("llm.aa",)).named("llm.x"))


async def test_aliases_of_each_other_refuse_to_boot() -> None:
    with pytest.raises(ConfigError, match=r"llm\.[xy]\.models: 'llm\.[xy]' is an alias itself"):
        await boots(
            Alias(models=("llm.a", "llm.y")).named("llm.x"),
            Alias(models=("llm.b", "llm.x")).named("llm.y"),
        )


@pytest.mark.parametrize("models", [[], ["llm.a", "llm.a"]])
def test_an_alias_names_each_model_once(models: list[str]) -> None:
    with pytest.raises(ConfigError, match="at least one model, and each once"):
        build("llm.x", {"use": "alias", "models": models})


async def test_an_error_that_there_is_not_is_refused_with_a_hint() -> None:
    with pytest.raises(ConfigError, match=r"services\.failover\.also: .*did you mean 'OutOfFunds'"):
        async with Kernel(Moody(), Failover(also=("OutOfFunt",))):
            pass


def test_errors_named_in_the_config_go_on_to_the_next_model_too() -> None:
    pair = Pair(also=("Unauthorized",))
    pair.a.mood = failing(lambda: Unauthorized("no"))

    @pair.run
    async def _(kernel: Kernel) -> None:
        assert await _ask(kernel) == "b"


@pytest.mark.parametrize("table", [{"stay_s": -1}, {"remembered": -1}])
def test_what_cannot_be_meant_is_refused(table: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="must not be negative"):
        build("failover", table)


async def test_an_alias_without_its_guard_says_what_is_missing() -> None:
    async with Kernel(Moody().named("llm.a"), Alias(models=("llm.a",)).named(SMART)) as kernel:
        with pytest.raises(Unroutable, match="put 'failover' into the guards of"):
            await kernel.request(asking(), to=SMART)
