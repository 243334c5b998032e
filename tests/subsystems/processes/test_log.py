"""What is resumed says the same again: keys, fingerprints, replay, divergence."""

import asyncio
import inspect
import json
from typing import Any

import anyio
import anyio.lowlevel
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from one_storage import processes_of
from system import System

from aoskernel import Kernel, KernelError, Process, ProcessFailed, program, spawn
from aoskernel.subsystems.processes.messages import (
    ConcurrentSyscalls,
    Inspect,
    ListProcesses,
    NoSuchProcess,
    ProcessParked,
    Send,
)
from aoskernel.subsystems.processes.syscall import thaw
from aoskernel.subsystems.storage.messages import ReadLog


async def _parked(kernel: Kernel, pid: Any) -> None:
    with anyio.fail_after(20):
        while (await kernel.request(Inspect(pid=pid))).live:
            await anyio.sleep(0.001)


async def test_a_parked_process_comes_back_without_asking_the_model_again(
    system: System,
) -> None:
    asked = []

    def script(ask: Any) -> str:
        asked.append(ask.messages[-1].text)
        return f"reply {len(asked)}"

    @program
    async def patient(self: Process) -> list[str]:
        first = await self.think("one")
        letter = await self.receive()
        second = await self.think("two")
        return [first.text, letter, second.text]

    async with system(script, processes={"park_after_s": 0}) as kernel:
        agent = await spawn(kernel, patient())
        await _parked(kernel, agent.pid)
        assert (await agent.status()).record.state == "parked"
        await agent.send("now")
        with anyio.fail_after(20):
            assert await agent == ["reply 1", "now", "reply 2"]
    assert asked == ["one", "two"]


async def test_clock_chance_and_own_code_are_the_same_again(system: System) -> None:
    ran = []
    drawn: list[tuple[float, float, int]] = []

    @program
    async def gambler(self: Process) -> None:
        async def roll() -> int:
            ran.append(1)
            return len(ran)

        drawn.append((await self.now(), await self.random(), await self.run_once("roll", roll)))
        await self.receive()

    async with system(processes={"park_after_s": 0}) as kernel:
        agent = await spawn(kernel, gambler())
        await _parked(kernel, agent.pid)
        await agent.send("go")
        await agent
    assert len(drawn) == 2
    assert drawn[0] == drawn[1]
    assert ran == [1]


async def test_an_error_is_the_same_again(system: System) -> None:
    @program
    async def unlucky(self: Process) -> str:
        caught = ""
        try:
            await self.call("no_such_tool")
        except KernelError as error:
            caught = f"{type(error).__name__}: {error}"
        await self.receive()
        return caught

    async with system(processes={"park_after_s": 0}) as kernel:
        agent = await spawn(kernel, unlucky())
        await _parked(kernel, agent.pid)
        await agent.send("go")
        assert (await agent).startswith("UnknownTool: ")


@pytest.mark.parametrize("module", ["messages", "messages.elsewhere"])
def test_an_error_is_the_same_again_when_its_class_has_moved_behind_the_door(module: str) -> None:
    body = {
        "class": f"aoskernel.subsystems.processes.{module}:NoSuchProcess",
        "text": "there is no process 7",
        "has": {},
    }
    error = thaw(json.dumps(body))
    assert type(error) is NoSuchProcess
    assert str(error) == "there is no process 7"


async def test_a_program_that_says_something_else_is_stopped_and_told_where(
    system: System,
) -> None:
    mood = ["glad"]

    @program
    async def moody(self: Process) -> None:
        await self.think("one")
        if mood[0] == "glad":
            await self.think("two")
        await self.receive()

    async with system(processes={"park_after_s": 0}) as kernel:
        agent = await spawn(kernel, moody())
        await _parked(kernel, agent.pid)
        mood[0] = "sad"
        async with kernel.listen("process.parked") as parked:
            await agent.send("go")
            async for event in parked:
                assert isinstance(event, ProcessParked)
                break
        record = (await agent.status()).record
    assert record.state == "stopped"
    assert record.error == "at 0:1 the log has 'think', the program 'receive'"


async def test_the_same_call_with_other_arguments_is_found_too(system: System) -> None:
    words = iter(["one", "another"])

    @program
    async def fickle(self: Process) -> None:
        await self.think(next(words))
        await self.receive()

    async with system(processes={"park_after_s": 0}) as kernel:
        agent = await spawn(kernel, fickle())
        await _parked(kernel, agent.pid)
        await agent.send("go")
        with anyio.fail_after(20):
            while (record := (await agent.status()).record).state != "stopped":
                await anyio.sleep(0.001)
    assert "at 0:0 the program calls 'think' as before, but with other arguments" in str(
        record.error
    )


async def test_every_syscall_has_its_key_in_the_log(system: System) -> None:
    @program
    async def busy(self: Process) -> None:
        await self.think("a")
        await self.parallel(self.think("b"), self.timeout(5, self.think("c")))
        await self.race(self.think("d"))

    async with system() as kernel:
        agent = await spawn(kernel, busy())
        await agent
        log = await kernel.request(ReadLog(pid=agent.pid))
    kinds = {entry.key: entry.kind for entry in log}
    assert kinds == {
        "0:0": "think",
        "0:1.0.0": "think",
        "0:1.1.0": "timeout",
        "0:1.1.0.0.0": "think",
        "0:2": "race",
        "0:2.0.0": "think",
    }
    assert all(entry.settled for entry in log)
    assert {e.key: e.attempts for e in log if e.kind == "think"}["0:0"] == 1


async def test_two_syscalls_at_once_on_one_path_name_parallel(system: System) -> None:
    @program
    async def careless(self: Process) -> None:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self.think, "a")
            tasks.start_soon(self.think, "b")

    async with system() as kernel:
        with pytest.raises(ProcessFailed):
            await (await spawn(kernel, careless()))


async def test_race_takes_the_first_and_knows_it_on_resume(system: System) -> None:
    runs = []

    @program
    async def racer(self: Process) -> str:
        async def slow() -> str:
            await self.sleep(30)
            return "slow"

        async def quick() -> str:
            runs.append((await self.think("quick")).text)
            return "quick"

        winner = await self.race(slow(), quick())
        await self.receive()
        return winner

    async with system(processes={"park_after_s": 0}) as kernel:
        agent = await spawn(kernel, racer())
        await _parked(kernel, agent.pid)
        await agent.send("go")
        with anyio.fail_after(20):
            assert await agent == "quick"
    assert runs == ["quick", "quick"]


async def test_a_race_that_is_won_is_not_parked_while_its_losers_are_cut(system: System) -> None:
    only_waits = []

    @program
    async def racer(self: Process) -> None:
        live = processes_of(kernel).live[self.pid]

        async def quick() -> None:
            await self.think("quick")
            asyncio.get_running_loop().call_soon(lambda: only_waits.append(live.only_waits))

        await self.race(self.sleep(30), quick())

    async with system() as kernel:
        await (await spawn(kernel, racer()))
    assert only_waits == [False]


async def test_arms_that_never_start_are_closed(system: System) -> None:
    @program
    async def hasty(self: Process) -> str:
        arms = [self.now(), self.now()]

        async def beside() -> None:
            with pytest.raises(ConcurrentSyscalls):
                await self.parallel(*arms)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(beside)
        return " ".join(inspect.getcoroutinestate(arm) for arm in arms)

    async with system() as kernel:
        assert await (await spawn(kernel, hasty())) == "CORO_CLOSED CORO_CLOSED"


async def test_a_timeout_is_a_timeout_again_on_resume(system: System) -> None:
    @program
    async def hasty(self: Process) -> str:
        told = ""
        try:
            await self.timeout(0.01, self.sleep(30))
        except TimeoutError as error:
            told = str(error)
        await self.receive()
        return told

    async with system(processes={"park_after_s": 0}) as kernel:
        agent = await spawn(kernel, hasty())
        await _parked(kernel, agent.pid)
        await agent.send("go")
        with anyio.fail_after(20):
            assert await agent == "not done within 0.01 s"


async def test_the_first_error_in_parallel_ends_the_others(system: System) -> None:
    @program
    async def parent(self: Process) -> str:
        try:
            await self.parallel(self.sleep(30), self.call("no_such_tool"))
        except KernelError as error:
            return type(error).__name__
        return "none"

    async with system() as kernel:
        with anyio.fail_after(20):
            assert await (await spawn(kernel, parent())) == "UnknownTool"


async def test_a_parent_parked_in_wait_comes_back_when_its_child_ends(system: System) -> None:
    @program
    async def listener(self: Process) -> str:
        return str(await self.receive())

    @program
    async def parent(self: Process) -> str:
        return await (await self.spawn(listener(), name="listener"))

    async with system(processes={"park_after_s": 0}) as kernel:
        agent = await spawn(kernel, parent())
        await _parked(kernel, agent.pid)
        (inner,) = await kernel.request(ListProcesses(name="listener"))
        await _parked(kernel, inner.pid)
        await kernel.request(Send(to=inner.pid, body="wake up"))
        with anyio.fail_after(20):
            assert await agent == "wake up"


async def test_a_child_that_ends_while_its_parent_is_being_parked_wakes_it(
    system: System,
) -> None:
    @program
    async def listener(self: Process) -> str:
        return str(await self.receive())

    @program
    async def parent(self: Process) -> str:
        return await (await self.spawn(listener(), name="listener"))

    async with system() as kernel, kernel.listen("process.parked") as told:
        agent = await spawn(kernel, parent())
        with anyio.fail_after(20):
            while (await agent.status()).doing is None:
                await anyio.lowlevel.checkpoint()
            (inner,) = await kernel.request(ListProcesses(name="listener"))
            service: Any = next(s.service for s in kernel.services() if s.address == "processes")
            await kernel.request(Send(to=inner.pid, body="wake up"))
            service.live[agent.pid].cut("parked", sealed=True)  # before the child has run
            assert await agent == "wake up"
            parked = await anext(told)
    assert isinstance(parked, ProcessParked)
    assert parked.waits_in == "wait"


async def test_a_process_with_a_clock_running_is_parked_and_back_in_time(system: System) -> None:
    @program
    async def hasty(self: Process) -> str:
        try:
            return str(await self.timeout(0.2, self.receive()))
        except TimeoutError:
            return "too late"

    async with system(processes={"park_after_s": 0}) as kernel:
        agent = await spawn(kernel, hasty())
        with anyio.fail_after(20):
            assert await agent == "too late"


Plan = list[Any]
"""A program as data: "think", "note", "receive", or a list of plans to run in parallel."""

plans = st.recursive(
    st.sampled_from(["think", "note", "random", "receive", "spawn"]),
    lambda inner: st.lists(st.lists(inner, max_size=3), min_size=1, max_size=3),
    max_leaves=8,
)


@program
async def child(self: Process, text: str) -> str:
    return (await self.think(text)).text


@program
async def planned(self: Process, plan: Plan) -> list[Any]:
    async def follow(plan: Plan, path: str) -> list[Any]:
        told: list[Any] = []
        for number, part in enumerate(plan):
            here = f"{path}/{number}"
            if isinstance(part, list):
                told.append(
                    await self.parallel(*(follow(p, here + str(i)) for i, p in enumerate(part)))
                )
            elif part == "think":
                told.append((await self.think(here)).text)
            elif part == "note":
                await self.note(here)
            elif part == "random":
                told.append(await self.random() < 1)
            elif part == "spawn":
                told.append(await (await self.spawn(child(text=here))))
            else:
                await self.receive()
        return told

    return await follow(plan, "")


def _letters(plan: Any) -> int:
    return sum(map(_letters, plan)) if isinstance(plan, list) else int(plan == "receive")


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(plan=st.lists(plans, max_size=5))
async def test_a_process_that_is_parked_at_every_wait_ends_as_if_it_never_was(
    system: System, plan: Plan
) -> None:
    """Parked after each letter, whatever runs side by side, it makes no call twice."""
    results, calls = [], []
    for park_after_s in (300.0, 0.0):
        asked: list[str] = []

        def script(ask: Any, asked: list[str] = asked) -> str:
            asked.append(ask.messages[-1].text)
            return "re: " + str(ask.messages[-1].text)

        async with system(script, processes={"park_after_s": park_after_s}) as kernel:
            agent = await spawn(kernel, planned(plan=plan))
            with anyio.fail_after(20):
                for number in range(_letters(plan)):
                    if not park_after_s:
                        await _parked(kernel, agent.pid)
                    await agent.send(number)
                results.append(await agent)
        calls.append(sorted(asked))
    assert results[0] == results[1]
    assert calls[0] == calls[1]
