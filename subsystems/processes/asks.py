"""Questions to humans: they lie in the database, and anybody may answer, from any kernel."""

from uuid import uuid4

from ...kernel.service import Service, handles
from ..storage.messages import (
    AnswerQuestion,
    CloseQuestion,
    Commit,
    Key,
    Pid,
    PutQuestion,
    Question,
    ReadQuestions,
)
from .messages import Answer, Ask, Asked, ListQuestions, NoSuchQuestion, Withdraw


class Asks(Service, name="asks", needs=[Commit, ReadQuestions]):
    """The desk where questions are put and answered."""

    @handles(Ask)
    async def ask(self, request: Ask) -> Question:
        question = PutQuestion(
            key=request.key,
            text=request.text,
            choices=request.choices,
            deadline=request.deadline,
        )
        await self.request(Commit(pid=request.pid, epoch=request.epoch, writes=(question,)))
        put = await self._at(request.pid, request.key)
        if put.answer is None:
            await self.publish(Asked(question=put))
        return put

    @handles(Withdraw)
    async def withdraw(self, request: Withdraw) -> Question:
        close = CloseQuestion(key=request.key)
        await self.request(Commit(pid=request.pid, epoch=request.epoch, writes=(close,)))
        return await self._at(request.pid, request.key)

    async def _at(self, pid: Pid, key: Key) -> Question:
        (question,) = await self.request(ReadQuestions(pid=pid, key=key))
        return question

    @handles(ListQuestions)
    async def list(self, request: ListQuestions) -> tuple[Question, ...]:
        return tuple(q for q in await self.request(ReadQuestions()) if not self._is_late(q))

    @handles(Answer)
    async def answer(self, request: Answer) -> None:
        self._check(request, await self._numbered(request.number))
        receipt = uuid4().hex
        answer = AnswerQuestion(number=request.number, text=request.text, receipt=receipt)
        await self.request(Commit(writes=(answer,)))
        answered = await self._numbered(request.number)
        if answered is None or answered.receipt != receipt:  # somebody was faster, or it is over
            raise NoSuchQuestion(f"question {request.number} has just been answered or withdrawn")

    async def _numbered(self, number: int) -> Question | None:
        found = await self.request(ReadQuestions(number=number))
        return found[0] if found else None

    def _check(self, request: Answer, question: Question | None) -> None:
        if question is None or question.closed or self._is_late(question):
            raise NoSuchQuestion(f"no question {request.number} waits for an answer")
        if question.answer is not None:
            raise NoSuchQuestion(f"question {request.number} is answered: {question.answer!r}")
        if question.choices and request.text not in question.choices:
            raise NoSuchQuestion(
                f"question {request.number} wants one of {', '.join(question.choices)}"
            )

    def _is_late(self, question: Question) -> bool:
        return question.deadline is not None and question.deadline <= self.bus.wall()
