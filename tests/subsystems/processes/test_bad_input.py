"""What no storage can keep: refused in its process, and the kernel and the others go on."""

import math
from typing import Any, Self

import anyio
import pytest
from one_storage import OneStorage, log_of

from aoskernel import Exit, Kernel, Process, ProcessFailed, Program, attach, program, spawn
from aoskernel.subsystems.processes.messages import ListProcesses, Send, Wait
from aoskernel.subsystems.storage.messages import Pid, ReadLetters, ReadPages, StorageRefused

LARGE = "x" * (50 << 20)


@program
async def greet(self: Process) -> str:
    return (await self.think("hello")).text


@program
async def hoard(self: Process, text: str, times: int) -> int:
    await self.note("before")
    await self.note(text * times)
    await self.sleep(0)  # a note is committed with what comes next
    return len(text)


@program
async def listen(self: Process) -> str:
    return str(await self.receive())


class Scales(Program[str], name="scales"):
    """Steps with a state that JSON has no word for, and is cut between them."""

    weight: float
    steps: int = 0

    async def step(self, process: Process) -> Self | Exit[str]:
        if self.steps:
            await process.receive()
            return Exit(str(self.weight))
        return self.next(steps=1)


async def works(kernel: Kernel) -> None:
    assert await (await spawn(kernel, greet())) == "hello"


async def pages_of(kernel: Kernel, pid: Pid) -> list[str]:
    return [page.text for page in await kernel.request(ReadPages(pid=pid))]


async def test_a_note_of_50_mb_fails_its_process_and_nobody_else(one: OneStorage) -> None:
    with anyio.fail_after(30):
        async with one.kernel() as kernel:
            waiting = await spawn(kernel, listen())
            agent = await spawn(kernel, hoard(text="x", times=50 << 20))
            with pytest.raises(ProcessFailed, match="more than the limit of 16 MiB") as caught:
                await agent
            assert caught.value.kind == "StorageRefused"
            assert await pages_of(kernel, agent.pid) == ["before"]
            log = (await log_of(kernel, agent.pid)).values()
            assert [(entry.kind, entry.failed) for entry in log] == [
                ("note", False),
                ("note", True),
            ]
            await kernel.request(Send(to=waiting.pid, body="still here"))
            assert await waiting == "still here"
            await works(kernel)


async def test_arguments_and_letters_of_50_mb_are_refused_before_anything_is_written(
    one: OneStorage,
) -> None:
    with anyio.fail_after(30):
        async with one.kernel() as kernel:
            with pytest.raises(StorageRefused, match="more than the limit of 16 MiB"):
                await spawn(kernel, hoard(text=LARGE, times=1), key="large")
            assert await kernel.request(ListProcesses(ended=True)) == ()
            small = await spawn(kernel, hoard(text="small", times=1), key="large")
            assert await small == 5
            waiting = await spawn(kernel, listen())
            with pytest.raises(StorageRefused, match="more than the limit of 16 MiB"):
                await kernel.request(Send(to=waiting.pid, body=LARGE))
            assert await kernel.request(ReadLetters(pid=waiting.pid)) == ()
            await works(kernel)


@program
async def quote(self: Process) -> str:
    letter = str(await self.receive())
    await self.note(letter)
    await self.remember(letter, tags=["quoted"])
    (memory,) = await self.recall(tags=["quoted"])
    return memory.text


@pytest.mark.parametrize("text", ["a\0b", "\0" * 1000])
async def test_nul_is_kept_in_text_and_refused_in_names(one: OneStorage, text: str) -> None:
    with anyio.fail_after(20):
        async with one.kernel() as kernel:
            agent = await spawn(kernel, quote(), tenant="of the test")
            await kernel.request(Send(to=agent.pid, body=text))
            record = await kernel.request(Wait(pid=agent.pid))
            assert (record.state, await pages_of(kernel, agent.pid)) == ("exited", [text])
            for name in ("name", "role", "key", "tenant"):
                given: dict[str, Any] = {name: text}
                with pytest.raises(StorageRefused, match=r"leave that sign out|database refuses"):
                    await spawn(kernel, greet(), **given)
            await works(kernel)


async def test_half_a_sign_fails_its_process_and_nobody_else(one: OneStorage) -> None:
    with anyio.fail_after(20):
        async with one.kernel() as kernel:
            agent = await spawn(kernel, quote())
            await kernel.request(Send(to=agent.pid, body="\ud800"))
            with pytest.raises(ProcessFailed, match="surrogates not allowed"):
                await agent
            await works(kernel)


@pytest.mark.parametrize("weight", [math.inf, -math.inf, math.nan])
async def test_a_state_that_json_has_no_word_for_is_the_same_after_a_restart(
    one: OneStorage, weight: float
) -> None:
    with anyio.fail_after(20):
        async with one.kernel() as kernel:
            pid = (await spawn(kernel, Scales(weight=weight))).pid
            while (await (await attach(kernel, pid)).status()).record.step == 0:
                await anyio.sleep(0.01)
        async with one.kernel() as kernel:
            again = await attach(kernel, pid)
            await kernel.request(Send(to=pid, body="go on"))
            await spawn(kernel, Scales(weight=1), key="so that the program is known")
            assert await again == str(weight)
