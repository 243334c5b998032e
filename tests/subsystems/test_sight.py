"""What subsystems tell those who watch, and nobody else."""

from typing import Any

import anyio
import pytest
from one_storage import OneStorage, until
from system import System

from aoskernel import Event, Kernel, Process, ProcessFailed, assistant, program, spawn, tool
from aoskernel.drivers.llm.scripted import Scripted, call
from aoskernel.kernel.message import Meter
from aoskernel.kernel.testing import Bench, run_virtual
from aoskernel.subsystems.llm.driver import CutReply
from aoskernel.subsystems.llm.messages import ChatMessage, Complete, CompletionFailed
from aoskernel.subsystems.llm.service import Model
from aoskernel.subsystems.processes.messages import (
    CountLive,
    Inspect,
    ReadLive,
    Send,
    StepDone,
    SyscallDone,
    Wait,
)
from aoskernel.subsystems.scheduler.messages import ReadLanes
from aoskernel.subsystems.storage.messages import (
    OUTSIDE,
    Commit,
    Committed,
    Fenced,
    Pid,
    PutRecord,
)
from aoskernel.subsystems.storage.service import TOGETHER_S, Storage
from aoskernel.subsystems.tools.messages import CallTool, ToolCalled, ToolFailed

ASK = Complete(messages=(ChatMessage(role="user", text="hello"),))


class Heard:
    """What was told while it listened."""

    def __init__(self) -> None:
        self.events: list[Any] = []

    async def listen(self, kernel: Kernel, pattern: str, *, task_status: Any) -> None:
        async with kernel.listen(pattern) as events:
            task_status.started()
            async for event in events:
                self.events.append(event)


async def told(
    kernel: Kernel, pattern: str, work: Any, until_: type[Event], number: int
) -> list[Any]:
    """What is told of this kind while the work is done, up to so many."""
    async with kernel.listen(pattern) as events:
        await work()
        found: list[Any] = []
        async for event in events:
            if isinstance(event, until_):
                found.append(event)
            if len(found) == number:
                return found
    raise AssertionError(found)


@tool(effect="none")
def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


@tool(effect="none")
def jam() -> None:
    """Fail."""
    raise ToolFailed("jammed")


TOOLS = {"driver": "python", "functions": [add, jam]}


def script(ask: Any) -> Any:
    last = ask.messages[-1]
    return f"it is {last.text}" if last.role == "tool" else call("add", a=1, b=2)


@program
async def waiter(self: Process) -> str:
    await self.note("before")
    return str(await self.receive())


@program
async def broken(self: Process) -> None:
    raise RuntimeError("the disk is made of cheese")


# Steps and syscalls


async def test_each_step_is_told_once_it_is_done(system: System) -> None:
    with anyio.fail_after(10):
        async with system(script, **{"tools.sums": TOOLS}) as kernel:

            async def work() -> None:
                await (await spawn(kernel, assistant(task="1 + 2?")))

            steps = await told(kernel, "process.*", work, StepDone, 2)
    assert [(event.step, event.failed) for event in steps] == [(0, False), (1, False)]


async def test_a_step_that_raises_has_failed(system: System) -> None:
    with anyio.fail_after(10):
        async with system() as kernel:

            async def work() -> None:
                with pytest.raises(ProcessFailed):
                    await (await spawn(kernel, broken()))

            (step,) = await told(kernel, "process.*", work, StepDone, 1)
    assert step.failed


async def test_a_syscall_that_outlives_a_kernel_is_told_once_when_it_is_done() -> None:
    storage, heard = OneStorage(), Heard()
    with anyio.fail_after(10):
        pid = await _begun(storage, heard)
        async with storage.kernel() as second, anyio.create_task_group() as tasks:
            await tasks.start(heard.listen, second, "process.*")
            await spawn(second, waiter())  # now its program is known here
            await second.request(Send(to=pid, body="hello"))
            await second.request(Wait(pid=pid))
            tasks.cancel_scope.cancel()
    mine = [e for e in heard.events if isinstance(e, SyscallDone | StepDone) and e.pid == pid]
    assert [getattr(event, "kind", "step") for event in mine] == ["note", "receive", "step"]


async def _begun(storage: OneStorage, heard: Heard) -> Pid:
    """A process that waits, and whose kernel has ended."""
    async with storage.kernel() as kernel, anyio.create_task_group() as tasks:
        await tasks.start(heard.listen, kernel, "process.*")
        agent = await spawn(kernel, waiter())
        await until(lambda: _waits(kernel, agent.pid))
        tasks.cancel_scope.cancel()
        return agent.pid
    raise AssertionError("the kernel has swallowed an error")


async def _waits(kernel: Kernel, pid: Pid) -> bool:
    return (await kernel.request(Inspect(pid=pid))).doing is not None


async def test_live_processes_are_counted_by_what_they_do(system: System) -> None:
    with anyio.fail_after(10):
        async with system() as kernel:
            agents = [await spawn(kernel, waiter()) for _ in range(3)]
            await until(lambda: _waits(kernel, agents[-1].pid))
            (kind,) = await kernel.request(CountLive())
            doing = await kernel.request(ReadLive(limit=2))
    assert (kind.program, kind.doing, kind.processes) == ("waiter", "receive", 3)
    assert [one.doing for one in doing] == ["receive", "receive"]


# Attempts


async def test_a_tool_call_is_told_with_its_error(system: System) -> None:
    with anyio.fail_after(10):
        async with system(**{"tools.sums": TOOLS}) as kernel:

            async def work() -> None:
                await kernel.request(
                    CallTool(name="add", arguments={"a": 1, "b": 2}), to="tools.sums"
                )
                with pytest.raises(ToolFailed):
                    await kernel.request(CallTool(name="jam", arguments={}), to="tools.sums")

            calls = await told(kernel, "tools.*", work, ToolCalled, 2)
    assert [(one.name, one.error) for one in calls] == [("add", None), ("jam", "ToolFailed")]


class Cut(Scripted):
    """Says a little, and breaks off."""

    async def complete(self, ask: Complete, emit: Any, meter: Meter) -> Any:
        meter.add("llm.prompt_tokens", 5)
        meter.add("llm.completion_tokens", 2)
        raise CutReply("cut", text="a little")


async def test_a_failed_completion_is_told_with_what_it_used() -> None:
    with anyio.fail_after(10):
        async with Bench(Model(Cut(name="m", script=["never"])).named("llm.fast")) as bench:
            with pytest.raises(CutReply):
                await bench.request(ASK, to="llm.fast")
            (event,) = bench.told(CompletionFailed)
    assert (event.address, event.error) == ("llm.fast", "CutReply")
    assert (event.usage.prompt, event.usage.completion) == (5, 2)


def test_a_completion_that_nobody_waits_for_any_more_is_told() -> None:
    async def main() -> None:
        async with Bench(
            Model(Scripted(script=["x"], first_token_s=60)).named("llm.slow")
        ) as bench:
            with anyio.move_on_after(5):
                await bench.request(ASK, to="llm.slow")
            (event,) = bench.told(CompletionFailed)
            assert event.error == "cancelled"
            assert event.seconds == pytest.approx(5)

    run_virtual(main)


# Slots


async def test_slots_and_those_who_wait_for_them_can_be_read(system: System) -> None:
    going_on = anyio.Event()

    async def slow(ask: Any) -> str:
        await going_on.wait()
        return "done"

    @program
    async def thinker(self: Process) -> None:
        await self.think("hello")

    with anyio.fail_after(10):
        async with system(slow, **{"llm.default": {"slots": 1}}) as kernel:
            agents = [await spawn(kernel, thinker(), process_class="batch") for _ in range(3)]
            lane = await until(lambda: _full(kernel))
            going_on.set()
            for agent in agents:
                await agent
            (after,) = await kernel.request(ReadLanes())
    assert (lane.address, lane.slots, lane.busy) == ("llm.default", 1, 1)
    assert lane.waiting == {"batch": 2}
    assert (after.busy, after.waiting) == (0, {})


async def _full(kernel: Kernel) -> Any:
    lanes = await kernel.request(ReadLanes())
    return lanes[0] if lanes and lanes[0].waiting.get("batch") == 2 else None


# Commits


class Stubborn:
    """A store that refuses every third commit."""

    def __init__(self) -> None:
        self.asked = 0

    async def start(self) -> None: ...
    async def stop(self) -> None: ...
    async def run(self, ring: Any) -> None: ...

    async def commit(self, commit: Commit) -> None:
        self.asked += 1
        await anyio.sleep(0.01)
        if self.asked % 3 == 0:
            raise Fenced("not yours")


def test_commits_are_told_together_with_those_that_failed() -> None:
    async def main() -> None:
        driver: Any = Stubborn()
        async with Bench(Storage(driver)) as bench:
            for number in range(7):
                put = PutRecord(collection="c", key=str(number), body=None)
                lazy = number == 6
                try:
                    await bench.request(Commit(pid=OUTSIDE, writes=(put,), lazy=lazy))
                except Fenced:
                    continue
            await anyio.sleep(TOGETHER_S)
            await bench.settle()
            (event,) = bench.told(Committed)
            assert event.seconds == pytest.approx([0.01] * 6)
            assert event.failed == {"Fenced": 2}

    run_virtual(main)
