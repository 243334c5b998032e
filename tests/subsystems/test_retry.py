"""What is made again, after which pause, and what is not. On virtual time."""

from collections.abc import Callable, Coroutine
from itertools import pairwise
from typing import Any

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st
from moody import Doorman, Moody, after, asking
from one_storage import OneStorage, log_of, until
from system import System

from aoskernel import ConfigError, Kernel, Process, ProcessFailed, program, spawn
from aoskernel.kernel import Call, NotNow, Proceed, Refused, Service, Unavailable, handles
from aoskernel.kernel.config import build
from aoskernel.kernel.errors import KernelError
from aoskernel.kernel.message import Effect, R
from aoskernel.kernel.testing import run_virtual
from aoskernel.plugins.cli.syscalls import Said, syscalls
from aoskernel.subsystems.llm.driver import BadPrompt, ModelUnavailable, RateLimited
from aoskernel.subsystems.llm.messages import Complete, Delta
from aoskernel.subsystems.retry.budget import RetryBudget
from aoskernel.subsystems.retry.messages import GaveUp, Retried
from aoskernel.subsystems.retry.service import Retry
from aoskernel.subsystems.scheduler.service import Scheduler
from aoskernel.subsystems.tools.messages import CallTool, ToolFailed

ROUTES = {"effect:idempotent": ["retry"], "effect:once": ["retry"]}
FAST = {"first_s": 0.001}
YEAR_S = 365 * 86400.0


def down() -> ModelUnavailable:
    return ModelUnavailable("the server is away")


def on_virtual_time(*services: Service, routes: Any = None) -> Callable[..., Any]:
    """Runs a test's body in a kernel of these services."""

    def run(body: Callable[[Kernel], Coroutine[Any, Any, Any]]) -> Any:
        async def main() -> Any:
            async with Kernel(*services, routes=routes or ROUTES) as kernel:
                return await body(kernel)

        return run_virtual(main)

    return run


def test_a_call_that_failed_twice_is_made_a_third_time() -> None:
    model = Moody(after(2, down))

    @on_virtual_time(model, Retry(seed=1))
    async def _(kernel: Kernel) -> None:
        async with kernel.listen("retry.*") as told:
            assert (await kernel.request(asking("hi"))).text == "hi"
            events: list[Any] = [await anext(told), await anext(told)]
        assert [type(event) for event in events] == [Retried, Retried]
        assert [event.attempt for event in events] == [1, 2]
        assert events[0].address == "llm"
        assert (events[0].error, events[0].reason) == ("ModelUnavailable", "the server is away")
        times = [at for at, _ in model.asked]
        waited = [later - sooner for sooner, later in pairwise(times)]
        assert waited == pytest.approx([event.pause_s for event in events])

    assert len(model.asked) == 3


def pauses(seed: int) -> list[float]:
    model = Moody(after(6, down))

    @on_virtual_time(model, Retry(attempts=7, first_s=1, longest_s=8, seed=seed))
    async def _(kernel: Kernel) -> None:
        await kernel.request(asking())

    times = [at for at, _ in model.asked]
    return [later - sooner for sooner, later in pairwise(times)]


def test_a_pause_is_drawn_below_a_bound_that_doubles_and_is_the_same_in_each_run() -> None:
    drawn = [pauses(seed) for seed in range(40)]
    for number, bound in enumerate([1, 2, 4, 8, 8, 8]):
        of_all = [run[number] for run in drawn]
        assert max(of_all) <= bound + 1e-9
        assert max(of_all) > bound * 0.8, "it is drawn from the whole of it"
        assert min(of_all) < bound * 0.2
    assert pauses(7) == pauses(7)


def test_a_provider_is_left_alone_for_as_long_as_it_asks() -> None:
    model = Moody(after(1, lambda: RateLimited("slow down", retry_after_s=20)))

    @on_virtual_time(model, Retry(first_s=1))
    async def _(kernel: Kernel) -> None:
        await kernel.request(asking())

    (first, _), (second, _) = model.asked
    assert 20 <= second - first <= 21


def test_a_provider_that_asks_for_a_year_is_not_waited_for() -> None:
    model = Moody(after(1, lambda: RateLimited("come back later", retry_after_s=YEAR_S)))

    @on_virtual_time(model, Retry())
    async def _(kernel: Kernel) -> None:
        began = kernel.bus.time()
        with pytest.raises(RateLimited) as failed:
            await kernel.request(asking())
        assert kernel.bus.time() == began
        assert "asks for a pause of 3.1536e+07 s" in failed.value.__notes__[0]


def test_it_never_sleeps_past_the_deadline_and_says_what_was_tried() -> None:
    model = Moody(lambda now: RateLimited("slow down", retry_after_s=2))

    @on_virtual_time(model, Retry(attempts=50, first_s=0.001))
    async def _(kernel: Kernel) -> None:
        began = kernel.bus.time()
        async with kernel.listen("retry.gave_up") as told:
            with pytest.raises(RateLimited) as failed, anyio.fail_after(5):
                await kernel.request(asking())
            gave_up = await anext(told)
        assert kernel.bus.time() - began < 5
        assert failed.value.__notes__[0].startswith(
            "attempts made: 3; the caller's deadline is before the next, which could be in 2 s"
        )
        assert isinstance(gave_up, GaveUp)
        assert gave_up.attempt == len(model.asked) == 3


@pytest.mark.parametrize(
    "error",
    [BadPrompt("no"), Refused("no", rule="budget"), ToolFailed("no"), KernelError("no")],
    ids=lambda error: type(error).__name__,
)
def test_what_will_fail_again_is_not_made_again(error: KernelError) -> None:
    model = Moody(lambda now: error)

    @on_virtual_time(model, Retry())
    async def _(kernel: Kernel) -> None:
        with pytest.raises(type(error)):
            await kernel.request(asking())

    assert len(model.asked) == 1
    assert not hasattr(error, "__notes__")


class Bell(Service, name="tools"):
    """A tool that fails once."""

    def __init__(self, error: KernelError) -> None:
        self.rung, self._error = 0, error

    @handles(CallTool)
    async def ring(self, request: CallTool) -> None:
        self.rung += 1
        if self.rung == 1:
            raise self._error


@pytest.mark.parametrize(
    ("effect", "error", "rung"),
    [
        ("none", Unavailable("tools", "replaced"), 2),
        ("idempotent", Unavailable("tools", "replaced"), 2),
        ("once", Unavailable("tools", "replaced"), 1),
        ("none", ToolFailed("no"), 1),
    ],
)
def test_a_tool_that_may_have_begun_is_called_again_only_where_that_does_no_harm(
    effect: Effect, error: KernelError, rung: int
) -> None:
    bell = Bell(error)

    @on_virtual_time(bell, Retry())
    async def _(kernel: Kernel) -> None:
        try:
            await kernel.request(CallTool(name="ring", arguments={}, tool_effect=effect))
        except type(error):
            assert rung == 1

    assert bell.rung == rung


def test_a_tool_that_no_guard_has_let_through_waits_and_is_then_called_once() -> None:
    class Shut(Service, name="shut"):
        async def guard(self, call: Call[R], proceed: Proceed[R]) -> R:
            if self.bus.time() < 30:
                raise NotNow(30, "shut")
            return await proceed(call)

    bell = Bell(ToolFailed("never raised"))
    bell.rung = 1
    routes = {"tools.call": ["retry", "shut"]}

    @on_virtual_time(bell, Retry(attempts=1), Shut(), routes=routes)
    async def _(kernel: Kernel) -> None:
        await kernel.request(CallTool(name="ring", arguments={}))
        assert kernel.bus.time() == 30

    assert bell.rung == 2


def test_to_be_held_back_is_no_attempt() -> None:
    model, doorman = Moody(after(1, down)), Doorman(a=30.0)
    routes = {"llm.complete": ["retry", "doorman"]}

    @on_virtual_time(model.named("llm.a"), Retry(attempts=2), doorman, routes=routes)
    async def _(kernel: Kernel) -> None:
        assert (await kernel.request(asking("hi"))).text == "hi"

    assert len(doorman.refused) == 1
    assert len(model.asked) == 2


def test_errors_named_in_the_config_are_worth_another_attempt_too() -> None:
    bell = Bell(ToolFailed("busy"))

    @on_virtual_time(bell, Retry(also=("ToolFailed",)))
    async def _(kernel: Kernel) -> None:
        await kernel.request(CallTool(name="ring", arguments={}, tool_effect="idempotent"))

    assert bell.rung == 2


async def test_an_error_that_there_is_not_is_refused_with_a_hint() -> None:
    with pytest.raises(ConfigError, match=r"services\.retry\.also: .*did you mean 'ToolFailed'"):
        async with Kernel(Retry(also=("ToolFaild",))):
            pass


@pytest.mark.parametrize(
    ("table", "says"),
    [
        ({"attempts": 0}, "attempts must be at least 1"),
        ({"first_s": 0}, "first_s must be above 0"),
        ({"first_s": 9, "longest_s": 3}, "at most longest_s"),
        ({"share": 1.5}, "share is a part of the calls"),
        ({"spare": -1}, "spare must not be negative"),
        ({"window_s": 0}, "window_s must be above 0"),
    ],
)
def test_what_cannot_be_meant_is_refused(table: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        build("retry", table)


def test_a_pause_holds_no_slot() -> None:
    model = Moody(after(1, lambda: RateLimited("slow down", retry_after_s=50)), slots=1)
    routes = {"llm.complete": ["retry", "scheduler"]}

    @on_virtual_time(model, Retry(), Scheduler(), routes=routes)
    async def _(kernel: Kernel) -> None:
        async def one(text: str, after_s: float) -> None:
            await anyio.sleep(after_s)
            await kernel.request(asking(text))

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(one, "limited", 0)
            tasks.start_soon(one, "other", 1)

    assert model.answered == ["other", "limited"]


def test_a_call_that_has_alternatives_is_not_repeated_here() -> None:
    class Elsewhere(Service, name="elsewhere"):
        async def guard(self, call: Call[R], proceed: Proceed[R]) -> R:
            call.patient = False
            return await proceed(call)

    model, doorman = Moody(lambda now: down()), Doorman()
    routes = {"llm.complete": ["elsewhere", "retry", "scheduler", "doorman"]}

    @on_virtual_time(model, Elsewhere(), Retry(), Scheduler(), doorman, routes=routes)
    async def _(kernel: Kernel) -> None:
        with pytest.raises(ModelUnavailable):
            await kernel.request(asking())
        doorman.until["llm"] = 1000.0
        with pytest.raises(NotNow):
            await kernel.request(asking())
        assert kernel.bus.time() < 1

    assert len(model.asked) == len(doorman.refused) == 1


# The budget


def test_an_outage_is_not_amplified() -> None:
    model = Moody(lambda now: down() if now < 40 else None)

    @on_virtual_time(model, Retry(share=0.1, spare=5))
    async def _(kernel: Kernel) -> None:
        async def one(number: int) -> None:
            await anyio.sleep(number * 0.1)
            try:
                await kernel.request(asking(str(number)))
            except ModelUnavailable as error:
                notes.append(error.__notes__[0])

        notes: list[str] = []
        async with anyio.create_task_group() as tasks:
            for number in range(500):
                tasks.start_soon(one, number)
        assert any("too many calls of llm fail to repeat them all" in note for note in notes)

    retries = len(model.asked) - 500
    assert 5 < retries <= 0.1 * 500 + 5


@given(
    steps=st.lists(
        st.tuples(st.floats(0, 20), st.booleans(), st.integers(0, 30)), min_size=1, max_size=60
    ),
    share=st.sampled_from([0.0, 0.1, 0.5, 1.0]),
    spare=st.integers(0, 5),
)
def test_in_any_window_retries_are_a_share_of_the_calls_and_some_spare(
    steps: list[tuple[float, bool, int]], share: float, spare: int
) -> None:
    budget, now = RetryBudget(share, spare, window_s=10), 0.0
    calls: list[float] = []
    retries: list[float] = []
    for pause_s, is_call, times in steps:
        now += pause_s
        for _ in range(times):
            if is_call:
                budget.count(now)
                calls.append(now)
            elif budget.spend(now):
                retries.append(now)
                recent = sum(at > now - 9 for at in retries)
                assert recent <= spare + share * sum(at > now - 10 for at in calls)
            else:
                recent = sum(at > now - 10 for at in retries)
                assert recent + 1 > spare + share * sum(at > now - 9 for at in calls)


# In a process's log


@program
async def thinker(self: Process) -> str:
    return (await self.think("hello")).text


async def test_each_attempt_has_its_intent_and_the_trace_shows_how_many(system: System) -> None:
    fails = after(2, down)

    def script(ask: Complete) -> str:
        if (error := fails(0)) is not None:
            raise error
        return "at last"

    async with (
        system(script, retry=FAST) as kernel,
        kernel.listen("retry.retried") as told,
    ):
        agent = await spawn(kernel, thinker())
        with anyio.fail_after(5):
            assert await agent == "at last"
            retried: Any = await anext(told)
        (entry,) = (await log_of(kernel, agent.pid)).values()
    assert retried.caller == f"thinker[{agent.pid}]"
    assert entry.attempts == 3
    (call,) = syscalls([entry], Said({}), running=False)
    assert call.line().endswith("(3 attempts)")


async def test_attempts_made_before_a_crash_count() -> None:
    one, asked = OneStorage(), list[str]()

    def script(ask: Complete) -> str:
        asked.append(life)
        raise down()

    life, slow = "first", {"attempts": 3, "first_s": 3600, "longest_s": 3600, "seed": 1}
    async with one.kernel(script, processes={"drain_s": 0.0}, retry=slow) as kernel:
        agent = await spawn(kernel, thinker(), key="k")
        await until(lambda: asked)
    life = "second"
    async with one.kernel(script, retry={"attempts": 3, **FAST}) as kernel:
        again = await spawn(kernel, thinker(), key="k")
        with anyio.fail_after(5), pytest.raises(ProcessFailed, match="the server is away"):
            await again
        (entry,) = (await log_of(kernel, agent.pid)).values()
    assert asked == ["first", "second", "second"]
    assert entry.attempts == 3
    assert "attempts made: 3" in entry.body


ALIAS = {
    "llm.cut": {"driver": "moody:CutOnce", "script": ["never said"]},
    "llm.smart": {"use": "alias", "models": ["llm.cut", "llm.default"]},
}


@pytest.mark.parametrize(
    ("model", "tables"),
    [(None, {"llm.default": {"driver": "moody:CutOnce"}}), ("llm.smart", ALIAS)],
    ids=["retried", "by_another_model"],
)
async def test_who_reads_a_reply_that_was_cut_is_told_that_it_begins_again(
    system: System, model: str | None, tables: dict[str, Any]
) -> None:
    """Nothing is said twice within one attempt, and the last attempt is the whole reply."""

    @program
    async def chatter(self: Process) -> str:
        await self.receive()
        return (await self.think("count", model=model)).text

    pieces: list[Delta] = []
    async with system(["one two three"], **tables, retry=FAST) as kernel:
        agent = await spawn(kernel, chatter())
        with anyio.fail_after(5):
            async with anyio.create_task_group() as tasks:

                async def read() -> None:
                    async for delta in agent.stream():
                        pieces.append(delta)

                tasks.start_soon(read)
                await anyio.wait_all_tasks_blocked()
                await agent.send("go")
                assert await agent == "one two three"
    told = [(piece.attempt, piece.offset, piece.text) for piece in pieces]
    assert told == [
        *((1, 0, "one "), (1, 4, "two ")),
        *((2, 0, "one "), (2, 4, "two "), (2, 8, "three")),
    ]
    assert len({piece.call for piece in pieces}) == 1


# Swaps


def test_a_swapped_retry_goes_on_with_what_was_spent() -> None:
    model, old, new = Moody(lambda now: down()), Retry(spare=2, share=0), Retry(spare=3, share=0)

    @on_virtual_time(model, old)
    async def _(kernel: Kernel) -> None:
        with pytest.raises(ModelUnavailable):
            await kernel.request(asking())
        await kernel.swap("retry", new)
        with pytest.raises(ModelUnavailable):
            await kernel.request(asking())

    assert len(model.asked) == 2 + 3, "two calls, and three repetitions of both"
