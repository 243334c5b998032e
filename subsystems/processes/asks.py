"""Questions to humans: who asks waits here until somebody answers."""

import asyncio

from ...kernel.errors import KernelError
from ...kernel.service import Service, handles
from .messages import Answer, Ask, Asked, ListQuestions, Question


class NoSuchQuestion(KernelError):
    """There is no such question, or no such choice."""


class Asks(Service, name="asks"):
    """The desk where questions lie until they are answered."""

    def __init__(self) -> None:
        self._open: dict[int, tuple[Question, asyncio.Future[str]]] = {}
        self._count = 0

    @handles(Ask, waits=True)
    async def ask(self, request: Ask) -> str:
        self._count += 1
        question = Question(
            number=self._count, pid=request.pid, text=request.text, choices=request.choices
        )
        answer: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._open[question.number] = question, answer
        try:
            await self.publish(Asked(question=question))
            return await answer
        finally:
            del self._open[question.number]

    @handles(ListQuestions)
    async def list(self, request: ListQuestions) -> tuple[Question, ...]:
        return tuple(question for question, _ in self._open.values())

    @handles(Answer)
    async def answer(self, request: Answer) -> None:
        question, answer = self._open.get(request.number, (None, None))
        if question is None or answer is None:
            raise NoSuchQuestion(f"no question {request.number} waits for an answer")
        if question.choices and request.text not in question.choices:
            raise NoSuchQuestion(
                f"question {request.number} wants one of {', '.join(question.choices)}"
            )
        if not answer.done():
            answer.set_result(request.text)
