"""The log of a process: its syscalls and the pages of its context."""

from dataclasses import dataclass
from typing import Literal

from ....kernel.message import Effect, Request
from .names import Key, Pid


@dataclass(slots=True, kw_only=True)
class Entry:
    """A syscall in the log: what was said (`fingerprint`), and how it came out, if it has.

    `body` is JSON text; `failed` says it is an error's. `attempts` counts its intents, the last
    of which was of `epoch`; `note` is what that one said, or what a human has said of it since.
    That one `began_at`, in seconds since 1970; only what has intents has that. `rule` is what let
    it be made, where a policy has said so. `took_s` is for how long the program waited for the
    outcome, in the life that it came in. Of an `erased` one the body is gone.
    """

    key: Key
    kind: str
    fingerprint: str
    effect: Effect = "none"
    attempts: int = 0
    settled: bool = False
    failed: bool = False
    body: str = ""
    epoch: int = 0
    note: str = ""
    began_at: float | None = None
    took_s: float | None = None
    rule: str = ""
    erased: bool = False


@dataclass(slots=True, kw_only=True)
class Page:
    """A piece of context. Its text stands here, or in the log's entry that it points to.

    Written with an `entry`, a page has no text of its own; read back, its text is the entry's
    body, JSON text. `number`, which storage gives, orders a process's pages.
    """

    role: Literal["system", "user", "assistant", "tool"]
    text: str = ""
    entry: Key | None = None
    tool_call_id: str | None = None
    pinned: bool = False
    number: int = 0


@dataclass(slots=True, kw_only=True)
class Intend:
    """Before a syscall that reaches outside or takes long: it is about to begin (again).

    `note` is what it begins with and must find again, e.g. when a sleep is to end; `rule` is what
    lets it be made.
    """

    write: Literal["intent"] = "intent"
    key: Key
    kind: str
    fingerprint: str
    effect: Effect
    note: str = ""
    rule: str = ""


@dataclass(slots=True, kw_only=True)
class Annotate:
    """Say something of the last intent of a syscall that is not settled."""

    write: Literal["note"] = "note"
    key: Key
    note: str


@dataclass(slots=True, kw_only=True)
class Settle:
    """After a syscall: its outcome, and how long it took, in seconds."""

    write: Literal["outcome"] = "outcome"
    key: Key
    kind: str
    fingerprint: str
    failed: bool = False
    body: str
    took_s: float | None = None


@dataclass(slots=True, kw_only=True)
class AddPage:
    """Append to the process's context."""

    write: Literal["page"] = "page"
    page: Page


class EraseBodies(Request[int], topic="storage.erase_bodies", effect="idempotent"):
    """Erase what a process's log says, for good; that it said something stays provable.

    The outcome of one syscall, or, without a `key`, all of them with the texts of its pages, its
    letters and questions, its state and result. Gives how many links have lost their bodies.
    Raises StorageRefused while a living kernel owns the process. Going on with it raises Erased.
    """

    pid: Pid
    key: Key | None = None


class ReadLog(Request[tuple[Entry, ...]], topic="storage.read_log", effect="none"):
    """The entries of one step, or of all steps when None, in the order of their intents."""

    pid: Pid
    step: int | None = None


class ReadPages(Request[tuple[Page, ...]], topic="storage.read_pages", effect="none"):
    """The process's pages behind the one of this number, in order."""

    pid: Pid
    after: int = 0
