"""Who waits, who goes next, and that nobody is lost on the way."""

from typing import Any

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aoskernel import Kernel, Service, handles
from aoskernel.kernel import Call, NotNow, Proceed
from aoskernel.kernel.message import R
from aoskernel.subsystems.breaker.messages import Opened
from aoskernel.subsystems.llm.messages import (
    ChatMessage,
    Complete,
    Completion,
    Describe,
    ModelCard,
    Usage,
)
from aoskernel.subsystems.processes.messages import Origin
from aoskernel.subsystems.scheduler.lane import Lane
from aoskernel.subsystems.scheduler.messages import Decided, ReadLanes
from aoskernel.subsystems.scheduler.policies import POLICIES
from aoskernel.subsystems.scheduler.service import Scheduler


class Gated(Service, name="llm"):
    """A model that answers when told to, and notes who was let in when."""

    def __init__(self, slots: int = 1) -> None:
        self.slots = slots
        self.served: list[str] = []
        self.inside = 0
        self.most = 0
        self.gate = anyio.Event()

    @handles(Complete)
    async def complete(self, ask: Complete) -> Completion:
        self.served.append(ask.messages[0].text)
        self.inside += 1
        self.most = max(self.most, self.inside)
        try:
            await self.gate.wait()
        finally:
            self.inside -= 1
        usage = Usage(prompt=1, completion=1)
        return Completion(text=ask.messages[0].text, finish="stop", usage=usage, model="gated")

    @handles(Describe)
    async def describe(self, request: Describe) -> ModelCard:
        return ModelCard(model="gated", driver="test", context_window=100, slots=self.slots)


def asking(text: str) -> Complete:
    return Complete(messages=(ChatMessage(role="user", text=text),))


ROUTES = {"llm.complete": ["scheduler"]}


async def _ask(kernel: Kernel, text: str, **who: Any) -> str:
    origin = Origin(**who) if who else None
    return (await kernel.bus.request(asking(text), origin=origin)).text


async def _queued(kernel: Kernel, tasks: Any, *turns: tuple[str, dict[str, Any]]) -> None:
    """Start these one after the other, each after the one before stands in line."""
    for text, who in turns:
        tasks.start_soon(lambda text=text, who=who: _ask(kernel, text, **who))
        await anyio.wait_all_tasks_blocked()


async def test_the_interactive_one_that_came_last_is_served_first() -> None:
    model = Gated()
    async with Kernel(model, Scheduler(), routes=ROUTES) as kernel:
        with anyio.fail_after(20):
            async with anyio.create_task_group() as tasks:
                await _queued(
                    kernel,
                    tasks,
                    ("first", {}),
                    ("batch", {"process_class": "batch", "priority": 0}),
                    ("normal", {}),
                    ("urgent", {"priority": 0}),
                    ("human", {"process_class": "interactive", "priority": 99}),
                )
                model.gate.set()
    assert model.served == ["first", "human", "urgent", "normal", "batch"]


async def test_fifo_serves_in_the_order_of_coming() -> None:
    model = Gated()
    async with Kernel(model, Scheduler(policy="fifo"), routes=ROUTES) as kernel:
        with anyio.fail_after(20):
            async with anyio.create_task_group() as tasks:
                await _queued(
                    kernel,
                    tasks,
                    ("a", {}),
                    ("b", {"process_class": "batch"}),
                    ("c", {"process_class": "interactive"}),
                )
                model.gate.set()
    assert model.served == ["a", "b", "c"]


async def test_no_more_are_served_at_once_than_there_are_slots() -> None:
    model = Gated(slots=3)
    async with Kernel(model, Scheduler(), routes=ROUTES) as kernel:
        with anyio.fail_after(20):
            async with anyio.create_task_group() as tasks:
                await _queued(kernel, tasks, *((str(n), {}) for n in range(20)))
                assert model.inside == 3
                model.gate.set()
    assert model.most == 3
    assert len(model.served) == 20


async def test_slots_may_be_set_per_address() -> None:
    model = Gated(slots=1)
    async with Kernel(model, Scheduler(slots={"llm": 4}), routes=ROUTES) as kernel:
        with anyio.fail_after(20):
            async with anyio.create_task_group() as tasks:
                await _queued(kernel, tasks, *((str(n), {}) for n in range(6)))
                assert model.inside == 4
                model.gate.set()


def test_a_model_without_slots_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        Scheduler(slots={"llm": 0})


async def test_who_gives_up_while_waiting_leaves_no_hole() -> None:
    model = Gated()
    async with Kernel(model, Scheduler(), routes=ROUTES) as kernel:
        with anyio.fail_after(20):
            async with anyio.create_task_group() as tasks:
                await _queued(kernel, tasks, ("first", {}))
                with anyio.move_on_after(0.01):
                    await _ask(kernel, "impatient")
                await _queued(kernel, tasks, ("second", {}))
                model.gate.set()
    assert model.served == ["first", "second"]


async def test_who_is_cancelled_while_served_gives_the_slot_back() -> None:
    model = Gated()
    async with Kernel(model, Scheduler(), routes=ROUTES) as kernel:
        with anyio.fail_after(20):
            with anyio.move_on_after(0.01):
                await _ask(kernel, "cut")
            model.gate.set()
            assert await _ask(kernel, "next") == "next"


class Closed(Service, name="closed"):
    """A guard that admits nobody before a moment, and counts how often it was asked."""

    def __init__(self) -> None:
        self.until = 0.0
        self.asked = 0

    async def guard(self, call: Call[R], proceed: Proceed[R]) -> R:
        self.asked += 1
        if self.bus.time() < self.until:
            raise NotNow(self.until, "closed")
        return await proceed(call)


async def test_a_call_that_is_not_admitted_now_is_asked_again_then() -> None:
    model, closed = Gated(), Closed()
    model.gate.set()
    routes = {"llm.complete": ["scheduler", "closed"]}
    async with Kernel(model, Scheduler(), closed, routes=routes) as kernel:
        closed.until = kernel.bus.time() + 0.05
        with anyio.fail_after(20):
            assert await _ask(kernel, "patient") == "patient"
        assert kernel.bus.time() >= closed.until
    assert closed.asked == 2


class Impatient(Service, name="impatient"):
    """A guard whose calls have somewhere else to go."""

    async def guard(self, call: Call[R], proceed: Proceed[R]) -> R:
        call.patient = False
        return await proceed(call)


async def test_an_impatient_call_to_a_closed_lane_is_told_so_and_takes_no_slot() -> None:
    model = Gated(slots=2)
    routes = {"llm.complete": ["impatient", "scheduler"]}
    async with Kernel(model, Scheduler(), Impatient(), routes=routes) as kernel:
        model.gate.set()
        await _ask(kernel, "opens the lane")
        shut = kernel.bus.time() + 3600
        opened = Opened(circuit="llm", addresses=("llm",), until=shut, reason="away", probes=1)
        await kernel.bus.publish(opened)
        await anyio.wait_all_tasks_blocked()
        for _ in range(3):
            with pytest.raises(NotNow):
                await _ask(kernel, "has somewhere else to go")
        (lane,) = await kernel.request(ReadLanes())
        assert lane.busy == 0
    assert model.served == ["opens the lane"]


async def test_a_scheduler_is_swapped_under_load_and_loses_nobody() -> None:
    model = Gated(slots=2)
    async with Kernel(model, Scheduler(policy="fifo"), routes=ROUTES) as kernel:
        with anyio.fail_after(20):
            async with anyio.create_task_group() as tasks:
                await _queued(
                    kernel, tasks, *((f"batch {n}", {"process_class": "batch"}) for n in range(200))
                )
                await _queued(kernel, tasks, ("human", {"process_class": "interactive"}))
                await kernel.swap("scheduler", Scheduler(policy="priority"))
                model.gate.set()
    assert len(model.served) == 201
    assert model.served[2] == "human"
    assert model.most == 2


async def test_a_model_is_swapped_under_two_hundred_requests_and_loses_none() -> None:
    old, new = Gated(slots=4), Gated(slots=50)
    new.gate.set()
    answers: list[str] = []
    async with Kernel(old, Scheduler(), routes=ROUTES) as kernel:

        async def one(text: str) -> None:
            answers.append(await _ask(kernel, text))

        with anyio.fail_after(20):
            async with anyio.create_task_group() as tasks:
                for number in range(200):
                    tasks.start_soon(one, str(number))
                await anyio.wait_all_tasks_blocked()
                change = kernel.swap("llm", new)
                await anyio.wait_all_tasks_blocked()
                old.gate.set()
                await change
    assert len(answers) == 200
    assert len(set(old.served + new.served)) == 200
    assert len(old.served) + len(new.served) == 200


async def test_a_decision_says_who_was_chosen_and_who_would_have_been_next() -> None:
    model = Gated()
    async with (
        Kernel(model, Scheduler(), routes=ROUTES) as kernel,
        kernel.listen("scheduler.decided") as told,
    ):
        with anyio.fail_after(20):
            async with anyio.create_task_group() as tasks:
                await _queued(
                    kernel,
                    tasks,
                    ("first", {}),
                    ("later", {"pid": 7, "program": "p", "priority": 60}),
                    ("sooner", {"pid": 8, "program": "p", "priority": 40}),
                )
                model.gate.set()
            decided = await anext(told)
    assert isinstance(decided, Decided)
    assert (decided.chosen.origin, decided.chosen.key[:2]) == ("p[8]", (1, 40))
    assert decided.runner_up is not None
    assert (decided.runner_up.origin, decided.runner_up.key[:2]) == ("p[7]", (1, 60))


who = st.fixed_dictionaries(
    {
        "process_class": st.sampled_from(["interactive", "normal", "batch"]),
        "priority": st.integers(0, 3),
        "gives_up": st.booleans(),
    }
)


@settings(max_examples=60, deadline=None)
@given(
    turns=st.lists(who, max_size=25),
    slots=st.integers(1, 4),
    policy=st.sampled_from(sorted(POLICIES)),
)
async def test_no_turn_is_lost_or_doubled_and_no_slot_idles(
    turns: list[dict[str, Any]], slots: int, policy: Any
) -> None:
    model, scheduler = Gated(slots), Scheduler(policy=policy)
    async with Kernel(model, scheduler, routes=ROUTES) as kernel:

        async def one(number: int, turn: dict[str, Any]) -> None:
            gives_up = turn.pop("gives_up")
            with anyio.move_on_after(0.001 if gives_up else 20):
                await _ask(kernel, str(number), **turn)

        with anyio.fail_after(20):
            async with anyio.create_task_group() as tasks:
                for number, turn in enumerate(turns):
                    tasks.start_soon(one, number, dict(turn))
                await anyio.wait_all_tasks_blocked()
                waiting = sum(lane.depth for lane in scheduler._lanes.values())
                assert model.inside == min(slots, model.inside + waiting)
                await anyio.sleep(0.003)
                model.gate.set()
    stayed = {str(n) for n, turn in enumerate(turns) if not turn["gives_up"]}
    assert len(model.served) == len(set(model.served))
    assert stayed <= set(model.served)
    assert model.most <= slots


@given(origins=st.lists(who, min_size=1, max_size=30), policy=st.sampled_from(sorted(POLICIES)))
def test_the_pick_is_the_least_of_all_by_rank_then_age(
    origins: list[dict[str, Any]], policy: str
) -> None:
    """Looking at bucket heads only gives what a scan of everybody would."""

    class Ticket:
        def __init__(self, number: int, origin: Origin) -> None:
            self.number, self.origin = number, origin

    rules = POLICIES[policy]()
    lane: Any = Lane("llm", 1, rules, lambda: 0.0)
    tickets = [
        Ticket(n, Origin(process_class=o["process_class"], priority=o["priority"]))
        for n, o in enumerate(origins)
    ]
    for ticket in tickets:
        lane.join(ticket)
    scanned = sorted(tickets, key=lambda t: (rules.rank(rules.bucket(t.origin), 0.0), t.number))
    picked = []
    while (found := lane.pick(0.0)) is not None:
        picked.append(lane.pop(found[0]))
    assert picked == scanned
