"""Signals: to processes of any kernel and of none, to groups, and to the children of the dead."""

from contextlib import suppress

import anyio
import pytest
from one_storage import OneStorage, processes_of, reached, until

from aoskernel import Kernel, Process, ProcessFailed, attach, program, spawn
from aoskernel.subsystems.processes.messages import Inspect, Kill, ListProcesses, Send
from aoskernel.subsystems.storage.messages import (
    Commit,
    Pid,
    PostCommand,
    ReadCommands,
)

PARKS = {"park_after_s": 0.01}


@program
async def listener(self: Process) -> str:
    return str(await self.receive())


@program
async def careful(self: Process) -> str:
    try:
        return str(await self.receive())
    finally:
        await self.remember("closed the door", tags=["door"])


@program
async def witness(self: Process) -> int:
    return len(await self.recall(tags=["door"]))


@program
async def parent(self: Process, bound: bool, depth: int = 1) -> str:
    if depth > 1:
        await self.spawn(parent(bound=bound, depth=depth - 1), bound=bound)
    else:
        await self.spawn(listener(), bound=bound, name="leaf")
    return str(await self.receive())


NAMES = [f"{__name__}:{name}" for name in ("listener", "careful", "witness", "parent")]
KNOWS = {"programs": NAMES}


async def waits(kernel: Kernel, pid: Pid) -> None:
    async def look() -> bool:
        return (await kernel.request(Inspect(pid=pid))).doing is not None

    await until(look)


async def killed(kernel: Kernel, pid: Pid) -> None:
    with anyio.fail_after(20), pytest.raises(ProcessFailed, match="killed by a signal"):
        await (await attach(kernel, pid))


async def leaves(kernel: Kernel) -> list[str]:
    found = await kernel.request(ListProcesses(name="leaf", ended=True))
    return [leaf.record.state for leaf in found]


async def test_a_kill_reaches_a_process_of_another_kernel(one: OneStorage) -> None:
    async with one.kernel() as here, one.kernel() as there:
        agent = await spawn(here, listener())
        await there.request(Kill(pid=agent.pid, signal="KILL"))
        await killed(here, agent.pid)
        assert await there.request(ReadCommands(pid=agent.pid)) == ()


async def test_term_lets_a_process_of_another_kernel_clean_up(one: OneStorage) -> None:
    async with one.kernel() as here, one.kernel() as there:
        agent = await spawn(here, careful())
        await waits(here, agent.pid)
        await there.request(Kill(pid=agent.pid))
        await killed(there, agent.pid)
        assert await (await spawn(here, witness())) == 1


async def test_stop_and_cont_reach_a_process_of_another_kernel(one: OneStorage) -> None:
    async with one.kernel() as here, one.kernel() as there:
        agent = await spawn(here, listener())
        await there.request(Kill(pid=agent.pid, signal="STOP"))
        await reached(there, agent.pid, "stopped")
        await there.request(Send(to=agent.pid, body="hello"))
        assert (await agent.status()).record.state == "stopped"
        await there.request(Kill(pid=agent.pid, signal="CONT"))
        with anyio.fail_after(20):
            assert await agent == "hello"


@pytest.mark.parametrize("signal", ["KILL", "STOP"])
async def test_a_parked_process_is_signalled_without_its_program(
    one: OneStorage, signal: str
) -> None:
    async with one.kernel(processes=PARKS) as here:
        agent = await spawn(here, listener())
        await reached(here, agent.pid, "parked")
    async with one.kernel() as outside:
        await outside.request(Kill.model_validate({"pid": agent.pid, "signal": signal}))
        record = (await outside.request(Inspect(pid=agent.pid))).record
        left = await outside.request(ReadCommands(pid=agent.pid))
    assert (record.state, left) == ({"KILL": "killed", "STOP": "stopped"}[signal], ())


async def test_term_of_a_parked_process_brings_it_back_for_its_clean_up(
    one: OneStorage,
) -> None:
    async with one.kernel(processes=PARKS) as kernel:
        agent = await spawn(kernel, careful())
        await reached(kernel, agent.pid, "parked")
        await agent.kill("TERM")
        await killed(kernel, agent.pid)
        assert await (await spawn(kernel, witness())) == 1


async def test_term_waits_for_a_kernel_that_has_the_program(one: OneStorage) -> None:
    async with one.kernel(processes=PARKS) as kernel:
        agent = await spawn(kernel, careful())
        await reached(kernel, agent.pid, "parked")
    async with one.kernel() as outside:
        await outside.request(Kill(pid=agent.pid))
        assert (await outside.request(Inspect(pid=agent.pid))).record.state == "parked"
    async with one.kernel(processes=KNOWS) as kernel:
        await killed(kernel, agent.pid)
        assert await (await spawn(kernel, witness())) == 1


async def test_a_signal_whose_kernel_was_lost_is_carried_out_by_the_next(
    one: OneStorage,
) -> None:
    async with one.kernel() as kernel:
        agent = await spawn(kernel, listener())
        await waits(kernel, agent.pid)
    async with one.kernel() as outside:  # it was lost between the row and the doing
        kill = PostCommand(to=agent.pid, signal="KILL")
        await outside.request(Commit(pid=Pid(0), epoch=0, writes=(kill,)))
    async with one.kernel(processes=KNOWS) as kernel:
        await killed(kernel, agent.pid)


async def test_a_signal_to_a_group_reaches_all_descendants(one: OneStorage) -> None:
    async with one.kernel() as kernel:
        agent = await spawn(kernel, parent(bound=False, depth=3))
        await until(lambda: len(processes_of(kernel).live) == 4)
        await agent.kill("KILL", group=True)
        await until(lambda: not processes_of(kernel).live)
        everyone = await kernel.request(ListProcesses(ended=True))
    assert [status.record.state for status in everyone] == ["killed"] * 4


async def test_a_signal_to_a_parent_alone_leaves_its_children(one: OneStorage) -> None:
    async with one.kernel() as kernel:
        agent = await spawn(kernel, parent(bound=False))
        await until(lambda: len(processes_of(kernel).live) == 2)
        await agent.kill("KILL")
        await killed(kernel, agent.pid)
        assert await leaves(kernel) == ["running"]


@pytest.mark.parametrize("ending", ["letter", "KILL"])
async def test_a_bound_child_ends_with_its_parent(one: OneStorage, ending: str) -> None:
    async with one.kernel() as kernel:
        agent = await spawn(kernel, parent(bound=True, depth=2))
        await until(lambda: len(processes_of(kernel).live) == 3)
        if ending == "letter":
            await agent.send("enough")
        else:
            await agent.kill("KILL")
        await until(lambda: not processes_of(kernel).live)
        assert await leaves(kernel) == ["killed"]


async def test_a_child_that_is_not_bound_goes_on_and_is_waited_for_by_others(
    one: OneStorage,
) -> None:
    async with one.kernel() as kernel:
        agent = await spawn(kernel, parent(bound=False))
        await until(lambda: len(processes_of(kernel).live) == 2)
        await agent.send("enough")
        assert await agent == "enough"
        (leaf,) = await kernel.request(ListProcesses(name="leaf"))
        orphan = await attach(kernel, leaf.pid)
        await orphan.send("alone")
        with anyio.fail_after(20):
            assert await orphan == "alone"


async def test_an_ended_process_ignores_signals(one: OneStorage) -> None:
    async with one.kernel() as kernel:
        agent = await spawn(kernel, listener())
        await agent.send("bye")
        await agent
        await agent.kill("KILL")
        assert (await agent.status()).record.state == "exited"
        assert await kernel.request(ReadCommands(pid=agent.pid)) == ()


async def test_a_stop_that_is_taken_back_at_once_stops_nothing() -> None:
    async with OneStorage().kernel() as kernel:
        agent = await spawn(kernel, listener())
        await waits(kernel, agent.pid)
        await agent.kill("STOP")
        await agent.kill("CONT")
        await agent.send("hello")
        with anyio.fail_after(20), suppress(ProcessFailed):
            assert await agent == "hello"
