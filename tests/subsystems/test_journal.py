"""An intent is written right before a call reaches outside, and only then."""

import pytest
from system import System

from aoskernel import Process, ProcessFailed, program, spawn
from aoskernel.subsystems.storage.messages import ReadLog


async def nothing() -> None:
    return None


@program
async def four_kinds(self: Process) -> None:
    await self.think("one")
    await self.call("list_files")
    await self.run_once("own", nothing)
    await self.note("inside")


async def test_model_calls_and_own_code_have_intents_reads_and_notes_have_none(
    system: System,
) -> None:
    async with system() as kernel:
        agent = await spawn(kernel, four_kinds())
        await agent
        log = await kernel.request(ReadLog(pid=agent.pid))
    assert [(entry.kind, entry.attempts, entry.effect) for entry in log] == [
        ("think", 1, "idempotent"),
        ("call:list_files", 0, "none"),
        ("run_once:own", 1, "once"),
        ("note", 0, "none"),
    ]


async def test_what_the_policy_refuses_never_began(system: System) -> None:
    async with system(policy={"allow": ()}) as kernel:
        agent = await spawn(kernel, four_kinds())
        with pytest.raises(ProcessFailed, match="Refused"):
            await agent
        (entry,) = await kernel.request(ReadLog(pid=agent.pid))
    assert (entry.kind, entry.attempts, entry.failed) == ("think", 0, True)
