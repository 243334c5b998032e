"""What a process asks a human, and the answer."""

from ....kernel.message import Event, Request
from ...storage.messages import Key, Pid, Question


class Ask(Request[Question], topic="human.ask", effect="idempotent"):
    """Put a question to a human, once for each place of a process's log.

    The reply is the question as it stands, with the answer if there is one. The answer comes
    until `deadline`, in seconds since 1970.
    """

    pid: Pid
    epoch: int
    key: Key
    text: str
    choices: tuple[str, ...] = ()
    deadline: float | None = None


class Withdraw(Request[Question], topic="human.withdraw", effect="idempotent"):
    """Do not ask any more. The reply is the question with the answer it had until now."""

    pid: Pid
    epoch: int
    key: Key


class ListQuestions(Request[tuple[Question, ...]], topic="human.list", effect="none"):
    """The questions that wait for an answer."""


class Answer(Request[None], topic="human.answer", effect="once"):
    """Answer a question; where it offers choices, with one of them. Raises NoSuchQuestion."""

    number: int
    text: str


class Asked(Event, topic="human.asked", urgent=True):
    """A process waits for a human."""

    question: Question
