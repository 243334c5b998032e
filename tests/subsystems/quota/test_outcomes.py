"""What a call has used is on the disk with the outcome that it was used for, and once."""

from typing import Any

import pytest

from aoskernel import Kernel, Process, ProcessFailed, program, spawn
from aoskernel.kernel import Call, Proceed, Service
from aoskernel.kernel.message import R
from aoskernel.kernel.testing import run_virtual
from aoskernel.subsystems.llm.driver import ModelUnavailable
from aoskernel.subsystems.llm.messages import Complete
from aoskernel.subsystems.processes.messages import Epilogue
from aoskernel.subsystems.storage.messages import Commit, ReadSpent, Spend, Spent


class Committed(Service, name="committed"):
    """Stands before storage and notes what each commit of a process writes, in order."""

    def __init__(self) -> None:
        self.commits: list[Commit] = []

    async def guard(self, call: Call[R], proceed: Proceed[R]) -> R:
        assert isinstance(call.message, Commit)
        if call.message.pid:
            self.commits.append(call.message)
        return await proceed(call)

    @property
    def told(self) -> list[list[str]]:
        """The writes, without those of the process itself and of its context."""
        kinds = [[w.write for w in commit.writes if w.write != "page"] for commit in self.commits]
        return [told for told in kinds if not {"born", "process"} & set(told)]

    @property
    def calls(self) -> int:
        """Of models, that were counted."""
        spends = (w for commit in self.commits for w in commit.writes if isinstance(w, Spend))
        return sum(spend.spent.calls for spend in spends if spend.spent is not None)


def kernel_before(committed: Committed, script: Any = None, **tables: dict[str, Any]) -> Kernel:
    services = {
        "storage": {"driver": "memory"},
        "memory": {"use": "memory_by_words"},
        "policy": {"allow": ("llm.complete:*", "tools.call:*")},
        "quota": {"namespace": {"tokens": 10_000}},
        "llm.default": {"driver": "scripted", "script": script or (lambda ask: "yes")},
        **tables,
    }
    routes = {"storage.commit": [committed.address]}
    return Kernel.from_config(None, committed, services=services, routes=routes)


class Failing:
    """Fails so many times, then answers."""

    def __init__(self, times: int) -> None:
        self.left = times

    def __call__(self, ask: Complete) -> str:
        self.left -= 1
        if self.left >= 0:
            raise ModelUnavailable("away")
        return "yes"


@program
async def turn(self: Process) -> None:
    await self.think("yes or no?", max_tokens=20)
    await self.call("list_files")


@program
async def thought(self: Process) -> str:
    return (await self.think("yes or no?", max_tokens=20)).text


@pytest.mark.parametrize("quota", [{}, {"namespace": {"tokens": 10_000, "tool_calls": 10}}])
async def test_a_turn_commits_two_times_for_each_call_and_no_more(quota: dict[str, Any]) -> None:
    committed = Committed()
    async with kernel_before(committed, quota=quota) as kernel:
        await (await spawn(kernel, turn()))
    held = ["reserve"] if quota else []
    assert committed.told == [
        ["intent", *held],
        ["outcome", "spend"],
        *([held] if held else []),  # a tool without effect has no intent
        ["outcome", "spend"],
    ]


def test_the_attempts_that_failed_are_counted_with_the_outcome_too() -> None:
    async def main() -> None:
        committed = Committed()
        async with kernel_before(committed, Failing(2)) as kernel:
            assert await (await spawn(kernel, thought())) == "yes"
            ((_, spent),) = await kernel.request(ReadSpent())
        assert committed.told == [
            *[["intent", "reserve"]] * 3,
            ["outcome", "spend", "spend", "spend"],
        ]
        assert (spent.calls, committed.calls) == (3, 3)

    run_virtual(main)


def test_a_call_that_fails_for_good_is_counted_with_its_failure() -> None:
    async def main() -> None:
        committed = Committed()
        async with kernel_before(committed, Failing(9), retry={"attempts": 1}) as kernel:
            with pytest.raises(ProcessFailed):
                await (await spawn(kernel, thought()))
        assert committed.told == [["intent", "reserve"], ["outcome", "spend"]]

    run_virtual(main)


def test_what_was_used_before_a_syscall_is_cut_is_counted_without_an_outcome() -> None:
    """It is cut in the pause between two attempts."""

    @program
    async def impatient(self: Process) -> None:
        await self.race(self.think("yes or no?", max_tokens=20), self.sleep(5))

    async def main() -> None:
        committed, long = Committed(), {"first_s": 1e3, "longest_s": 1e4, "seed": 1}
        async with kernel_before(committed, Failing(9), retry=long) as kernel:
            await (await spawn(kernel, impatient()))
            ((_, spent),) = await kernel.request(ReadSpent())
        assert [told for told in committed.told if set(told) & {"reserve", "spend"}] == [
            ["intent", "reserve"],
            ["spend"],
        ]
        assert spent.calls == 1

    run_virtual(main)


async def test_what_was_used_for_a_reply_that_storage_refuses_is_counted_once() -> None:
    committed = Committed()
    model = {"driver": "scripted", "script": lambda ask: "x" * (1 << 20)}
    tables = {"storage": {"driver": "memory", "most_mib": 1}, "llm.default": model}
    async with kernel_before(committed, quota={}, **tables) as kernel:
        with pytest.raises(ProcessFailed, match="limit of 1 MiB"):
            await (await spawn(kernel, turn_without_bounds()))
        ((_, spent),) = await kernel.request(ReadSpent())
    assert spent.calls == 1
    assert committed.told[-1] == ["outcome", "spend"]


@program
async def turn_without_bounds(self: Process) -> None:
    await self.think("say a lot")


def test_what_comes_after_the_outcome_is_for_its_guard_to_commit() -> None:
    epilogue, spend = Epilogue(), Spend(tenant="t", model="m", day="2026-11-27", spent=Spent())
    assert epilogue.add(spend)
    assert epilogue.end() == (spend,)
    assert not epilogue.add(spend)
    assert epilogue.end() == ()
