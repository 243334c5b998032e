"""Several kernels on one database: who runs what, who hears what, and what nobody runs."""

from typing import Any

import anyio
import pytest
from one_storage import OneStorage, processes_of, reached, until
from pydantic import TypeAdapter

from aoskernel import ConfigError, Process, ProcessFailed, ProcessRef, attach, program, spawn
from aoskernel.kernel import Call, Proceed, Service
from aoskernel.subsystems.processes.messages import (
    Inspect,
    ListProcesses,
    NoSuchProgram,
    Resume,
    Send,
)
from aoskernel.subsystems.storage.messages import Commit, Pid, SaveProcess


@program
async def listener(self: Process) -> str:
    return str(await self.receive())


@program
async def thinker(self: Process, text: str) -> str:
    return (await self.think(text)).text


@program
async def parent_of(self: Process, pid: int) -> str:
    other = ProcessRef[str](self.asking, Pid(pid), TypeAdapter(str))
    return await self.wait(other)


PARKS = {"park_after_s": 0.01}


async def blocked(kernel: Any, pid: Pid) -> None:
    async def waits() -> bool:
        return (await kernel.request(Inspect(pid=pid))).doing is not None

    await until(waits)


async def test_a_letter_from_another_kernel_wakes_a_live_process(one: OneStorage) -> None:
    async with one.kernel() as here, one.kernel() as there:
        agent = await spawn(here, listener())
        await blocked(here, agent.pid)
        await there.request(Send(to=agent.pid, body="from afar"))
        with anyio.fail_after(20):
            assert await agent == "from afar"


async def test_a_letter_from_a_kernel_without_the_program_brings_back_a_parked_one(
    one: OneStorage,
) -> None:
    async with one.kernel(processes=PARKS) as here, one.kernel() as there:
        agent = await spawn(here, listener())
        await reached(here, agent.pid, "parked")
        await there.request(Send(to=agent.pid, body="wake up"))
        with anyio.fail_after(20):
            assert await agent == "wake up"


async def test_a_parked_process_is_taken_by_any_kernel_that_has_its_program(
    one: OneStorage,
) -> None:
    async with one.kernel(processes=PARKS) as here:
        agent = await spawn(here, listener())
        await reached(here, agent.pid, "parked")
    async with one.kernel() as there, one.kernel() as outside:
        processes_of(there).register(listener)
        await outside.request(Send(to=agent.pid, body="hello"))
        with anyio.fail_after(20):
            assert await (await attach(there, agent.pid)) == "hello"


async def test_the_end_of_a_process_is_heard_by_who_waits_in_another_kernel(
    one: OneStorage,
) -> None:
    async with one.kernel() as here, one.kernel() as there:
        agent = await spawn(here, listener())
        await blocked(here, agent.pid)
        told: list[Any] = []

        async def wait() -> None:
            told.append(await (await attach(there, agent.pid)))

        with anyio.fail_after(20):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(wait)
                await until(lambda: processes_of(there).exits)
                await agent.send("the end")
        assert told == ["the end"]


async def test_a_process_that_waits_for_one_in_another_kernel_goes_on_when_that_ends(
    one: OneStorage,
) -> None:
    async with one.kernel() as here, one.kernel() as there:
        child = await spawn(here, listener())
        waiter = await spawn(there, parent_of(pid=child.pid))
        await blocked(there, waiter.pid)
        await child.send("done")
        with anyio.fail_after(20):
            assert await waiter == "done"


async def test_one_that_is_parked_in_wait_comes_back_when_the_other_ends(
    one: OneStorage,
) -> None:
    async with one.kernel() as here, one.kernel(processes=PARKS) as there:
        child = await spawn(here, listener())
        waiter = await spawn(there, parent_of(pid=child.pid))
        await reached(there, waiter.pid, "parked")
        await child.send("done")
        with anyio.fail_after(20):
            assert await waiter == "done"


async def test_a_restarted_kernel_takes_back_what_was_cut_at_its_work_and_not_what_waits(
    one: OneStorage,
) -> None:
    held = anyio.Event()

    async def script(ask: Any) -> str:
        await held.wait()
        return "thought"

    async with one.kernel(script, processes={"drain_s": 0.0}) as kernel:
        busy = await spawn(kernel, thinker(text="hard"))
        idle = await spawn(kernel, listener())
        await blocked(kernel, idle.pid)
    held.set()
    names = [f"{__name__}:thinker", f"{__name__}:listener"]
    async with one.kernel(script, processes={"programs": names}) as kernel:
        with anyio.fail_after(20):
            assert await (await attach(kernel, busy.pid)) == "thought"
        assert (await kernel.request(Inspect(pid=idle.pid))).record.waits_in == ("receive",)
        assert not processes_of(kernel).live


class SlowDisk(Service, name="slow_disk"):
    """A guard before the storage: that a process is parked takes a while to write."""

    async def guard(self, call: Call[Any], proceed: Proceed[Any]) -> Any:
        assert isinstance(call.message, Commit)
        saves = [write for write in call.message.writes if isinstance(write, SaveProcess)]
        if any(save.record.state == "parked" for save in saves):
            await anyio.sleep(0.1)
        return await proceed(call)


async def test_what_is_leaving_at_the_end_may_write_down_what_it_waits_for(
    one: OneStorage,
) -> None:
    routes = {"storage.commit": {"guards": ["slow_disk"]}}
    slow = {"use": f"{__name__}:SlowDisk"}
    async with one.kernel(routes=routes, slow_disk=slow, processes={"drain_s": 0.0}) as kernel:
        idle = await spawn(kernel, listener())
        await blocked(kernel, idle.pid)
    async with one.kernel() as kernel:
        assert (await kernel.request(Inspect(pid=idle.pid))).record.waits_in == ("receive",)


async def test_a_letter_that_came_while_no_kernel_ran_is_read_after_the_restart(
    one: OneStorage,
) -> None:
    async with one.kernel(processes=PARKS) as kernel:
        agent = await spawn(kernel, listener())
        await reached(kernel, agent.pid, "parked")
    async with one.kernel() as outside:
        await outside.request(Send(to=agent.pid, body="while you slept"))
    async with one.kernel(processes={"programs": [f"{__name__}:listener"]}) as kernel:
        with anyio.fail_after(20):
            assert await (await attach(kernel, agent.pid)) == "while you slept"


async def test_a_kernel_leaves_alone_what_it_has_no_program_for(one: OneStorage) -> None:
    held = anyio.Event()

    async def script(ask: Any) -> str:
        await held.wait()
        return "thought"

    async with one.kernel(script, processes={"drain_s": 0.0}) as kernel:
        agent = await spawn(kernel, thinker(text="hard"))
        await anyio.wait_all_tasks_blocked()
    held.set()
    async with one.kernel(script) as other:
        processes_of(other).register(listener)
        (shown,) = await other.request(ListProcesses())
        assert (shown.pid, shown.live, shown.record.state) == (agent.pid, False, "parked")


async def test_a_process_whose_program_no_living_kernel_has_is_stranded(
    one: OneStorage,
) -> None:
    async with one.kernel(processes=PARKS) as here, one.kernel() as there:
        agent = await spawn(here, listener())
        await reached(here, agent.pid, "parked")
        (known,) = await there.request(ListProcesses())
    async with one.kernel() as alone:
        (shown,) = await alone.request(ListProcesses())
        assert (known.stranded, shown.stranded) == (False, True)
        processes_of(alone).register(listener)

        async def is_known() -> bool:
            return not (await alone.request(Inspect(pid=agent.pid))).stranded

        await until(is_known)


async def test_a_running_process_is_not_stranded_for_a_kernel_without_its_program(
    one: OneStorage,
) -> None:
    async with one.kernel() as here, one.kernel() as there:
        await spawn(here, listener())
        (shown,) = await there.request(ListProcesses())
        assert (shown.live, shown.stranded) == (False, False)


def test_programs_that_are_none_are_refused_when_the_kernel_is_made() -> None:
    with pytest.raises(ConfigError, match=r"'json:loads' is no program"):
        OneStorage().kernel(processes={"programs": ["json:loads"]})
    with pytest.raises(ConfigError, match=r"cannot load 'no_such_module'"):
        OneStorage().kernel(processes={"programs": ["no_such_module"]})


async def test_all_programs_of_a_module_become_known() -> None:
    async with OneStorage().kernel(processes={"programs": [__name__]}) as kernel:
        names = {name for name, _ in processes_of(kernel).known}
    assert names == {"listener", "thinker", "parent_of"}


# Divergence


def moody(word: str) -> Any:
    """The same program by name and version, which says this."""

    @program(name="moody")
    async def moody(self: Process, own: str) -> str:
        await self.think(word if own == "changed" else own)
        return str(await self.receive())

    return moody


async def test_a_changed_program_stops_those_that_diverge_and_no_others(
    one: OneStorage,
) -> None:
    async with one.kernel(processes=PARKS) as kernel:
        before = moody("one")
        diverges = await spawn(kernel, before(own="changed"))
        goes_on = await spawn(kernel, before(own="same"))
        for agent in (diverges, goes_on):
            await reached(kernel, agent.pid, "parked")
    async with one.kernel() as kernel:
        processes_of(kernel).register(moody("two"))
        for agent in (diverges, goes_on):
            await kernel.request(Send(to=agent.pid, body="go"))
        with anyio.fail_after(20):
            assert await (await attach(kernel, goes_on.pid)) == "go"
        record = await reached(kernel, diverges.pid, "stopped")
    assert record.error_kind == "ProgramDiverged"
    assert "at 0:0 the program calls 'think' as before, but with other arguments" in str(
        record.error
    )
    async with one.kernel() as kernel:
        processes_of(kernel).register(moody("one"))
        repaired = await attach(kernel, diverges.pid)
        await repaired.kill("CONT")
        with anyio.fail_after(20):
            assert await repaired == "go"


async def test_a_program_cannot_catch_that_it_has_diverged(one: OneStorage) -> None:
    words = ["one"]

    @program
    async def stubborn(self: Process) -> str:
        try:
            await self.think(words[0])
        except BaseException as error:
            if not isinstance(error, Exception):
                raise
            return "never mind"
        return str(await self.receive())

    async with one.kernel(processes=PARKS) as kernel:
        agent = await spawn(kernel, stubborn())
        await reached(kernel, agent.pid, "parked")
        words[0] = "two"
        await agent.send("go")
        record = await reached(kernel, agent.pid, "stopped", "exited")
    assert record.error_kind == "ProgramDiverged"


async def test_a_failure_is_told_across_kernels(one: OneStorage) -> None:
    @program
    async def broken(self: Process) -> None:
        await self.receive()
        raise RuntimeError("cheese")

    async with one.kernel() as here, one.kernel() as there:
        agent = await spawn(here, broken())
        await there.request(Send(to=agent.pid, body="go"))
        with anyio.fail_after(20), pytest.raises(ProcessFailed, match="cheese"):
            await (await attach(there, agent.pid))


# A kernel that leaves alone what others left behind

ALONE = {"adopt": False}


async def left_waiting(one: OneStorage) -> Pid:
    async with one.kernel() as former:
        agent = await spawn(former, listener())
        await blocked(former, agent.pid)
        return agent.pid


async def test_who_does_not_adopt_leaves_what_others_left_and_runs_its_own(one: OneStorage) -> None:
    pid = await left_waiting(one)
    async with one.kernel(processes=ALONE) as kernel:
        own = await spawn(kernel, listener())
        for to in (pid, own.pid):
            await kernel.request(Send(to=to, body="hello"))
        with anyio.fail_after(20):
            assert await own == "hello"
        status = await kernel.request(Inspect(pid=pid))
        assert (status.record.state, status.live) == ("parked", False)


async def test_who_does_not_adopt_resumes_what_it_is_told_to(one: OneStorage) -> None:
    pid, other = await left_waiting(one), await left_waiting(one)
    async with one.kernel(processes=ALONE) as kernel:
        await spawn(kernel, listener())  # so that it has the program
        assert (await kernel.request(Resume(pid=pid))).live
        await kernel.request(Send(to=pid, body="at last"))
        with anyio.fail_after(20):
            assert await (await attach(kernel, pid)) == "at last"
        assert not (await kernel.request(Resume(pid=pid))).live
        assert (await kernel.request(Inspect(pid=other))).record.state == "parked"


async def test_what_waits_in_a_kernel_that_does_not_adopt_stays_in_memory(one: OneStorage) -> None:
    async with one.kernel(processes={**PARKS, **ALONE}) as kernel:
        agent = await spawn(kernel, listener())
        await blocked(kernel, agent.pid)
        await anyio.sleep(0.1)  # ten times as long as others would wait
        assert (await agent.status()).live


async def test_a_process_is_not_resumed_without_its_program(one: OneStorage) -> None:
    pid = await left_waiting(one)
    async with one.kernel(processes=ALONE) as kernel:
        with pytest.raises(NoSuchProgram, match=r"'listener' version '1'.*programs = "):
            await kernel.request(Resume(pid=pid))
