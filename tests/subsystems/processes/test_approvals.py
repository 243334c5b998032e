"""Calls that a human must approve: asked once, found again after a crash, explained by one rule."""

import json
from decimal import Decimal
from typing import Annotated, Any

import anyio
import pytest
from one_storage import OneStorage, log_of, processes_of, reached, until
from shop import PYTHON

from aoskernel import (
    Kernel,
    Process,
    ProcessFailed,
    Touches,
    assistant,
    attach,
    program,
    spawn,
    tool,
)
from aoskernel.drivers.llm.scripted import call
from aoskernel.kernel import Refused
from aoskernel.kernel.errors import KernelError
from aoskernel.kernel.testing import run_virtual
from aoskernel.subsystems.policy.messages import (
    CallAllowed,
    CallAsked,
    CallRefused,
    Decide,
    Decision,
    ListGrants,
    NeedsApproval,
    NoSuchGrant,
    RevokeGrant,
)
from aoskernel.subsystems.processes.messages import Answer, ListQuestions, Origin
from aoskernel.subsystems.storage.messages import Question
from aoskernel.subsystems.tools.messages import CallTool

DELETES = "standard.ask tools.call:* (access delete)"
APPROVE = "approve: this once; deny: not at all; always: from now on, for tenant default,"
KNOWS = {"programs": [__name__], "park_after_s": 0.01}


class World:
    """Files that are only names, and what was done to them."""

    def __init__(self) -> None:
        self.root, self.done = "/desk", list[str]()
        self.shut = anyio.Event()
        self.shut.set()

        @tool(effect="none")
        async def look(path: Annotated[str, Touches("path", "read")]) -> str:
            self.done.append(f"look {path}")
            return "text"

        @tool(effect="idempotent")
        async def put(path: Annotated[str, Touches("path", "write")], text: str = "") -> str:
            self.done.append(f"put {path}")
            await self.shut.wait()
            return "written"

        @tool
        async def remove(path: Annotated[str, Touches("path", "delete")]) -> str:
            self.done.append(f"remove {path}")
            return "gone"

        @tool(effect="none")
        async def fetch(url: Annotated[str, Touches("url")]) -> str:
            self.done.append(f"fetch {url}")
            return "page"

        @tool
        async def pay(
            amount: Annotated[Decimal, Touches("spend", currency="currency")], currency: str
        ) -> str:
            self.done.append(f"pay {amount} {currency}")
            return "paid"

        @tool(effect="idempotent")
        async def save(
            url: Annotated[str, Touches("url")], path: Annotated[str, Touches("path", "write")]
        ) -> str:
            self.done.append(f"save {url} {path}")
            return "saved"

        self.functions = [look, put, remove, fetch, pay, save]

    def tables(self, **policy: Any) -> dict[str, Any]:
        standing = {"mode": "standard", "workspace": self.root, "allow": (), **policy}
        return {
            "tools.world": {"driver": PYTHON, "functions": self.functions},
            "policy": standing,
            "processes": KNOWS,
        }


@program
async def remover(self: Process, path: str = "/desk/a") -> str:
    try:
        return str(await self.call("remove", path=path))
    except Refused as refused:
        return f"refused: {refused}"


@program
async def twice(self: Process) -> list[str]:
    return [str(await self.call("remove", path="/desk/a")) for _ in range(2)]


@program
async def parent(self: Process, mode: Any = None, capabilities: Any = None) -> str:
    child = await self.spawn(remover(), mode=mode, capabilities=capabilities)
    return await child


async def asked(kernel: Kernel) -> Question:
    async def look() -> Question | None:
        found = await kernel.request(ListQuestions())
        return found[0] if found else None

    question: Question = await until(look)
    return question


async def answer(kernel: Kernel, text: str) -> Question:
    question = await asked(kernel)
    await kernel.request(Answer(number=question.number, text=text))
    return question


@pytest.mark.parametrize(
    ("said", "result", "done"),
    [
        ("approve", "gone", ["remove /desk/a"]),
        ("always", "gone", ["remove /desk/a"]),
        (
            "deny",
            f"refused: tools.call:remove is not done: a human has refused it ({DELETES})",
            [],
        ),
    ],
)
async def test_a_call_that_a_rule_asks_about_waits_for_a_human(
    said: str, result: str, done: list[str]
) -> None:
    world, one = World(), OneStorage()
    async with one.kernel(**world.tables()) as here, one.kernel() as there:
        agent = await spawn(here, remover())
        await reached(here, agent.pid, "parked")
        assert world.done == []
        question = await answer(there, said)
        with anyio.fail_after(10):
            assert await agent == result
    assert world.done == done
    assert question.choices == ("approve", "deny", "always")
    assert question.text.splitlines() == [
        "tools.call:remove is to be called; approve it?",
        '  path: "/desk/a"',
        f"asked because of {DELETES}",
        f"{APPROVE} tools.call:remove path=/desk/a",
    ]


@pytest.mark.parametrize("said", ["always", "deny"])
async def test_an_answer_from_while_no_kernel_ran_is_found(one: OneStorage, said: str) -> None:
    world = World()
    async with one.kernel(**world.tables()) as kernel:
        agent = await spawn(kernel, remover())
        await asked(kernel)
    async with one.kernel() as outside:
        await answer(outside, said)
    async with one.kernel(**world.tables()) as kernel:
        with anyio.fail_after(10):
            result = await (await attach(kernel, agent.pid))
    assert (result == "gone") is (said == "always")
    assert len(world.done) == (said == "always")


async def test_an_approved_call_that_is_cut_is_made_again_without_asking(one: OneStorage) -> None:
    world = World()
    world.shut = anyio.Event()
    async with one.kernel(**{**world.tables(), "processes": {**KNOWS, "drain_s": 0.01}}) as kernel:
        agent = await spawn(kernel, writer())
        await answer(kernel, "approve")
        await until(lambda: world.done)
    world.shut.set()
    async with one.kernel(**world.tables()) as kernel:
        with anyio.fail_after(10):
            assert await (await attach(kernel, agent.pid)) == "written"
        assert (await log_of(kernel, agent.pid))["0:0"].attempts == 2
    assert world.done == ["put /etc/a", "put /etc/a"]


@program
async def writer(self: Process) -> str:
    return str(await self.call("put", path="/etc/a"))


async def test_an_approval_is_of_one_call_and_the_next_asks_again() -> None:
    world, one = World(), OneStorage()
    async with one.kernel(**world.tables()) as kernel:
        agent = await spawn(kernel, twice())
        first = await answer(kernel, "approve")
        second = await answer(kernel, "approve")
        with anyio.fail_after(10):
            assert await agent == ["gone", "gone"]
    assert first.number != second.number


async def test_the_approval_of_another_call_is_none_of_this_one() -> None:
    async with OneStorage().kernel(**World().tables()) as kernel:
        ask = CallTool(name="remove", arguments={"path": "/desk/a"})

        async def made(*approved: str) -> Any:
            origin = Origin(approved=approved)
            return await processes_of(kernel).request(ask, to="tools.world", origin=origin)

        with pytest.raises(NeedsApproval) as needed:
            await made("0123456789abcdef")
        assert await made(needed.value.mark) == "gone"


async def test_always_is_durable_and_can_be_revoked() -> None:
    one, world = OneStorage(), World()
    async with one.kernel(**world.tables()) as kernel:
        agent = await spawn(kernel, twice())
        number = (await answer(kernel, "always")).number
        with anyio.fail_after(10):
            assert await agent == ["gone", "gone"]
    async with one.kernel(**world.tables()) as kernel:
        (grant,) = await kernel.request(ListGrants())
        assert (grant.number, str(grant.rule)) == (number, "tools.call:remove path=/desk/a")
        with anyio.fail_after(10):
            assert await (await spawn(kernel, remover())) == "gone"
        await kernel.request(RevokeGrant(number=number))
        with pytest.raises(NoSuchGrant, match=rf"under number {number}; `aosk policy` lists"):
            await kernel.request(RevokeGrant(number=number))
        await spawn(kernel, remover())
        await asked(kernel)


@pytest.mark.parametrize(
    ("tenant", "path"), [("other", "/desk/a"), ("default", "/desk/b"), ("default", "/desk/../a")]
)
async def test_what_is_always_allowed_is_of_its_tenant_and_its_paths(
    tenant: str, path: str
) -> None:
    one, world = OneStorage(), World()
    async with one.kernel(**world.tables()) as kernel:
        agent = await spawn(kernel, remover())
        await answer(kernel, "always")
        with anyio.fail_after(10):
            await agent
        await spawn(kernel, remover(path=path), tenant=tenant)
        await asked(kernel)


@program
async def saver(self: Process, url: str = "https://example.org/a") -> str:
    return str(await self.call("save", url=url, path="/desk/a"))


async def test_always_is_of_this_url_where_a_tool_touches_a_path_too() -> None:
    one, world = OneStorage(), World()
    async with one.kernel(**world.tables()) as kernel:
        agent = await spawn(kernel, saver())
        question = await answer(kernel, "always")
        with anyio.fail_after(10):
            assert await agent == "saved"
            assert await (await spawn(kernel, saver())) == "saved"
        await spawn(kernel, saver(url="https://example.org/b"))
        assert (await asked(kernel)).number != question.number


@program
async def payer(self: Process, amount: str = "120.50", currency: str = "EUR") -> str:
    return str(await self.call("pay", amount=amount, currency=currency))


async def test_an_approval_shows_what_is_spent_and_always_is_up_to_that() -> None:
    one, world = OneStorage(), World()
    ask = [{"call": "tools.call:*", "spends_over": "100 EUR"}]
    async with one.kernel(**world.tables(mode="trusted", ask=ask)) as kernel:
        with anyio.fail_after(20):
            assert await (await spawn(kernel, payer(amount="100.00"))) == "paid"
            agent = await spawn(kernel, payer())
            question = await answer(kernel, "always")
            assert question.text.splitlines()[1:] == [
                '  amount: "120.50"',
                '  currency: "EUR"',
                "  spends 120.50 EUR",
                "asked because of policy.ask tools.call:* (spends over 100 EUR)",
                f"{APPROVE} tools.call:pay (spends up to 120.50 EUR)",
            ]
            assert await agent == "paid"
            assert await (await spawn(kernel, payer(amount="120.5"))) == "paid"
        await spawn(kernel, payer(amount="120.51"))
        await answer(kernel, "deny")
    assert world.done == ["pay 100.00 EUR", "pay 120.50 EUR", "pay 120.5 EUR"]


async def test_of_an_amount_that_cannot_be_compared_always_allows_nothing_more() -> None:
    one, world = OneStorage(), World()
    async with one.kernel(**world.tables(mode=None, ask=["tools.call:pay"])) as kernel:
        agent = await spawn(kernel, payer(currency="a coin"))
        question = await answer(kernel, "always")
        assert "  spends an amount that cannot be compared" in question.text
        assert "tools.call:pay (spends up to 0 XXX)" in question.text
        with anyio.fail_after(10):
            assert await agent == "paid"
        await spawn(kernel, payer(currency="a coin"))
        assert (await asked(kernel)).number != question.number


async def test_what_is_denied_stays_so_whatever_was_always_allowed() -> None:
    one, world = OneStorage(), World()
    async with one.kernel(**world.tables()) as kernel:
        agent = await spawn(kernel, remover())
        await answer(kernel, "always")
        with anyio.fail_after(10):
            await agent
    async with one.kernel(**world.tables(deny=["tools.call:remove"])) as kernel:
        with anyio.fail_after(10):
            assert "policy.deny tools.call:remove" in await (await spawn(kernel, remover()))


def test_a_question_that_nobody_answers_in_time_is_a_refusal() -> None:
    world = World()

    async def main() -> str:
        async with OneStorage().kernel(**world.tables(ask_within_s=60.0)) as kernel:
            return await (await spawn(kernel, remover()))

    assert "nobody has approved it within 60 s" in run_virtual(main)
    assert world.done == []


def test_the_time_for_an_answer_goes_on_while_no_kernel_runs() -> None:
    world, one = World(), OneStorage()

    async def main() -> str:
        async with one.kernel(**world.tables(ask_within_s=60.0)) as kernel:
            agent = await spawn(kernel, remover())
            await asked(kernel)
        await anyio.sleep(70)
        async with one.kernel(**world.tables(ask_within_s=60.0)) as kernel:
            with anyio.fail_after(10):
                return str(await (await attach(kernel, agent.pid)))

    assert "nobody has approved it" in run_virtual(main)
    assert world.done == []


async def test_an_application_cannot_wait_for_a_human_and_is_told_so() -> None:
    async with OneStorage().kernel(**World().tables()) as kernel:
        with pytest.raises(Refused, match="only a process can wait for one; spawn a process"):
            await kernel.request(
                CallTool(name="remove", arguments={"path": "/desk/a"}), to="tools.world"
            )


async def test_the_secret_that_a_tool_is_given_is_not_in_the_question(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("A_TOKEN", "sk-verysecret")
    world, prompts = World(), list[str]()

    def script(ask: Any) -> Any:
        prompts.append(str(ask))
        return call("remove", path="sk-verysecret") if len(ask.messages) < 3 else "done"

    tables = world.tables()
    tables["llm.default"] = {"driver": "scripted", "script": script}
    tables["tools.mine"] = {"driver": f"{__name__}:Keyed", "token": {"env": "A_TOKEN"}}
    async with OneStorage().kernel(**tables) as kernel:
        agent = await spawn(kernel, assistant(task="Remove it."))
        question = await answer(kernel, "deny")
        with anyio.fail_after(10):
            await agent
    assert 'path: "[secret]"' in question.text
    assert not any("verysecret" in prompt for prompt in prompts[:1])


class Keyed:
    """A driver with a secret."""

    def __init__(self, token: str) -> None:
        self.token = token

    async def start(self) -> None: ...
    async def stop(self) -> None: ...
    async def offers(self) -> tuple[Any, ...]:
        return ()

    async def call(self, name: str, arguments: Any, key: str) -> None: ...


# What is kept and told


async def test_each_decision_is_told_with_its_rule_and_kept_in_the_log() -> None:
    world, one = World(), OneStorage()
    async with (
        one.kernel(**world.tables(deny=["tools.call:put text=no"])) as kernel,
        kernel.listen("policy.*") as events,
    ):
        agent = await spawn(kernel, clerk())
        await answer(kernel, "approve")
        await answer(kernel, "deny")
        with anyio.fail_after(10):
            await agent
        log = await log_of(kernel, agent.pid)
        told = list[Any]()
        with anyio.move_on_after(0.1):
            async for event in events:
                told.append(event)

    rules = {entry.kind + key: entry.rule for key, entry in log.items()}
    assert rules["call:put0:0"] == "standard.allow tools.call:* (access read or write; below .)"
    assert rules["call:remove0:2"] == f"approved: {DELETES}"
    refused = json.loads(log["0:1"].body)
    assert refused["has"]["rule"] == "policy.deny tools.call:put text=no"
    assert json.loads(log["0:3"].body)["has"]["rule"] == f"a human has refused it: {DELETES}"
    kinds = [(type(e), e.rule) for e in told if isinstance(e, CallRefused | CallAllowed)]
    assert kinds == [
        (CallAllowed, rules["call:put0:0"]),
        (CallRefused, "policy.deny tools.call:put text=no"),
        (CallAllowed, f"approved: {DELETES}"),
        (CallRefused, f"a human has refused it: {DELETES}"),
    ]
    assert {e.rule for e in told if isinstance(e, CallAsked)} == {DELETES}


@program
async def clerk(self: Process) -> None:
    await self.call("put", path="/desk/a", text="yes")
    for name, arguments in (
        ("put", {"path": "/desk/a", "text": "no"}),
        ("remove", {"path": "/desk/a"}),
        ("remove", {"path": "/desk/b"}),
    ):
        try:
            await self.call(name, **arguments)
        except KernelError:
            continue


# Bounds


@pytest.mark.parametrize(
    ("root", "child", "rule"),
    [
        ({"mode": "trusted"}, {}, None),
        ({"mode": "trusted"}, {"mode": "read_only"}, "read_only.deny"),
        ({"mode": "read_only"}, {"mode": "trusted"}, "read_only.deny"),
        ({"mode": "read_only"}, {}, "read_only.deny"),
        ({}, {"mode": "read_only"}, "read_only.deny"),
        ({"mode": "trusted"}, {"capabilities": ["tools.call:look"]}, "capabilities"),
        ({"mode": "trusted", "capabilities": ["tools.call:look"]}, {}, "capabilities"),
        (
            {"mode": "trusted", "capabilities": ["tools.call:look"]},
            {"capabilities": ["tools.call:*"]},
            "capabilities",
        ),
        ({"mode": "trusted", "capabilities": ["tools.call:rem* path=/desk/*"]}, {}, None),
    ],
)
async def test_a_child_may_what_its_parent_may_or_less(
    root: Any, child: Any, rule: str | None
) -> None:
    world, one = World(), OneStorage()
    async with one.kernel(**world.tables()) as kernel:
        agent = await spawn(kernel, parent(**child), **root)
        with anyio.fail_after(10):
            result = await agent
    assert result == "gone" if rule is None else f"is refused by {rule}" in result


async def test_a_trusted_child_of_a_standard_parent_still_asks() -> None:
    async with OneStorage().kernel(**World().tables()) as kernel:
        await spawn(kernel, parent(mode="trusted"))
        assert "standard.ask" in (await asked(kernel)).text


async def test_bounds_hold_after_a_restart(one: OneStorage) -> None:
    world = World()
    async with one.kernel(**world.tables()) as kernel:
        agent = await spawn(kernel, sleeper(), mode="read_only")
        await reached(kernel, agent.pid, "parked")
    async with one.kernel(**world.tables(mode="trusted")) as kernel:
        with (
            anyio.fail_after(10),
            pytest.raises(ProcessFailed, match=r"refused by read_only\.deny"),
        ):
            await (await attach(kernel, agent.pid))


async def test_what_a_process_asks_past_its_syscalls_is_bound_too() -> None:
    world = World()
    async with OneStorage().kernel(**world.tables()) as kernel:
        agent = await spawn(kernel, sly(), mode="read_only")
        with (
            anyio.fail_after(10),
            pytest.raises(ProcessFailed, match=r"refused by read_only\.deny"),
        ):
            await agent
    assert world.done == []


@program
async def sly(self: Process) -> None:
    ask = CallTool(name="put", arguments={"path": "/desk/a"})
    await self.asking.request(ask, to="tools.world")


@program
async def sleeper(self: Process) -> None:
    await self.sleep(0.3)
    await self.call("remove", path="/desk/a")


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"mode": "standart"}, "no mode 'standart'; did you mean 'standard'"),
        ({"capabilities": ["read_file"]}, "capabilities: 'read_file' is no rule; write topic:subj"),
        ({"capabilities": [{"call": "tools.call:x", "paths": "."}]}, "unknown key 'paths'"),
    ],
)
async def test_what_is_no_mode_or_capability_is_refused_at_spawn(given: Any, told: str) -> None:
    async with OneStorage().kernel(**World().tables()) as kernel:
        with pytest.raises(ValueError, match=told):
            await spawn(kernel, remover(), **given)


# A run as coding goes

STEPS: tuple[tuple[str, dict[str, str]], ...] = (
    *(("look", {"path": f"/desk/src/{name}.py"}) for name in "abcdef"),
    *(("put", {"path": f"/desk/src/{name}.py", "text": "new"}) for name in "abcdef"),
    *(("look", {"path": f"/desk/tests/test_{name}.py"}) for name in "abcdefg"),
    ("put", {"path": "/desk/notes.md", "text": "done"}),
)
TEMPTATIONS: dict[str, tuple[tuple[str, dict[str, str]], str]] = {
    "outside": (
        ("put", {"path": "/desk/../etc/cron.d/x"}),
        "standard.ask tools.call:* (outside .)",
    ),
    "private": (
        ("fetch", {"url": "http://169.254.169.254/latest"}),
        "standard.ask tools.call:* (private host)",
    ),
    "delete": (("remove", {"path": "/desk/src/a.py"}), "standard.ask tools.call:* (access delete)"),
}


@pytest.mark.parametrize("temptation", [None, *TEMPTATIONS])
async def test_twenty_steps_of_coding_ask_only_for_what_leaves_the_workspace(
    temptation: str | None,
) -> None:
    steps, rule = list(STEPS), ""
    if temptation is not None:
        step, rule = TEMPTATIONS[temptation]
        steps.insert(10, step)
    calls = iter(steps)

    def script(ask: Any) -> Any:
        following = next(calls, None)
        return "done" if following is None else call(following[0], **following[1])

    world, questions = World(), list[Question]()
    tables = {**world.tables(), "llm.default": {"driver": "scripted", "script": script}}
    async with OneStorage().kernel(**tables) as kernel:
        agent = await spawn(kernel, assistant(task="Refactor.", max_steps=30))
        if temptation is not None:
            questions.append(await answer(kernel, "deny"))
        with anyio.fail_after(20):
            assert await agent == "done"
        assert await kernel.request(ListQuestions()) == ()
    assert len(world.done) == len(STEPS)
    assert [f"asked because of {rule}" in question.text for question in questions] == (
        [True] * (temptation is not None)
    )


async def test_what_would_be_decided_is_told_without_doing_or_asking() -> None:
    world = World()
    async with OneStorage().kernel(**world.tables()) as kernel:
        would = Decide(call="tools.call:remove", arguments={"path": "/desk/a"})
        assert await kernel.request(would) == Decision(
            verdict="ask", rule="standard.ask tools.call:* (access delete)"
        )
        assert await kernel.request(ListQuestions()) == ()
    assert world.done == []
