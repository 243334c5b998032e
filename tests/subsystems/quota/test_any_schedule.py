"""Whatever happens when, a shared ceiling holds, and what is left of it is not lost.

Agents of two kernels on one storage; they are killed, their kernel falls silent and the other
takes over, the ceiling is raised. All of it on virtual time.
"""

from dataclasses import dataclass
from typing import Literal

import anyio
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from one_storage import OneStorage
from priced import SERVED

from aoskernel import Kernel, Process, program, spawn
from aoskernel.kernel.testing import run_virtual
from aoskernel.subsystems.llm.messages import Complete
from aoskernel.subsystems.processes.messages import Inspect, Kill
from aoskernel.subsystems.quota.messages import Quota, SetQuota
from aoskernel.subsystems.storage.messages import (
    ENDED,
    Account,
    Pid,
    ReadAccounts,
    ReadSpent,
)

MOST_PROMPT, MOST_REPLY, SLOTS = 70, 40, 4
NEED = MOST_PROMPT + MOST_REPLY
"""No call reserves more."""


@dataclass(frozen=True)
class Event:
    """After so many seconds, this happens, to the agent of this number."""

    after_s: float
    what: Literal["kill", "lapse", "raise"]
    whom: int


@dataclass(frozen=True)
class Plan:
    """Who wants how much, what happens, and by how much prompts are counted too short."""

    ceiling: int
    agents: list[tuple[int, int]]
    events: list[Event]
    miscounts: int


EVENTS = st.builds(
    Event,
    after_s=st.sampled_from([0.0, 0.5, 1.0, 7.3]),
    what=st.sampled_from(["kill", "lapse", "raise"]),
    whom=st.integers(0, 11),
)
PLANS = st.builds(
    Plan,
    ceiling=st.integers(0, 1500),
    agents=st.lists(st.tuples(st.integers(1, 5), st.integers(1, MOST_REPLY)), max_size=12),
    events=st.lists(EVENTS, max_size=6),
    miscounts=st.integers(0, 5),
)


@program
async def worker(self: Process, times: int, max_tokens: int) -> None:
    for turn in range(times):
        await self.think(f"turn {turn} " + "x" * (7 * turn), max_tokens=max_tokens)


def reply(ask: Complete) -> str:
    """As long as chance has it, and cut where it is too long."""
    return "word " * (1 + (7 * len(ask.messages) + len(ask.messages[-1].text)) % 12)


def served() -> int:
    """Tokens, as the models know it."""
    kinds = ("llm.prompt_tokens", "llm.completion_tokens")
    return sum(int(meter.get(kind, 0)) for meter in SERVED for kind in kinds)


async def account(kernel: Kernel) -> Account:
    (found,) = await kernel.request(ReadAccounts())
    return found


async def happen(plan: Plan, one: OneStorage, kernel: Kernel, pids: list[Pid]) -> None:
    for event in plan.events:
        await anyio.sleep(event.after_s)
        match event.what:
            case "lapse":
                one.memory.lapse()
            case "kill" if pids:
                await kernel.request(Kill(pid=pids[event.whom % len(pids)], signal="KILL"))
            case "raise":
                now = (await account(kernel)).ceiling or 0
                await kernel.request(SetQuota(scope="all", quota=Quota(tokens=now + 50)))
        await check(plan, kernel)


async def check(plan: Plan, kernel: Kernel) -> Account:
    """At no moment more than the ceiling, but for what was counted too short."""
    now = await account(kernel)
    assert now.ceiling is not None
    assert now.used <= now.ceiling + 2 * SLOTS * plan.miscounts
    assert now.used + now.reserved <= now.ceiling + now.overdrawn
    assert now.overdrawn <= 2 * SLOTS * plan.miscounts
    return now


async def ended(kernel: Kernel, pid: Pid) -> bool:
    """It is, or it is stopped by the quota; however often it was taken over."""
    record = (await kernel.request(Inspect(pid=pid))).record
    return record.state in {*ENDED, "stopped"}


async def run(plan: Plan) -> Account:
    """How the account stands in the end."""
    one = OneStorage()
    SERVED.clear()
    model = {"driver": "priced:Priced", "token_s": 0.2, "slots": SLOTS, "miscounts": plan.miscounts}
    tables = {"llm.default": model, "processes": {"adopt_every_s": 3.0}}
    async with one.kernel(reply, **tables) as first, one.kernel(reply, **tables) as second:
        await first.request(SetQuota(scope="all", quota=Quota(tokens=plan.ceiling)))
        agents = [
            await spawn((first, second)[number % 2], worker(times=times, max_tokens=most))
            for number, (times, most) in enumerate(plan.agents)
        ]
        pids = [agent.pid for agent in agents]
        await happen(plan, one, second, pids)
        with anyio.fail_after(3600):
            for pid in pids:
                while not await ended(second, pid):
                    await anyio.sleep(1.0)
            while (now := await check(plan, second)).reserved:
                await anyio.sleep(1.0)  # of killed ones, until the next claim
        spent = [spent for _, spent in await second.request(ReadSpent())]
        assert now.used >= served() - plan.miscounts * len(SERVED)
        assert now.used == now.lost + sum(one.prompt + one.completion for one in spent)
        states = [(await second.request(Inspect(pid=pid))).record for pid in pids]
        if any(record.error_kind == "OverBudget" for record in states):
            assert (now.ceiling or 0) - now.used < NEED + 50 * len(plan.events)
        return now


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(PLANS)
def test_a_ceiling_holds_whatever_happens_when(plan: Plan) -> None:
    run_virtual(run, plan)


@pytest.mark.slow
@settings(max_examples=600, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(PLANS)
def test_a_ceiling_holds_whatever_happens_when_at_length(plan: Plan) -> None:
    run_virtual(run, plan)


def test_of_sixty_four_agents_almost_all_of_the_ceiling_is_spent() -> None:
    """They want three times as much; kills and a take-over included."""
    events = [Event(2.0, "kill", 3), Event(3.0, "lapse", 0), Event(2.0, "kill", 9)]
    plan = Plan(ceiling=4000, agents=[(5, MOST_REPLY)] * 64, events=events, miscounts=0)
    ended: list[Account] = []

    async def main() -> None:
        ended.append(await run(plan))

    run_virtual(main)
    assert 0.9 * plan.ceiling <= ended[0].used <= plan.ceiling
