"""What reaches a process from outside: letters, signals, answers; and the doorbell."""

from dataclasses import dataclass
from typing import Literal

from pydantic import JsonValue

from ....kernel.message import Event, Request
from .names import Key, Pid


@dataclass(slots=True, kw_only=True)
class Letter:
    """A message in a process's mailbox; `number` orders them."""

    number: int
    sender: Pid | None
    body: JsonValue


@dataclass(slots=True, kw_only=True)
class Command:
    """A signal that waits to be carried out by whoever owns the process; `number` orders them."""

    number: int
    signal: str
    grace_s: float


@dataclass(slots=True, kw_only=True)
class Question:
    """What a process asks a human, at one place of its log. `number` identifies it.

    `deadline` is in seconds since 1970. `receipt` is that of whoever answered.
    """

    number: int
    pid: Pid
    key: Key
    text: str
    choices: tuple[str, ...] = ()
    deadline: float | None = None
    answer: str | None = None
    receipt: str | None = None
    closed: bool = False


@dataclass(slots=True, kw_only=True)
class PostLetter:
    """Put into a mailbox."""

    write: Literal["letter"] = "letter"
    to: Pid
    body: JsonValue


@dataclass(slots=True, kw_only=True)
class TakeLetter:
    """Take out of the process's own mailbox."""

    write: Literal["taken"] = "taken"
    number: int


@dataclass(slots=True, kw_only=True)
class PostCommand:
    """Leave a signal for whoever owns the process."""

    write: Literal["command"] = "command"
    to: Pid
    signal: str
    grace_s: float = 0.0


@dataclass(slots=True, kw_only=True)
class TakeCommand:
    """A command to the process has been carried out."""

    write: Literal["obeyed"] = "obeyed"
    number: int
    signal: str


@dataclass(slots=True, kw_only=True)
class Announce:
    """Ring for this process in other kernels, which do not hear of every commit by themselves."""

    write: Literal["announced"] = "announced"


@dataclass(slots=True, kw_only=True)
class PutQuestion:
    """Ask a human; what was asked at this place before stays as it is."""

    write: Literal["question"] = "question"
    key: Key
    text: str
    choices: tuple[str, ...] = ()
    deadline: float | None = None


@dataclass(slots=True, kw_only=True)
class CloseQuestion:
    """Nobody waits for the answer any more; one that is there stays.

    `decision` is what a human has decided by it, of a call that needed approval.
    """

    write: Literal["closed"] = "closed"
    key: Key
    decision: str = ""


@dataclass(slots=True, kw_only=True)
class AnswerQuestion:
    """Answer a question that is open: the first answer counts, see its `receipt`."""

    write: Literal["answer"] = "answer"
    number: int
    text: str
    receipt: str


class ReadLetters(Request[tuple[Letter, ...]], topic="storage.read_letters", effect="none"):
    """What is in the mailbox, oldest first."""

    pid: Pid
    limit: int = 1


class ReadCommands(Request[tuple[Command, ...]], topic="storage.read_commands", effect="none"):
    """The signals that wait for a process, oldest first."""

    pid: Pid


class ReadQuestions(Request[tuple[Question, ...]], topic="storage.read_questions", effect="none"):
    """One question, by number or by its place; or all open ones of processes that go on."""

    number: int | None = None
    pid: Pid | None = None
    key: Key | None = None


class Rang(Event, topic="storage.rang", urgent=True):
    """Something has happened to these processes, in whichever kernel: a letter, a command, an
    answer, their end, that of one they wait for; another kernel has taken them over, or somebody
    follows them. None: to any of them, unheard. Number 0 stands for the accounts: a ceiling was
    set.
    """

    pids: tuple[Pid, ...] | None
