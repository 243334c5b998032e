"""Thinking, tools, letters, memory, humans and streams, as a program sees them."""

from contextlib import suppress
from typing import Any

import anyio
import pytest
from pydantic import BaseModel
from system import System

from aoskernel import Process, ProcessFailed, assistant, program, spawn
from aoskernel.drivers.llm.scripted import call
from aoskernel.kernel.events import Lagged
from aoskernel.subsystems.llm.messages import Delta
from aoskernel.subsystems.processes.messages import (
    Answer,
    Asked,
    ListQuestions,
    MailboxFull,
)


class Finding(BaseModel):
    answer: str
    page: int


async def test_the_context_grows_append_only(system: System) -> None:
    prompts: list[list[str]] = []

    def script(ask: Any) -> str:
        prompts.append([f"{m.role}: {m.text}" for m in ask.messages])
        return f"reply {len(prompts)}"

    @program
    async def talk(self: Process) -> None:
        await self.note("be brief", role="system")
        await self.note("the goal", pinned=True)
        await self.think("one")
        await self.note("by the way")
        await self.think("two")

    async with system(script) as kernel:
        await (await spawn(kernel, talk()))
    assert prompts[0] == ["system: be brief", "user: the goal", "user: one"]
    assert prompts[1] == [*prompts[0], "assistant: reply 1", "user: by the way", "user: two"]


async def test_a_schema_gives_a_typed_object(system: System) -> None:
    @program
    async def find(self: Process) -> str:
        finding = await self.think("where?", schema=Finding)
        return f"{finding.answer} on page {finding.page}"

    async with system(['{"answer": "cheese", "page": 3}']) as kernel:
        assert await (await spawn(kernel, find())) == "cheese on page 3"


async def test_a_reply_that_does_not_fit_the_schema_is_an_error(system: System) -> None:
    @program
    async def find(self: Process) -> Finding:
        return await self.think("where?", schema=Finding)

    async with system(['{"answer": "cheese"}']) as kernel:
        with pytest.raises(ProcessFailed, match=r"does not fit the schema.*Field required"):
            await (await spawn(kernel, find()))


async def test_what_does_not_fit_the_window_is_refused_before_the_model(system: System) -> None:
    asked = []

    @program
    async def verbose(self: Process) -> None:
        await self.note("always " * 20, pinned=True)
        await self.think("word " * 200)

    script = {"script": asked.append, "context_window": 100}
    async with system(**{"llm.default": script}) as kernel:
        with pytest.raises(ProcessFailed, match=r"ContextOverflow.*pinned: 'always always"):
            await (await spawn(kernel, verbose()))
    assert asked == []


async def test_the_assistant_uses_a_tool_and_answers(system: System, tmp_path: Any) -> None:
    (tmp_path / "notes.txt").write_text("On Friday we ship.")

    def script(ask: Any) -> Any:
        last = ask.messages[-1]
        if last.role == "tool":
            return f"It says: {last.text}"
        return call("read_file", path="notes.txt")

    async with system(script, **{"tools.files": {"root": str(tmp_path)}}) as kernel:
        agent = await spawn(kernel, assistant(task="What does notes.txt say about Friday?"))
        assert await agent == "It says: On Friday we ship."


async def test_the_model_reads_a_tool_s_error(system: System, tmp_path: Any) -> None:
    def script(ask: Any) -> Any:
        last = ask.messages[-1]
        return last.text if last.role == "tool" else call("read_file", path="../secret")

    async with system(script, **{"tools.files": {"root": str(tmp_path)}}) as kernel:
        answer = await (await spawn(kernel, assistant(task="read")))
    assert answer.startswith("error: ")
    assert "../secret" in answer


async def test_the_assistant_stops_at_its_step_limit(system: System) -> None:
    def script(ask: Any) -> Any:
        return call("list_files", pattern=f"*{len(ask.messages)}")

    async with system(script) as kernel:
        with pytest.raises(ProcessFailed, match="not done after 3 steps; more with max_steps="):
            await (await spawn(kernel, assistant(task="loop", max_steps=3)))


async def test_an_assistant_that_turns_in_circles_is_told_to_answer(system: System) -> None:
    def script(ask: Any) -> Any:
        return call("list_files") if ask.tools else '{"answer": "nothing there"}'

    async with system(script) as kernel:
        answer = await (await spawn(kernel, assistant(task="look")))
    assert answer == "nothing there"


async def test_every_tool_call_has_a_result_whatever_was_cut(system: System) -> None:
    histories = []

    def script(ask: Any) -> Any:
        histories.append([(m.role, m.text, m.tool_call_id) for m in ask.messages])
        return "done" if len(histories) > 1 else [call("list_files"), call("list_files")]

    @program
    async def forgetful(self: Process) -> None:
        reply = await self.think("go", tools=None)
        await self.call(reply.tool_calls[1])  # the first is never made
        await self.think("and?")

    async with system(script) as kernel:
        await (await spawn(kernel, forgetful()))
    roles = [role for role, _, _ in histories[1]]
    assert roles == ["user", "assistant", "tool", "tool", "user"]
    assert "not called" in histories[1][2][1]


async def test_letters_arrive_in_order_and_are_read_once(system: System) -> None:
    @program
    async def reader(self: Process, count: int) -> list[int]:
        return [await self.receive() for _ in range(count)]

    async with system() as kernel:
        agent = await spawn(kernel, reader(count=20))
        for number in range(20):
            await agent.send(number)
        assert await agent == list(range(20))


async def test_branches_share_a_mailbox_without_reading_a_letter_twice(system: System) -> None:
    @program
    async def readers(self: Process) -> list[int]:
        return await self.parallel(*(self.receive() for _ in range(10)))

    async with system() as kernel:
        agent = await spawn(kernel, readers())
        for number in range(10):
            await agent.send(number)
        assert sorted(await agent) == list(range(10))


async def test_a_letter_whose_reader_was_cut_is_read_by_the_next(system: System) -> None:
    @program
    async def patient(self: Process) -> str:
        with suppress(TimeoutError):
            await self.timeout(0.01, self.receive())
        return str(await self.receive())

    async with system() as kernel:
        agent = await spawn(kernel, patient())
        await anyio.sleep(0.05)
        await agent.send("late")
        assert await agent == "late"


async def test_a_full_mailbox_refuses_and_loses_nothing(system: System) -> None:
    @program
    async def busy(self: Process) -> list[int]:
        await self.sleep(0.05)
        return [await self.receive() for _ in range(3)]

    async with system(processes={"mailbox": 3}) as kernel:
        agent = await spawn(kernel, busy())
        for number in range(3):
            await agent.send(number)
        with pytest.raises(MailboxFull, match="holds 3 letters"):
            await agent.send(3)
        assert await agent == [0, 1, 2]


async def test_processes_write_to_each_other(system: System) -> None:
    @program
    async def ponger(self: Process, rounds: int) -> None:
        for _ in range(rounds):
            ball = await self.receive()
            await self.send(ball["from"], ball["n"] + 1)

    @program
    async def pinger(self: Process, other: int) -> int:
        n = 0
        for _ in range(5):
            await self.send(other, {"from": self.pid, "n": n})
            n = await self.receive()
        return n

    async with system() as kernel:
        pong = await spawn(kernel, ponger(rounds=5))
        assert await (await spawn(kernel, pinger(other=pong.pid))) == 5
        await pong


async def test_what_is_remembered_is_found_by_tag_and_word(system: System) -> None:
    @program
    async def learner(self: Process) -> None:
        await self.remember("The meeting is on Friday.", tags=["calendar"])
        await self.remember("星期五我们发布新版本。", tags=["calendar", "zh"])
        await self.remember("Cheese is yellow.")

    @program
    async def knower(self: Process) -> list[list[str]]:
        found = [
            await self.recall("when is the friday meeting?"),
            await self.recall("星期五有什么事"),
            await self.recall(tags=["calendar"]),
            await self.recall("nothing of the kind", tags=["zh"]),
        ]
        return [[memory.text for memory in memories] for memories in found]

    async with system() as kernel:
        await (await spawn(kernel, learner()))
        friday, chinese, tagged, nothing = await (await spawn(kernel, knower()))
        foreign = await (await spawn(kernel, knower(), tenant="somebody else"))
    assert friday[0] == "The meeting is on Friday."
    assert chinese == ["星期五我们发布新版本。"]
    assert len(tagged) == 2
    assert nothing == []
    assert foreign == [[], [], [], []]


async def test_a_human_is_asked_and_answers(system: System) -> None:
    @program
    async def deploy(self: Process) -> str:
        return await self.ask("Deploy?", choices=["yes", "no"])

    async with system() as kernel, kernel.listen("human.asked") as questions:
        agent = await spawn(kernel, deploy())
        event = await anext(questions)
        assert isinstance(event, Asked)
        question = event.question
        assert await kernel.request(ListQuestions()) == (question,)
        with pytest.raises(Exception, match="wants one of yes, no"):
            await kernel.request(Answer(number=question.number, text="perhaps"))
        await kernel.request(Answer(number=question.number, text="yes"))
        assert await agent == "yes"
        assert await kernel.request(ListQuestions()) == ()


TEXT = " ".join(f"w{number}" for number in range(3000))


@program
async def chatter(self: Process) -> str:
    await self.receive()
    return (await self.think("speak")).text


async def test_a_slow_reader_gets_every_token_while_a_slow_listener_only_lags(
    system: System,
) -> None:
    async with (
        system([TEXT]) as kernel,
        kernel.listen("llm.delta", size=16) as copy,
        kernel.listen("bus.lagged") as lagged,
    ):
        agent = await spawn(kernel, chatter())
        pieces: list[Delta] = []
        stream = agent.stream()
        with anyio.fail_after(20):
            async with anyio.create_task_group() as tasks:

                async def read() -> None:
                    async for delta in stream:
                        pieces.append(delta)
                        if len(pieces) % 100 == 0:
                            await anyio.sleep(0.001)

                tasks.start_soon(read)
                await anyio.sleep(0.01)
                await agent.send("go")
        assert "".join(p.text for p in pieces) == TEXT
        assert [p.offset for p in pieces[:2]] == [0, len(pieces[0].text)]
        assert copy.dropped == 3000 - 16
        assert isinstance(await anext(lagged), Lagged)
        assert len(lagged) == 0  # told once for the whole time it lagged
        assert await agent == TEXT


async def test_a_reader_that_leaves_does_not_hold_the_process(system: System) -> None:
    async with system([TEXT]) as kernel:
        agent = await spawn(kernel, chatter())

        async def taste() -> None:
            async for _ in agent.stream():
                break

        with anyio.fail_after(20):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(taste)
                await anyio.sleep(0.01)
                await agent.send("go")
            assert await agent == TEXT


async def test_a_tool_needs_the_policy_s_leave(system: System) -> None:
    @program
    async def reader(self: Process) -> str:
        return str(await self.call("list_files"))

    async with system(policy={"allow": ("llm.complete:*",)}) as kernel:
        with pytest.raises(ProcessFailed, match=r"Refused.*tools.call:list_files"):
            await (await spawn(kernel, reader()))


async def test_the_model_reads_a_refusal_and_the_assistant_goes_on(system: System) -> None:
    def script(ask: Any) -> Any:
        last = ask.messages[-1]
        return f"I may not: {last.text}" if last.role == "tool" else call("list_files")

    async with system(script, policy={"allow": ("llm.complete:*",)}) as kernel:
        answer = await (await spawn(kernel, assistant(task="look")))
    assert answer.startswith("I may not: error: ")
    assert "tools.call:list_files" in answer
