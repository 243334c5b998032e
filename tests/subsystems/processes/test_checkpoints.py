"""Checkpoints: from where a program begins anew, and how it is brought to rest from outside."""

from typing import Any, Self

import anyio
import anyio.abc
import pytest
from one_storage import OneStorage, log_of, processes_of, reached, until

from aoskernel import Exit, Kernel, Process, ProcessFailed, Program, program, spawn
from aoskernel.subsystems.processes.messages import Checkpoint, Follow, Inspect, Send
from aoskernel.subsystems.storage.messages import Pid, Rang, ReadCommands

BEGUN: list[tuple[int, ...]] = []
"""With what each run of `collect` or `Gather` has begun."""


@program
async def collect(self: Process, want: int, have: list[int]) -> list[int]:
    """Collects letters, and keeps what it has at each."""
    BEGUN.append(tuple(have))
    while len(have) < want:
        await self.think(f"waiting for letter {len(have)}")
        have = [*have, await self.receive()]
        await self.checkpoint(have=have)
    return have


class Gather(Program[list[int]], name="gather"):
    """The same, in a single step."""

    want: int
    have: tuple[int, ...] = ()

    async def step(self, process: Process) -> Self | Exit[list[int]]:
        BEGUN.append(self.have)
        have = self.have
        while len(have) < self.want:
            await process.think(f"waiting for letter {len(have)}")
            have = (*have, await process.receive())
            await process.checkpoint(have=have)
        return Exit(list(have))


@program
async def hasty(self: Process, how: str) -> str:
    if how == "nothing":
        await self.checkpoint()
    if how == "wrong":
        await self.checkpoint(how=7)
    if how == "unknown":
        await self.checkpoint(other=7)
    await self.parallel(self.checkpoint(how="beside"), self.now())
    return "never"


@program
async def busy(self: Process, rounds: int) -> int:
    """Never waits for anybody."""
    for round in range(rounds):
        await self.think(f"round {round}")
    return rounds


@program
async def listener(self: Process) -> Any:
    return await self.receive()


KNOWS = {"programs": [f"{__name__}:{n}" for n in ("collect", "Gather", "busy", "listener")]}


async def waits(kernel: Kernel, pid: Pid) -> None:
    async def look() -> bool:
        return (await kernel.request(Inspect(pid=pid))).doing is not None

    await until(look)


@pytest.mark.parametrize("kind", ["function", "steps"])
async def test_a_resume_begins_at_the_last_checkpoint(one: OneStorage, kind: str) -> None:
    BEGUN.clear()
    asked: list[str] = []

    def script(ask: Any) -> str:
        asked.append(ask.messages[-1].text)
        return "ok"

    what: Any = collect(want=3, have=[]) if kind == "function" else Gather(want=3)
    async with one.kernel(script) as first:
        agent = await spawn(first, what)
        for letter in (1, 2):
            await waits(first, agent.pid)
            await agent.send(letter)
            await until(lambda n=letter: len(asked) > n)
        await waits(first, agent.pid)
    async with one.kernel(script, processes=KNOWS) as second:
        assert await reached(second, agent.pid, "parked", "running")
        await second.request(Send(to=agent.pid, body=3))
        record = await reached(second, agent.pid, "exited")
        log = await log_of(second, agent.pid)
    assert record.result == "[1,2,3]"
    assert BEGUN == [(), (1, 2)]
    assert asked == [f"waiting for letter {n}" for n in range(3)]
    assert list(log) == ["0:0", "0:1", "1:0", "1:1", "2:0", "2:1"]


@pytest.mark.parametrize(
    ("how", "told"),
    [
        ("nothing", "say what has changed"),
        ("wrong", "argument 'how'"),
        ("unknown", "argument 'other'"),
        ("beside", "within a parallel"),
    ],
)
async def test_a_checkpoint_that_could_not_be_resumed_from_is_refused(
    one: OneStorage, how: str, told: str
) -> None:
    async with one.kernel() as kernel:
        with anyio.fail_after(20), pytest.raises(ProcessFailed, match=told):
            await (await spawn(kernel, hasty(how=how)))


async def test_code_that_reaches_a_checkpoint_too_soon_diverges(one: OneStorage) -> None:
    @program(name="changing")
    async def before(self: Process, at: int = 0) -> None:
        await self.now()
        await self.receive()

    @program(name="changing")
    async def after(self: Process, at: int = 0) -> None:
        await self.checkpoint(at=1)
        await self.receive()

    async with one.kernel() as first:
        agent = await spawn(first, before())
        await waits(first, agent.pid)
    async with one.kernel() as second:
        processes_of(second).register(after)
        await second.request(Send(to=agent.pid, body=1))
        record = await reached(second, agent.pid, "stopped")
    assert record.error_kind == "ProgramDiverged"
    assert "at 0:0 the log has 'now', the program 'checkpoint'" in str(record.error)
    assert record.step == 0


# From outside


async def test_one_that_waits_leaves_memory_at_once(one: OneStorage) -> None:
    async with one.kernel(processes=KNOWS) as here, one.kernel() as there:
        agent = await spawn(here, listener())
        await waits(here, agent.pid)
        await there.request(Checkpoint(pid=agent.pid))
        record = await reached(there, agent.pid, "parked")
        assert record.waits_in == ("receive",)
        await there.request(Send(to=agent.pid, body="go on"))
        assert (await reached(there, agent.pid, "exited")).result == '"go on"'
        assert await there.request(ReadCommands(pid=agent.pid)) == ()


async def test_one_at_work_rests_between_two_syscalls_and_goes_on(one: OneStorage) -> None:
    rested = anyio.Event()
    asked: list[str] = []

    async def script(ask: Any) -> str:
        asked.append(ask.messages[-1].text)
        if len(asked) == 2:
            await rested.wait()
        return "ok"

    async with one.kernel(script) as here, one.kernel() as there:
        agent = await spawn(here, busy(rounds=4))
        await until(lambda: len(asked) == 2)
        await there.request(Checkpoint(pid=agent.pid))
        live = processes_of(here).live[agent.pid]
        await until(lambda: live.rests)
        rested.set()
        record = await reached(there, agent.pid, "exited")
    assert (record.epoch, record.result) == (1, "4")  # it has left once
    assert asked == [f"round {n}" for n in range(4)]


# Following


@pytest.mark.parametrize("followed", [True, False])
async def test_who_follows_is_called_at_each_commit_and_nobody_else(
    one: OneStorage, followed: bool
) -> None:
    goes_on = anyio.Event()
    rung: list[int] = []

    async def script(ask: Any) -> str:
        await goes_on.wait()
        round = int(ask.messages[-1].text.split()[1])
        if followed and round:
            await until(lambda: max(rung) >= round)  # the one before has been told
        return "ok"

    async def hear(kernel: Kernel, pid: Pid, task_status: anyio.abc.TaskStatus[None]) -> None:
        async with kernel.listen("storage.rang") as rings:
            task_status.started()
            async for ring in rings:
                assert isinstance(ring, Rang)
                if ring.pids and pid in ring.pids:
                    rung.append(len(await log_of(kernel, pid)))

    async with (
        one.kernel(script) as here,
        one.kernel() as there,
        anyio.create_task_group() as tasks,
    ):
        agent = await spawn(here, busy(rounds=5))
        await tasks.start(hear, there, agent.pid)
        if followed:
            await there.request(Follow(pid=agent.pid))
            await until(lambda: rung)  # that it is followed is told at once
            assert await there.request(ReadCommands(pid=agent.pid)) == ()
        goes_on.set()
        await reached(there, agent.pid, "exited")
        await until(lambda: 5 in rung)
        tasks.cancel_scope.cancel()
    assert (len(set(rung)) > 2) is followed
