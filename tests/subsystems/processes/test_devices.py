"""Tools that run elsewhere, called by processes: what they ask, what is lost, what is large."""

import json
from pathlib import Path
from typing import Any

import anyio
import pytest
from one_storage import OneStorage, log_of, reached, until
from tiny_mcp import QUICK, command, said

from aoskernel import Kernel, Process, ProcessFailed, assistant, program, spawn
from aoskernel.drivers.llm.scripted import call
from aoskernel.subsystems.llm.messages import Complete
from aoskernel.subsystems.processes.messages import Answer, ListQuestions, NoSuchQuestion, Resolve
from aoskernel.subsystems.storage.messages import Question


@program
async def user(self: Process, tool: str) -> str:
    return str(await self.call(tool))


@program
async def impatient(self: Process) -> str:
    try:
        return str(await self.timeout(1, self.call("ask")))
    except TimeoutError:
        return "enough"


def device(log: Path, **options: Any) -> dict[str, Any]:
    return {"driver": "mcp", "command": command(log), **QUICK, **options}


async def asked(kernel: Kernel, number: int = 0) -> Question:
    async def look() -> Question | None:
        found = await kernel.request(ListQuestions())
        return found[0] if found and found[0].number != number else None

    question: Question = await until(look)
    return question


async def test_a_tool_s_question_waits_among_those_of_its_process(tmp_path: Path) -> None:
    device_of = {"tools.tiny": device(tmp_path / "log", asks=True)}
    async with OneStorage().kernel(processes={"park_after_s": 0.01}, **device_of) as kernel:
        agent = await spawn(kernel, user(tool="ask_twice"))
        first = await asked(kernel)
        assert (first.pid, first.text.partition("\n")[0]) == (agent.pid, "tiny 1 asks: Which size?")
        await kernel.request(Answer(number=first.number, text="3"))
        second = await asked(kernel, first.number)
        await kernel.request(Answer(number=second.number, text='{"size": 4}'))
        with anyio.fail_after(20):
            assert json.loads(await agent)["content"] == {"size": 4}
    assert len(said(tmp_path / "log", "tools/call")) == 1  # waiting has not cut the call


async def test_a_question_of_a_call_that_is_cut_is_withdrawn(tmp_path: Path) -> None:
    device_of = {"tools.tiny": device(tmp_path / "log", asks=True)}
    async with OneStorage().kernel(**device_of) as kernel:
        agent = await spawn(kernel, impatient())
        question = await asked(kernel)
        with anyio.fail_after(20):
            assert await agent == "enough"
        with pytest.raises(NoSuchQuestion):
            await kernel.request(Answer(number=question.number, text="3"))


async def test_a_call_that_its_device_has_lost_is_in_doubt(tmp_path: Path) -> None:
    log = tmp_path / "log"
    async with OneStorage().kernel(**{"tools.tiny": device(log)}) as kernel:
        agent = await spawn(kernel, user(tool="die"))
        record = await reached(kernel, agent.pid, "stopped")
        assert record.error_kind == "OutcomeUnknown"
        assert "the server has ended in the middle of it" in str(record.error)
        await kernel.request(Resolve(pid=agent.pid, outcome="done", result="it was"))
        with anyio.fail_after(20):
            assert await agent == "it was"
    assert len(said(log, "tools/call")) == 1


async def test_a_read_that_its_device_has_lost_is_made_again(tmp_path: Path) -> None:
    log, retry = tmp_path / "log", {"attempts": 3, "first_s": 0.001}
    tables = {"tools.tiny": device(log, effects={"die": "none"}), "retry": retry}
    async with OneStorage().kernel(**tables) as kernel:
        agent = await spawn(kernel, user(tool="die"))
        with anyio.fail_after(20), pytest.raises(ProcessFailed, match="OutcomeLost"):
            await agent
    assert len(said(log, "tools/call")) == 3


async def test_the_model_sees_the_head_of_what_the_log_keeps_whole(tmp_path: Path) -> None:
    seen: list[str] = []

    def script(ask: Complete) -> Any:
        if ask.messages[-1].role != "tool":
            return call("big")
        seen.append(ask.messages[-1].text)
        return "long"

    async with OneStorage().kernel(script, **{"tools.tiny": device(tmp_path / "log")}) as kernel:
        agent = await spawn(kernel, assistant(task="How long?"))
        with anyio.fail_after(30):
            assert await agent == "long"
        kept = next(e for e in (await log_of(kernel, agent.pid)).values() if e.kind == "call:big")

    assert len(json.loads(kept.body)) == 10_000_000
    assert seen[0].endswith("[... 10,000,000 characters in all; the rest is not shown here]")
