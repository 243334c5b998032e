"""The one kind of commit: writes, all or none."""

from typing import Annotated

from pydantic import Field, SkipValidation

from ....kernel.message import Event, Request
from .accounts import PutAccount, RaiseCeiling, Reserve, Spend
from .calls import (
    Announce,
    AnswerQuestion,
    CloseQuestion,
    PostCommand,
    PostLetter,
    PutQuestion,
    TakeCommand,
    TakeLetter,
)
from .log import AddPage, Annotate, Intend, Settle
from .memory import AddMemory, AddVector
from .names import OUTSIDE, Pid
from .processes import AddProcess, SaveProcess
from .records import DropRecord, PutRecord

Write = Annotated[
    AddProcess
    | SaveProcess
    | Intend
    | Annotate
    | Settle
    | AddPage
    | PostLetter
    | TakeLetter
    | PostCommand
    | TakeCommand
    | Announce
    | PutQuestion
    | CloseQuestion
    | AnswerQuestion
    | AddMemory
    | AddVector
    | PutRecord
    | DropRecord
    | PutAccount
    | RaiseCeiling
    | Reserve
    | Spend,
    Field(discriminator="write"),
]


class Commit(Request[None], topic="storage.commit", effect="idempotent"):
    """All of these writes or none, for one process, if this kernel owns it, in this `epoch`.

    Who has left a process, or has only read its epoch, does not. Process 0 is the outside.

    What belongs to no process, e.g. a service's records, is committed from OUTSIDE.
    Nobody waits for a `lazy` one: it is written with the next that is not, whoever's, or a
    moment later. A crash may lose it, but never without all that came after it in this kernel.
    So it is for what may simply be done again. Where it cannot be written, the process's
    next commit raises why, and nothing is written behind the gap.
    Raises Fenced, KeyTaken, Overdrawn, StorageRefused, StorageUnavailable.
    """

    pid: Pid = OUTSIDE
    epoch: int = 0
    lazy: bool = False
    writes: Annotated[tuple[Write, ...], SkipValidation]  # built by our own code just before


class Committed(Event, topic="storage.committed"):
    """Commits that somebody waited for came out: how long each took, in seconds.

    Those of half a second are told together. `failed` are those that raised, by the error's
    class, e.g. "Fenced".
    """

    seconds: tuple[float, ...]
    failed: dict[str, int]
