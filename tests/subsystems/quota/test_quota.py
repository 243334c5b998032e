"""Quotas in a whole kernel: what does not fit does not begin, and what was used is counted."""

import math
from typing import Any

import anyio
import pytest
from priced import EUR
from system import System

from aoskernel import Kernel, Process, ProcessFailed, attach, program, spawn
from aoskernel.kernel.errors import ConfigError, Refused
from aoskernel.kernel.testing import run_virtual
from aoskernel.subsystems.llm.messages import ChatMessage, Complete, Completion, Price, Sampling
from aoskernel.subsystems.processes.messages import (
    Answer,
    Kill,
    ListProcesses,
    ListQuestions,
)
from aoskernel.subsystems.processes.program import ProcessRef
from aoskernel.subsystems.quota.messages import (
    NANO,
    OverBudget,
    Quota,
    QuotaCrossed,
    SetQuota,
    Unbounded,
    of_process,
    of_tenant,
)
from aoskernel.subsystems.storage.messages import (
    Account,
    ProcessRecord,
    ReadAccounts,
    ReadLog,
    ReadSpent,
    Spent,
)

PRICED = {"driver": "priced:Priced"}
WORDS = "one two three four"
"""Eight tokens as a prompt, five as a reply."""


def asking(text: str = WORDS, max_tokens: int | None = 20) -> Complete:
    message = ChatMessage(role="user", text=text)
    return Complete(messages=(message,), sampling=Sampling(max_tokens=max_tokens))


@program
async def thinker(self: Process, times: int = 1, max_tokens: int | None = 20) -> int:
    for _ in range(times):
        await self.think(WORDS, max_tokens=max_tokens)
    return times


@program
async def caller(self: Process, times: int) -> int:
    for _ in range(times):
        await self.call("list_files")
    return times


async def accounts(kernel: Kernel) -> dict[tuple[str, str], Account]:
    found = await kernel.request(ReadAccounts(ended=True))
    return {(account.scope, account.what): account for account in found}


async def stopped(agent: ProcessRef[Any]) -> ProcessRecord:
    """Wait until it is."""
    with anyio.fail_after(10):
        while (status := await agent.status()).record.state != "stopped" or status.live:
            await anyio.sleep(0.001)
    return status.record


async def test_a_process_that_meets_its_quota_stops_and_goes_on_when_it_is_raised(
    system: System,
) -> None:
    async with system() as kernel:
        agent = await spawn(kernel, thinker(times=3), quota=Quota(tokens=45))
        record = await stopped(agent)
        assert record.error_kind == "OverBudget"
        assert "aosk quota set" in str(record.error)
        await kernel.request(SetQuota(scope=of_process(agent.pid), quota=Quota(tokens=500)))
        await kernel.request(Kill(pid=agent.pid, signal="CONT"))
        with anyio.fail_after(10):
            assert await agent == 3
        log = await kernel.request(ReadLog(pid=agent.pid))
        assert [(entry.kind, entry.attempts) for entry in log] == [("think", 1)] * 3


async def test_what_is_used_is_the_sum_of_what_the_log_says(system: System) -> None:
    async with system(**{"llm.default": PRICED}) as kernel:
        agent = await spawn(kernel, thinker(times=3), tenant="acme", quota=Quota(tokens=500))
        await agent
        log = await kernel.request(ReadLog(pid=agent.pid))
        usages = [Completion.model_validate_json(entry.body).usage for entry in log]
        ((whose, spent),) = await kernel.request(ReadSpent(by="tenant"))
        used = (await accounts(kernel))[of_process(agent.pid), "tokens"].used
    prompt, completion = sum(u.prompt for u in usages), sum(u.completion for u in usages)
    money = round(sum(EUR.of(usage) for usage in usages) * NANO)
    assert whose == "acme"
    assert spent == Spent(
        currency="EUR", prompt=prompt, completion=completion, money=money, calls=3
    )
    assert used == prompt + completion


async def test_a_child_uses_what_is_its_parents(system: System) -> None:
    @program
    async def parent(self: Process) -> int:
        child = await self.spawn(thinker(times=2), quota=Quota(tokens=200))
        other = await self.spawn(thinker(times=1))
        return await child + await other

    async with system() as kernel:
        agent = await spawn(kernel, parent(), quota=Quota(tokens=1000, calls=3))
        with anyio.fail_after(10):
            assert await agent == 3
        found = await accounts(kernel)
    (child,) = [a for (scope, _), a in found.items() if scope != of_process(agent.pid)]
    ours = found[of_process(agent.pid), "tokens"]
    assert (ours.reserved, child.reserved) == (0, 0)
    assert ours.used > child.used > 0
    assert found[of_process(agent.pid), "calls"].used == 3


async def test_a_child_that_asks_for_more_is_bound_by_its_parent_all_the_same(
    system: System,
) -> None:
    @program
    async def parent(self: Process) -> int:
        return await (await self.spawn(thinker(times=9), quota=Quota(calls=100)))

    async with system() as kernel:
        agent = await spawn(kernel, parent(), quota=Quota(calls=2))
        with anyio.fail_after(10):
            while not [a for a in (await accounts(kernel)).values() if a.used == 2]:
                await anyio.sleep(0.001)
        found = await accounts(kernel)
        assert {account.used for account in found.values()} == {2}
        assert found[of_process(agent.pid), "calls"].ceiling == 2


async def test_a_quota_that_is_set_later_binds_the_children_there_are(system: System) -> None:
    @program
    async def parent(self: Process) -> None:
        child = await self.spawn(waiter())
        await self.wait(child)

    @program
    async def waiter(self: Process) -> None:
        await self.receive()
        await self.think(WORDS, max_tokens=20)

    async with system() as kernel:
        agent = await spawn(kernel, parent())
        with anyio.fail_after(10):
            children = ListProcesses(parent=agent.pid)
            while not (found := await kernel.request(children)) or not found[0].doing:
                await anyio.sleep(0.001)
            await kernel.request(SetQuota(scope=of_process(agent.pid), quota=Quota(tokens=5)))
            child = await attach(kernel, found[0].pid)
            await child.send("go")
            record = await stopped(child)
    assert of_process(agent.pid) in str(record.error)


async def test_tool_calls_are_counted_and_bounded(system: System) -> None:
    async with system() as kernel:
        agent = await spawn(kernel, caller(times=5), quota=Quota(tool_calls=3, tokens=0))
        assert "tool calls" in str((await stopped(agent)).error)
        account = (await accounts(kernel))[of_process(agent.pid), "tool_calls"]
        assert (account.used, account.reserved) == (3, 0)
        assert await kernel.request(ReadSpent()) == ((str(agent.pid), Spent(tool_calls=3)),)


async def test_a_tenant_and_one_of_its_models_have_quotas_by_configuration(system: System) -> None:
    quota = {"tenants": {"acme": {"calls": 5, "models": {"llm.default": {"calls": 2}}}}}
    async with system(quota=quota) as kernel:
        await spawn(kernel, thinker(times=9), tenant="other")
        agent = await spawn(kernel, thinker(times=9), tenant="acme")
        record = await stopped(agent)
        found = await accounts(kernel)
    assert of_tenant("acme", "llm.default") in str(record.error)
    assert {scope: a.used for (scope, _), a in found.items()} == {
        of_tenant("acme"): 2,
        of_tenant("acme", "llm.default"): 2,
    }


async def test_the_namespace_bounds_what_applications_ask_too(system: System) -> None:
    async with system(quota={"namespace": {"tokens": 50}}) as kernel:
        await kernel.request(asking())
        await kernel.request(asking())
        async with kernel.listen("quota.crossed") as events:
            with pytest.raises(OverBudget) as told:
                await kernel.request(asking())
            crossed = await anext(aiter(events))
        account = (await accounts(kernel))["all", "tokens"]
    assert (account.used, account.reserved) == (26, 0)
    assert (told.value.needed, told.value.left, told.value.action) == (28, 24, "stop")
    assert crossed == QuotaCrossed(
        who="app", scope="all", what="tokens", needed=28, left=24, action="stop"
    )


def test_wall_time_is_over_when_it_is_over(system: System) -> None:
    async def main() -> None:
        model = {"driver": "scripted", "token_s": 10.0}
        async with system(**{"llm.default": model}) as kernel:
            agent = await spawn(kernel, thinker(times=9), quota=Quota(wall_s=130))
            while (status := await agent.status()).record.state != "stopped":
                await anyio.sleep(1)
            assert kernel.bus.wall() == pytest.approx(130, abs=3)
            assert "its time is over" in str(status.record.error)
            ((_, spent),) = await kernel.request(ReadSpent())
            assert spent.calls == 3  # the third was cut

    run_virtual(main)


# What is reserved


async def test_a_prompt_is_reserved_at_the_dearest_price_and_settled_at_its_own(
    system: System,
) -> None:
    seen: list[Account] = []

    async def script(ask: Complete) -> Completion:
        seen.extend((await accounts(kernel)).values())
        return Completion.model_validate(
            {
                "text": "yes",
                "finish": "stop",
                "model": "m",
                "usage": {"prompt": 8, "cached": 6, "completion": 1},
            }
        )

    model = {**PRICED, "script": script}
    quota = {"namespace": {"money": 0.01, "currency": "EUR"}}
    async with system(quota=quota, **{"llm.default": model}) as kernel:
        await kernel.request(asking())
        after = (await accounts(kernel))["all", "EUR"]
    assert seen[0].reserved == 8 * 12_500 + 20 * 50_000
    assert (after.used, after.reserved) == (2 * 10_000 + 6 * 1_000 + 50_000, 0)


async def test_a_quota_counts_in_its_own_currency_at_the_rate_it_was_told(system: System) -> None:
    quota = {"namespace": {"money": 1, "currency": "CHF"}, "rates": {"CHF/EUR": 2.0}}
    async with system(quota=quota, **{"llm.default": PRICED}) as kernel:
        await kernel.request(asking())
        found = await accounts(kernel)
        ((_, spent),) = await kernel.request(ReadSpent())
    assert spent.currency == "EUR"
    assert found["all", "CHF"].used == spent.money // 2


@pytest.mark.parametrize(
    ("model", "quota", "ask", "told"),
    [
        ({"price": None}, {}, asking(), "nobody knows what scripted costs"),
        ({}, {"currency": "USD"}, asking(), '"EUR/USD"'),
        ({}, {}, asking(max_tokens=None), "say max_tokens"),
    ],
)
async def test_what_cannot_be_bounded_is_refused(
    system: System, model: dict[str, Any], quota: dict[str, Any], ask: Complete, told: str
) -> None:
    namespace = {"money": 1, "currency": "EUR", **quota}
    tables = {"llm.default": {**PRICED, **model}, "quota": {"namespace": namespace}}
    async with system(**tables) as kernel:
        with pytest.raises(Unbounded, match=told):
            await kernel.request(ask)


async def test_a_model_without_a_price_may_be_let_pass(system: System) -> None:
    tables = {
        "llm.default": {**PRICED, "price": None},
        "quota": {"namespace": {"money": 1, "currency": "EUR"}, "unpriced": "allow"},
    }
    async with system(**tables) as kernel:
        await kernel.request(asking())
        ((_, spent),) = await kernel.request(ReadSpent())
    assert (spent.currency, spent.money, spent.prompt) == ("", 0, 8)


async def test_a_model_that_says_its_longest_reply_needs_no_max_tokens(system: System) -> None:
    tables = {
        "llm.default": {**PRICED, "max_output": 30},
        "quota": {"namespace": {"tokens": 37}},
    }
    async with system(**tables) as kernel:
        with pytest.raises(OverBudget, match="38 tokens"):
            await kernel.request(asking(max_tokens=None))


async def test_a_configured_max_tokens_bounds_calls_that_say_none(system: System) -> None:
    quota = {"namespace": {"tokens": 100}, "max_tokens": 2}
    async with system(quota=quota) as kernel:
        assert (await kernel.request(asking(max_tokens=None))).usage.completion == 2
        assert (await kernel.request(asking(max_tokens=4))).usage.completion == 4


@pytest.mark.parametrize(
    ("quota", "told"),
    [
        ({"max_tokens": 0}, "at least 1"),
        ({"namespace": {"tokens": -1}}, "greater than or equal to 0"),
        ({"namespace": {"money": 1, "currency": "EURO"}}, "'EURO' is no currency"),
        ({"namespace": {"money": 1}}, "go together"),
        ({"namespace": {"action": "degrade", "tokens": 1}}, "go together"),
        ({"namespace": {"wall_s": 5}}, "wall_s is for processes"),
        ({"tenants": {"acme": {"token": 5}}}, "token"),
        ({"rates": {"USD/EUR": 0}}, "more than 0"),
        ({"rates": {"USDEUR": 1}}, "no currency"),
    ],
)
def test_a_configuration_that_makes_no_sense_says_so(
    system: System, quota: dict[str, Any], told: str
) -> None:
    with pytest.raises(ConfigError, match=told):
        system(quota=quota)


@pytest.mark.parametrize("given", [{"tokens": -5}, {"money": math.inf, "currency": "EUR"}])
def test_a_quota_that_makes_no_sense_is_none(given: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="equal to"):
        Quota(**given)


# Calls that end otherwise


def test_a_call_that_is_cut_is_settled_by_its_meter(system: System) -> None:
    async def main() -> None:
        model = {**PRICED, "first_token_s": 1.0, "token_s": 1.0}
        quota = {"namespace": {"tokens": 100}}
        async with system(quota=quota, **{"llm.default": model}) as kernel:
            with anyio.move_on_after(3.5):
                await kernel.request(asking())
            account = (await accounts(kernel))["all", "tokens"]
            assert (account.used, account.reserved) == (8 + 2, 0)
            ((_, spent),) = await kernel.request(ReadSpent())
            assert (spent.prompt, spent.completion, spent.calls) == (8, 2, 1)

    run_virtual(main)


@pytest.mark.parametrize("quota", [{}, {"namespace": {"tokens": 100}}])
async def test_a_call_that_never_began_leaves_nothing_behind(
    system: System, quota: dict[str, Any]
) -> None:
    routes = {"llm.complete": {"guards": ["scheduler", "quota", "refuser", "journal"]}}
    services = {"refuser": {"use": "refuser:Refuser"}, "quota": quota}
    async with system(routes=routes, **services) as kernel:
        with pytest.raises(Refused, match="not today"):
            await kernel.request(asking())
        assert all((a.used, a.reserved) == (0, 0) for a in (await accounts(kernel)).values())
        assert await kernel.request(ReadSpent()) == ()


async def test_a_model_that_fails_has_used_what_its_meter_says(system: System) -> None:
    model = {**PRICED, "script": ["only one reply"]}
    quota = {"namespace": {"tokens": 100}}
    async with system(quota=quota, **{"llm.default": model}) as kernel:
        agent = await spawn(kernel, thinker(times=2))
        with pytest.raises(ProcessFailed):
            await agent
        account = (await accounts(kernel))["all", "tokens"]
        ((_, spent),) = await kernel.request(ReadSpent())
    assert (account.used, account.reserved) == (spent.prompt + spent.completion, 0)
    assert spent.calls == 2


# Calls that wait


@pytest.mark.parametrize("slots", [16, 2000])
def test_of_two_thousand_that_wait_none_is_refused_while_money_is_left(
    system: System, slots: int
) -> None:
    """Each reserves 28 tokens and uses 13, so that all fit one after another, not together."""
    refused, most = [], 2000

    async def main() -> None:
        model = {"driver": "scripted", "token_s": 0.1, "slots": slots}
        quota = {"namespace": {"tokens": most * 13 + 15}}
        async with system(quota=quota, **{"llm.default": model}) as kernel:

            async def ask() -> None:
                try:
                    await kernel.request(asking())
                except OverBudget as error:
                    refused.append(error)

            async with anyio.create_task_group() as tasks:
                for _ in range(most):
                    tasks.start_soon(ask)
            account = (await accounts(kernel))["all", "tokens"]
            assert (account.used, account.reserved) == (most * 13, 0)

    run_virtual(main)
    assert refused == []


def test_who_waits_is_woken_when_something_is_given_back_and_not_before(system: System) -> None:
    ended: list[float] = []

    async def main() -> None:
        model = {"driver": "scripted", "token_s": 10.1}
        async with system(quota={"namespace": {"tokens": 45}}, **{"llm.default": model}) as kernel:

            async def ask() -> None:
                await kernel.request(asking())
                ended.append(anyio.current_time())

            async with anyio.create_task_group() as tasks:
                for _ in range(2):
                    tasks.start_soon(ask)

    run_virtual(main)
    assert ended == [50.5, 101.0]  # five tokens each, one after the other, without a pause


def test_one_that_waits_is_refused_when_it_can_fit_no_more(system: System) -> None:
    async def main() -> None:
        model = {"driver": "scripted", "token_s": 1.0}
        async with system(quota={"namespace": {"tokens": 40}}, **{"llm.default": model}) as kernel:
            told: list[float] = []

            async def ask() -> None:
                try:
                    await kernel.request(asking())
                except OverBudget:
                    told.append(anyio.current_time())

            async with anyio.create_task_group() as tasks:
                for _ in range(3):
                    tasks.start_soon(ask)
            assert told == [5.0, 5.0]

    run_virtual(main)


async def test_a_swap_of_the_guard_loses_nobody_who_waits(system: System) -> None:
    gate = anyio.Event()

    async def script(ask: Complete) -> str:
        await gate.wait()
        return WORDS

    model = {"driver": "scripted", "script": script, "slots": 8}
    async with system(quota={"namespace": {"tokens": 60}}, **{"llm.default": model}) as kernel:

        async def swap() -> None:
            tenants = {"default": {"calls": 3}}
            await kernel.swap("quota", {"namespace": {"tokens": 600}, "tenants": tenants})

        with anyio.fail_after(10):
            async with anyio.create_task_group() as tasks:
                for _ in range(3):
                    tasks.start_soon(kernel.request, asking())
                await anyio.sleep(0.01)
                tasks.start_soon(swap)
                await anyio.sleep(0.01)
                gate.set()
        account = (await accounts(kernel))["all", "tokens"]
        assert (account.used, account.reserved, account.ceiling) == (39, 0, 600)
        with pytest.raises(OverBudget, match="tenant:default"):
            for _ in range(4):  # those under way were not counted there
                await kernel.request(asking())


# What becomes of a process that meets its quota


async def _asked(kernel: Kernel) -> Any:
    with anyio.fail_after(10):
        while not (questions := await kernel.request(ListQuestions())):
            await anyio.sleep(0.001)
    return questions[0]


async def test_a_human_is_asked_and_raises_it(system: System) -> None:
    quota = Quota(money=0.0015, currency="EUR", action="ask")
    async with system(**{"llm.default": PRICED}) as kernel:
        agent = await spawn(kernel, thinker(times=3), quota=quota)
        question = await _asked(kernel)
        assert "by how much (EUR" in question.text
        await kernel.request(Answer(number=question.number, text="rather a lot"))
        question = await _asked(kernel)
        await kernel.request(Answer(number=question.number, text="0.5"))
        with anyio.fail_after(10):
            assert await agent == 3
        account = (await accounts(kernel))[of_process(agent.pid), "EUR"]
        assert account.ceiling == round(0.5015 * NANO)
        assert await kernel.request(ListQuestions()) == ()


async def test_a_human_is_asked_and_says_stop(system: System) -> None:
    async with system() as kernel:
        agent = await spawn(kernel, thinker(), quota=Quota(tokens=5, action="ask"))
        question = await _asked(kernel)
        await kernel.request(Answer(number=question.number, text="stop"))
        assert (await stopped(agent)).error_kind == "OverBudget"


async def test_an_answer_that_comes_when_it_is_parked_raises_once(system: System) -> None:
    async with system(processes={"park_after_s": 0.02}) as kernel:
        agent = await spawn(kernel, thinker(times=2), quota=Quota(tokens=5, action="ask"))
        question = await _asked(kernel)
        with anyio.fail_after(10):
            while (await agent.status()).live:
                await anyio.sleep(0.01)
        await kernel.request(Answer(number=question.number, text="100"))
        with anyio.fail_after(10):
            assert await agent == 2
        assert (await accounts(kernel))[of_process(agent.pid), "tokens"].ceiling == 105


async def test_a_cheaper_model_takes_over_where_that_is_what_the_quota_says(
    system: System,
) -> None:
    cheap = {**PRICED, "price": Price(currency="EUR", prompt=0.1, completion=0.1), "name": "cheap"}
    quota = Quota(money=0.0015, currency="EUR", action="degrade", instead="llm.cheap")
    script = {"script": lambda ask: WORDS}
    tables = {"llm.default": PRICED, "llm.cheap": {**cheap, **script}}
    async with system(**tables) as kernel:
        agent = await spawn(kernel, thinker(times=4), quota=quota)
        with anyio.fail_after(10):
            assert await agent == 4
        log = await kernel.request(ReadLog(pid=agent.pid))
    models = [Completion.model_validate_json(entry.body).model for entry in log]
    assert models[0] == "scripted"
    assert models[-1] == "scripted:cheap"
