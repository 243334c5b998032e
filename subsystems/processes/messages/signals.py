"""What reaches a process from outside: letters and signals."""

from typing import Literal

from pydantic import Field, JsonValue

from ....kernel.message import Request
from ...storage.messages import Pid

Signal = Literal["TERM", "KILL", "STOP", "CONT"]


class Send(Request[None], topic="process.send", effect="once"):
    """Put a letter into a process's mailbox. Raises MailboxFull, NoSuchProcess."""

    to: Pid
    body: JsonValue


class Kill(Request[None], topic="process.kill", effect="idempotent"):
    """Send a signal, to a `group` with all descendants. It is carried out, wherever it runs.

    TERM lets it clean up for `grace_s` seconds, KILL does not. STOP parks it until CONT. A
    process that has ended ignores signals. TERM needs the process's program: where no living
    kernel has it, it waits for one.
    """

    pid: Pid
    signal: Signal = "TERM"
    grace_s: float = Field(default=5.0, ge=0)
    group: bool = False


class Checkpoint(Request[None], topic="process.checkpoint", effect="idempotent"):
    """Bring a process to rest: out of memory as soon as it only waits, or between two syscalls.

    What it has said is committed then, and it goes on from there by replay, at once or when
    what it waits for comes. A process that no kernel has in memory rests already.
    """

    pid: Pid


class Follow(Request[None], topic="process.follow", effect="idempotent"):
    """Have `storage.rang` told of what this process commits, for so many seconds.

    By whoever has the process now; ask again when that is another, which its epoch tells.
    """

    pid: Pid
    for_s: float = Field(default=60.0, gt=0)
