"""Questions to humans: they outlive kernels, end with their deadline, and are answered once."""

from contextlib import suppress

import anyio
import pytest
from one_storage import OneStorage, reached, until

from aoskernel import Kernel, Process, attach, program, spawn
from aoskernel.subsystems.processes.messages import (
    Answer,
    Inspect,
    ListQuestions,
    NoSuchQuestion,
)
from aoskernel.subsystems.storage.messages import Question

PARKS = {"park_after_s": 0.01}


@program
async def deployer(self: Process, deadline_s: float | None = None) -> str:
    try:
        return await self.ask("Deploy?", choices=["yes", "no"], deadline_s=deadline_s)
    except TimeoutError:
        return "nobody there"


@program
async def twice(self: Process) -> list[str]:
    return [await self.ask("one?"), await self.ask("two?")]


KNOWS = {"programs": [__name__]}


async def asked(kernel: Kernel, text: str = "Deploy?") -> Question:
    async def look() -> Question | None:
        for question in await kernel.request(ListQuestions()):
            if question.text == text:
                return question
        return None

    found: Question = await until(look)
    return found


async def test_another_kernel_answers_a_live_process(one: OneStorage) -> None:
    async with one.kernel() as here, one.kernel() as there:
        agent = await spawn(here, deployer())
        question = await asked(there)
        await there.request(Answer(number=question.number, text="yes"))
        with anyio.fail_after(20):
            assert await agent == "yes"


async def test_an_answer_brings_back_a_parked_process(one: OneStorage) -> None:
    async with one.kernel(processes=PARKS) as here, one.kernel() as there:
        agent = await spawn(here, deployer())
        await reached(here, agent.pid, "parked")
        await there.request(Answer(number=(await asked(there)).number, text="no"))
        with anyio.fail_after(20):
            assert await agent == "no"


async def test_an_answer_from_while_no_kernel_ran_is_found_after_the_restart(
    one: OneStorage,
) -> None:
    async with one.kernel() as kernel:
        agent = await spawn(kernel, deployer())
        question = await asked(kernel)
    async with one.kernel() as outside:
        assert await outside.request(ListQuestions()) == (question,)
        await outside.request(Answer(number=question.number, text="yes"))
    async with one.kernel(processes=KNOWS) as kernel:
        with anyio.fail_after(20):
            assert await (await attach(kernel, agent.pid)) == "yes"


async def test_the_same_question_is_not_put_again_after_a_restart(one: OneStorage) -> None:
    async with one.kernel(processes=PARKS) as kernel:
        agent = await spawn(kernel, twice())
        first = await asked(kernel, "one?")
        await kernel.request(Answer(number=first.number, text="1"))
        second = await asked(kernel, "two?")
        await reached(kernel, agent.pid, "parked")
    async with one.kernel(processes=KNOWS) as kernel:
        assert await kernel.request(ListQuestions()) == (second,)
        assert (await kernel.request(Inspect(pid=agent.pid))).record.state == "parked"
        await kernel.request(Answer(number=second.number, text="2"))
        with anyio.fail_after(20):
            assert await (await attach(kernel, agent.pid)) == ["1", "2"]


async def test_a_question_is_answered_once(one: OneStorage) -> None:
    async with one.kernel() as kernel:
        agent = await spawn(kernel, deployer())
        number = (await asked(kernel)).number
        accepted: list[str] = []

        async def answer(text: str) -> None:
            with suppress(NoSuchQuestion):
                await kernel.request(Answer(number=number, text=text))
                accepted.append(text)

        with anyio.fail_after(20):
            async with anyio.create_task_group() as tasks:
                for text in ("yes", "no", "yes", "no"):
                    tasks.start_soon(answer, text)
            assert [await agent] == accepted
        with pytest.raises(NoSuchQuestion):
            await kernel.request(Answer(number=number, text="yes"))


async def test_a_deadline_without_an_answer_is_a_timeout_for_the_program(
    one: OneStorage,
) -> None:
    async with one.kernel() as kernel:
        agent = await spawn(kernel, deployer(deadline_s=0.1))
        question = await asked(kernel)
        with anyio.fail_after(20):
            assert await agent == "nobody there"
        with pytest.raises(NoSuchQuestion, match="waits for an answer"):
            await kernel.request(Answer(number=question.number, text="yes"))
        assert await kernel.request(ListQuestions()) == ()


async def test_a_deadline_holds_outside_of_memory(one: OneStorage) -> None:
    async with one.kernel(processes=PARKS) as kernel:
        agent = await spawn(kernel, deployer(deadline_s=0.4))
        await reached(kernel, agent.pid, "parked")
        with anyio.fail_after(20):
            assert await agent == "nobody there"


async def test_a_question_that_lost_a_race_is_withdrawn() -> None:
    @program
    async def impatient(self: Process) -> str:
        return await self.race(self.ask("ever?"), self.ask("now?"))

    async with OneStorage().kernel() as kernel:
        agent = await spawn(kernel, impatient())
        await asked(kernel, "ever?")
        now = await asked(kernel, "now?")
        await kernel.request(Answer(number=now.number, text="yes"))
        with anyio.fail_after(20):
            assert await agent == "yes"
        assert await kernel.request(ListQuestions()) == ()


async def test_the_questions_of_a_killed_process_are_gone(one: OneStorage) -> None:
    async with one.kernel() as kernel:
        agent = await spawn(kernel, deployer())
        await asked(kernel)
        await agent.kill("KILL")
        await reached(kernel, agent.pid, "killed")
        assert await kernel.request(ListQuestions()) == ()
