from collections.abc import Mapping
from typing import Any

import anyio
import pytest

from aoskernel.kernel import BootError, Call, Kernel, Proceed, Refused, Request, Service, handles
from aoskernel.kernel.message import R


class Ask(Request[str], topic="model.ask", addressed=True):
    text: str


class Look(Request[str], topic="model.look", effect="none"):
    pass


class Act(Request[str], topic="tools.act", effect="once"):
    pass


class Model(Service, name="answers"):
    def __init__(self) -> None:
        self.asked: list[str] = []

    @handles(Ask)
    async def ask(self, request: Ask) -> str:
        self.asked.append(request.text)
        return f"{self.address}: {request.text}"


class Answers(Model):
    @handles(Look)
    async def look(self, request: Look) -> str:
        return "seen"

    @handles(Act)
    async def act(self, request: Act) -> str:
        return "done"


class Note(Service, name="note"):
    """Writes down that a call came by."""

    def __init__(self, notes: list[str]) -> None:
        self.notes = notes

    async def guard(self, call: Call[R], proceed: Proceed[R]) -> R:
        self.notes.append(f"{self.address} {call.message.topic}")
        return await proceed(call)


class Pinned(Note, name="pinned", pinned=True):
    pass


def noting(*names: str) -> tuple[list[str], list[Service]]:
    notes: list[str] = []
    return notes, [Note(notes).named(name) for name in names]


async def test_guards_stand_in_the_configured_order() -> None:
    notes, guards = noting("a", "b", "c")
    async with Kernel(Answers(), *guards, routes={"model.ask": ["c", "a", "b"]}) as kernel:
        assert await kernel.request(Ask(text="hi")) == "answers: hi"
    assert notes == ["c model.ask", "a model.ask", "b model.ask"]


async def test_a_route_may_be_a_pattern() -> None:
    notes, guards = noting("a")
    async with Kernel(Answers(), *guards, routes={"model.*": ["a"]}) as kernel:
        await kernel.request(Ask(text="hi"))
        await kernel.request(Look())
        await kernel.request(Act())
    assert notes == ["a model.ask", "a model.look"]


async def test_a_route_may_be_an_effect() -> None:
    notes, guards = noting("a")
    async with Kernel(Answers(), *guards, routes={"effect:once": ["a"]}) as kernel:
        await kernel.request(Look())
        await kernel.request(Act())
    assert notes == ["a tools.act"]


async def test_routes_that_match_the_same_request_merge_by_name() -> None:
    notes, guards = noting("a", "b", "c")
    routes = {"model.*": ["a", "c"], "model.ask": ["b", "c"]}
    async with Kernel(Answers(), *guards, routes=routes) as kernel:
        await kernel.request(Ask(text="hi"))
    assert notes == ["a model.ask", "b model.ask", "c model.ask"]


async def test_off_removes_a_guard() -> None:
    notes, guards = noting("a", "b")
    routes: Mapping[str, Any] = {"model.*": ["a", "b"], "model.ask": {"off": ["a"]}}
    async with Kernel(Answers(), *guards, routes=routes) as kernel:
        await kernel.request(Ask(text="hi"))
    assert notes == ["b model.ask"]


async def test_taking_a_pinned_guard_off_is_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    routes: Mapping[str, Any] = {"model.*": ["pinned"], "model.ask": {"off": ["pinned"]}}
    async with Kernel(Answers(), Pinned([]), routes=routes):
        pass
    assert "route.unguarded topic=model.ask off=pinned" in caplog.text


async def test_a_guard_may_answer_itself() -> None:
    class Cache(Service, name="cache"):
        async def guard(self, call: Call[R], proceed: Proceed[R]) -> R:
            return "cached"  # type: ignore[return-value]

    answers = Answers()
    async with Kernel(answers, Cache(), routes={"model.ask": ["cache"]}) as kernel:
        assert await kernel.request(Ask(text="hi")) == "cached"
    assert answers.asked == []


async def test_a_guard_may_refuse() -> None:
    class Policy(Service, name="policy"):
        async def guard(self, call: Call[R], proceed: Proceed[R]) -> R:
            raise Refused("not today", rule="weekday")

    async with Kernel(Answers(), Policy(), routes={"model.ask": ["policy"]}) as kernel:
        with pytest.raises(Refused, match="not today") as refused:
            await kernel.request(Ask(text="hi"))
    assert refused.value.rule == "weekday"


async def test_a_guard_may_proceed_twice() -> None:
    class Retry(Service, name="retry"):
        async def guard(self, call: Call[R], proceed: Proceed[R]) -> R:
            await proceed(call)
            return await proceed(call)

    answers = Answers()
    async with Kernel(answers, Retry(), routes={"model.ask": ["retry"]}) as kernel:
        assert await kernel.request(Ask(text="hi")) == "answers: hi"
    assert answers.asked == ["hi", "hi"]


async def test_a_guard_may_proceed_twice_at_once() -> None:
    class Slow(Service, name="slow"):
        @handles(Ask)
        async def ask(self, request: Ask) -> str:
            await anyio.sleep(1)
            return "slow"

    class Hedge(Service, name="hedge"):
        async def guard(self, call: Call[R], proceed: Proceed[R]) -> R:
            replies: list[R] = []

            async def attempt() -> None:
                replies.append(await proceed(call))
                group.cancel_scope.cancel()

            async with anyio.create_task_group() as group:
                group.start_soon(attempt)
                group.start_soon(attempt)
            return replies[0]

    async with Kernel(Slow(), Hedge(), routes={"model.ask": ["hedge"]}) as kernel:
        with anyio.fail_after(20):
            assert await kernel.request(Ask(text="hi")) == "slow"
        (slow,) = (seat for seat in kernel.services() if seat.address == "slow")
        assert slow.gate.inside == {}


async def test_a_guard_may_readdress_the_call() -> None:
    class Failover(Service, name="failover"):
        async def guard(self, call: Call[R], proceed: Proceed[R]) -> R:
            call.address = "spare"
            return await proceed(call)

    services = [Model().named("first"), Model().named("spare"), Failover()]
    async with Kernel(*services, routes={"model.ask": ["failover"]}) as kernel:
        assert await kernel.request(Ask(text="hi"), to="first") == "spare: hi"


async def test_a_call_is_patient_until_a_guard_above_says_otherwise() -> None:
    seen: list[tuple[bool, bool]] = []

    class Elsewhere(Service, name="elsewhere"):
        async def guard(self, call: Call[R], proceed: Proceed[R]) -> R:
            assert call.patient
            call.patient = False
            return await proceed(call)

    class Look(Service, name="look"):
        async def guard(self, call: Call[R], proceed: Proceed[R]) -> R:
            seen.append((call.patient, call.twin().patient))
            return await proceed(call)

    guards = Elsewhere(), Look()
    async with Kernel(Answers(), *guards, routes={"model.ask": ["elsewhere", "look"]}) as kernel:
        assert await kernel.request(Ask(text="hi")) == "answers: hi"
    assert seen == [(False, False)]


async def test_the_meter_of_a_cut_call_keeps_what_was_used() -> None:
    class Counter(Service, name="counter"):
        used = 0.0

        async def guard(self, call: Call[R], proceed: Proceed[R]) -> R:
            try:
                return await proceed(call)
            finally:
                self.used = call.meter["tokens"]

    class Hungry(Service, name="hungry"):
        @handles(Ask)
        async def ask(self, request: Ask) -> str:
            from aoskernel.kernel.call import here

            call = here()
            assert isinstance(call, Call)
            call.meter.add("tokens", 5)
            await anyio.sleep_forever()
            return ""

    counter = Counter()
    async with Kernel(Hungry(), counter, routes={"model.ask": ["counter"]}) as kernel:
        with anyio.move_on_after(1):
            await kernel.request(Ask(text="hi"))
    assert counter.used == 5


async def test_a_misspelt_guard_refuses_to_boot_with_a_hint() -> None:
    _, guards = noting("breaker")
    with pytest.raises(BootError, match=r"'braker' is no guard; did you mean 'breaker'"):
        async with Kernel(Answers(), *guards, routes={"model.ask": ["braker"]}):
            pass


async def test_a_service_without_guard_cannot_stand_on_a_route() -> None:
    with pytest.raises(BootError, match=r"'answers' is no guard"):
        async with Kernel(Answers(), routes={"model.ask": ["answers"]}):
            pass


async def test_a_misspelt_route_refuses_to_boot_with_a_hint() -> None:
    _, guards = noting("a")
    with pytest.raises(BootError, match=r"routes.model.aks: .* did you mean 'model.ask'"):
        async with Kernel(Answers(), *guards, routes={"model.aks": ["a"]}):
            pass


async def test_a_default_that_nobody_is_refuses_to_boot() -> None:
    with pytest.raises(BootError, match=r"default 'answer'.* did you mean 'answers'"):
        async with Kernel(Answers(), routes={"model.ask": {"default": "answer"}}):
            pass


async def test_a_guards_own_needs_must_be_handled() -> None:
    class Needy(Service, name="needy", needs=[Act]):
        async def guard(self, call: Call[R], proceed: Proceed[R]) -> R:
            return await proceed(call)

    class Only(Service, name="only"):
        @handles(Look)
        async def look(self, request: Look) -> str:
            return ""

    with pytest.raises(BootError, match=r"'needy' needs tools.act \(Act\)"):
        async with Kernel(Only(), Needy(), routes={"model.look": ["needy"]}):
            pass
