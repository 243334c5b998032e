"""Spawning, waiting, finding, and how a process ends."""

from typing import Any, Self

import anyio
import anyio.lowlevel
import pytest
from system import System

from aoskernel import Exit, Process, ProcessFailed, Program, attach, program, spawn
from aoskernel.subsystems.processes.messages import (
    Inspect,
    ListProcesses,
    NoSuchProcess,
    ProcessExited,
)


@program
async def echo(self: Process, text: str, times: int = 1) -> str:
    reply = await self.think(text * times)
    return reply.text


@program
async def broken(self: Process) -> None:
    raise RuntimeError("the disk is made of cheese")


@program
async def sleeper(self: Process) -> str:
    return str(await self.receive())


class Countdown(Program[list[int]], name="countdown", version="1"):
    left: int
    seen: tuple[int, ...] = ()

    async def step(self, process: Process) -> Self | Exit[list[int]]:
        if self.left == 0:
            return Exit(list(self.seen))
        return self.next(left=self.left - 1, seen=(*self.seen, self.left))


async def test_awaiting_a_process_gives_its_result(system: System) -> None:
    async with system() as kernel:
        agent = await spawn(kernel, echo(text="ab", times=2))
        with anyio.fail_after(20):
            assert await agent == "abab"
            assert await agent == "abab"  # the exit status is kept


async def test_a_program_of_many_steps_keeps_its_state_between_them(system: System) -> None:
    async with system() as kernel:
        agent = await spawn(kernel, Countdown(left=3))
        assert await agent == [3, 2, 1]
        assert (await agent.status()).record.step == 3


async def test_a_failed_process_says_how_it_failed(system: System) -> None:
    async with system() as kernel:
        agent = await spawn(kernel, broken())
        with pytest.raises(ProcessFailed, match="the disk is made of cheese") as caught:
            await agent
        assert (caught.value.state, caught.value.kind) == ("failed", "RuntimeError")
        assert caught.value.pid == agent.pid
        await (await spawn(kernel, echo(text="others go on")))


async def test_a_key_gives_the_same_process_running_or_finished(system: System) -> None:
    async with system() as kernel:
        first = await spawn(kernel, sleeper(), key="invoice-42")
        second = await spawn(kernel, sleeper(), key="invoice-42")
        assert first.pid == second.pid
        await first.send("paid")
        assert await second == "paid"
        third = await spawn(kernel, sleeper(), key="invoice-42")
        assert await third == "paid"


async def test_a_key_is_taken_once_even_by_a_hundred_at_a_time(system: System) -> None:
    pids = set()
    async with system() as kernel:

        async def one() -> None:
            pids.add((await spawn(kernel, sleeper(), key="k")).pid)

        async with anyio.create_task_group() as tasks:
            for _ in range(100):
                tasks.start_soon(one)
    assert len(pids) == 1


async def test_processes_are_found_by_name_role_and_tag(system: System) -> None:
    async with system() as kernel:
        a = await spawn(kernel, sleeper(), name="alice", role="clerk", tags=["eu", "night"])
        b = await spawn(kernel, sleeper(), name="bob", role="clerk", tags=["us"])

        async def find(**by: str) -> list[int]:
            return [p.pid for p in await kernel.request(ListProcesses.model_validate(by))]

        assert await find(role="clerk") == [a.pid, b.pid]
        assert await find(name="bob") == [b.pid]
        assert await find(tag="night", role="clerk") == [a.pid]
        await a.kill("KILL")
        with pytest.raises(ProcessFailed):
            await a
        assert await find(role="clerk") == [b.pid]
        everyone = await kernel.request(ListProcesses(role="clerk", ended=True))
        assert [p.record.state for p in everyone] == ["killed", "running"]


async def test_attach_meets_a_process_and_refuses_an_unknown_one(system: System) -> None:
    async with system() as kernel:
        agent = await spawn(kernel, sleeper(), key="k")
        known = await attach(kernel, agent.pid)
        await known.send("hello")
        assert await known == "hello"
        with pytest.raises(NoSuchProcess, match="number 4711"):
            await attach(kernel, 4711)
        with pytest.raises(NoSuchProcess, match="key 'other'"):
            await kernel.request(Inspect(key="other"))


async def test_a_process_knows_what_it_waits_in(system: System) -> None:
    async with system() as kernel:
        agent = await spawn(kernel, sleeper())
        with anyio.fail_after(20):
            while (doing := (await agent.status()).doing) is None:
                await anyio.lowlevel.checkpoint()
        assert doing.kind == "receive"


async def test_term_lets_a_program_clean_up(system: System) -> None:
    said = []

    @program
    async def careful(self: Process) -> None:
        try:
            await self.receive()
        finally:
            said.append(await self.think("closing"))

    async with system() as kernel:
        agent = await spawn(kernel, careful())
        await _blocked(kernel, agent.pid)
        await agent.kill("TERM")
        with pytest.raises(ProcessFailed) as caught:
            await agent
        assert caught.value.state == "killed"
        assert said[0].text == "closing"


async def test_kill_lets_it_say_nothing_more(system: System) -> None:
    said = []

    @program
    async def talkative(self: Process) -> None:
        try:
            await self.receive()
        finally:
            await self.think("closing")
            said.append("closing")

    async with system() as kernel:
        agent = await spawn(kernel, talkative())
        await _blocked(kernel, agent.pid)
        await agent.kill("KILL")
        with pytest.raises(ProcessFailed):
            await agent
        assert said == []


async def test_what_outlives_its_grace_is_killed(system: System) -> None:
    @program
    async def stubborn(self: Process) -> None:
        while True:
            try:
                await self.receive()
            except BaseException as error:
                if "Suspended" in repr(type(error)):
                    raise

    async with system() as kernel:
        agent = await spawn(kernel, stubborn())
        await _blocked(kernel, agent.pid)
        await agent.kill("TERM", grace_s=0.05)
        with anyio.fail_after(20), pytest.raises(ProcessFailed):
            await agent


async def test_a_stopped_process_waits_for_cont(system: System) -> None:
    async with system() as kernel:
        agent = await spawn(kernel, sleeper())
        await _blocked(kernel, agent.pid)
        await agent.kill("STOP")
        with anyio.fail_after(20):
            while (await agent.status()).live:
                await anyio.lowlevel.checkpoint()
        await agent.send("letter")
        assert (await agent.status()).record.state == "stopped"
        await agent.kill("CONT")
        with anyio.fail_after(20):
            assert await agent == "letter"


async def test_children_belong_to_their_parent_and_inherit_who_pays(system: System) -> None:
    @program
    async def parent(self: Process) -> list[str]:
        children = [await self.spawn(echo(text=letter)) for letter in "ab"]
        return await self.parallel(*(self.wait(child) for child in children))

    async with system() as kernel:
        agent = await spawn(kernel, parent(), tenant="acme", user="u-1", priority=7)
        assert await agent == ["a", "b"]
        children = await kernel.request(ListProcesses(parent=agent.pid, ended=True))
        given = [(c.record.tenant, c.record.user, c.record.priority) for c in children]
        assert given == [("acme", "u-1", 7)] * 2


async def test_a_program_knows_for_whom_it_works(system: System) -> None:
    @program
    async def whose(self: Process) -> str:
        return self.user

    async with system() as kernel:
        assert await (await spawn(kernel, whose(), user="u-1")) == "u-1"
        assert await (await spawn(kernel, whose())) == ""


async def test_a_child_s_failure_reaches_its_parent(system: System) -> None:
    @program
    async def parent(self: Process) -> str:
        try:
            await (await self.spawn(broken()))
        except ProcessFailed as error:
            return error.state
        return "well"

    async with system() as kernel:
        assert await (await spawn(kernel, parent())) == "failed"


async def test_leaving_the_kernel_suspends_who_still_waits(system: System) -> None:
    with anyio.fail_after(20):
        async with system() as kernel:
            agent = await spawn(kernel, sleeper())
            await _blocked(kernel, agent.pid)


async def test_leaving_the_kernel_lets_who_is_at_work_finish(system: System) -> None:
    done = []

    async def script(ask: Any) -> str:
        await anyio.sleep(0.05)
        return "thought"

    @program
    async def thinker(self: Process) -> None:
        done.append((await self.think("hard")).text)
        await self.receive()
        done.append("more")

    with anyio.fail_after(20):
        async with system(script) as kernel:
            await spawn(kernel, thinker())
            await anyio.sleep(0.01)
    assert done == ["thought"]


async def test_leaving_the_kernel_cuts_who_takes_too_long(system: System) -> None:
    async def script(ask: Any) -> str:
        await anyio.sleep(30)
        return "thought"

    with anyio.fail_after(20):
        async with system(script, processes={"drain_s": 0.05}) as kernel:
            await spawn(kernel, echo(text="x"))
            await anyio.sleep(0.01)


async def test_leaving_without_detaching_kills(system: System) -> None:
    async with system(processes={"detach": False}) as kernel:
        events = kernel.listen("process.exited")
        told = await events.__aenter__()
        agent = await spawn(kernel, sleeper())
        await _blocked(kernel, agent.pid)
    ends = [event async for event in told]
    assert [(e.pid, e.state) for e in ends if isinstance(e, ProcessExited)] == [
        (agent.pid, "killed")
    ]


async def test_the_end_of_a_process_is_told(system: System) -> None:
    async with system() as kernel, kernel.listen("process.exited") as ends:
        agent = await spawn(kernel, echo(text="x"))
        async for event in ends:
            assert isinstance(event, ProcessExited)
            assert (event.pid, event.state) == (agent.pid, "exited")
            break


def test_an_untyped_parameter_is_refused_when_the_program_is_declared() -> None:
    with pytest.raises(TypeError, match="'topic' has no type; write topic: str"):

        @program
        async def vague(self: Process, topic) -> None:  # type: ignore[no-untyped-def]
            pass


def test_a_star_parameter_is_refused_when_the_program_is_declared() -> None:
    with pytest.raises(TypeError, match="cannot be stored"):

        @program
        async def greedy(self: Process, *rest: str) -> None:
            pass


def test_arguments_are_checked_when_the_program_is_called() -> None:
    with pytest.raises(TypeError, match="argument 'times'"):
        echo(text="x", times="many")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="missing"):
        echo()  # type: ignore[call-arg]


async def test_two_programs_of_one_name_are_refused(system: System) -> None:
    @program(name="echo")
    async def other(self: Process) -> None:
        pass

    async with system() as kernel:
        await (await spawn(kernel, echo(text="x")))
        with pytest.raises(ValueError, match="two programs are called 'echo'"):
            await spawn(kernel, other())


async def _blocked(kernel: object, pid: int) -> None:
    """Wait until the process waits in receive."""
    with anyio.fail_after(20):
        while (await kernel.request(Inspect(pid=pid))).doing is None:  # type: ignore[attr-defined]
            await anyio.lowlevel.checkpoint()
