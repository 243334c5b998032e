"""What processes are doing: one, all there are, those in this kernel's memory."""

from typing import Any

from pydantic import Field

from ....kernel.message import Request, Value
from ...storage.messages import Pid, ProcessClass, ProcessRecord


class Blocked(Value):
    """What a process is waiting in: a syscall's kind, e.g. "receive", since when (kernel time)."""

    kind: str
    since: float


class ProcessStatus(Value):
    """A process as `list` shows it: its record, and what it is doing if it is live here.

    A `stranded` one goes on as soon as a kernel starts that has its program; no living one has.
    """

    record: ProcessRecord
    live: bool
    doing: Blocked | None = None
    stranded: bool = False

    @property
    def pid(self) -> Pid:
        return self.record.pid


class Inspect(Request[ProcessStatus], topic="process.inspect", effect="none"):
    """One process, by number or key."""

    pid: Pid | None = None
    key: str | None = None


class ListProcesses(Request[tuple[ProcessStatus, ...]], topic="process.list", effect="none"):
    """The processes with all of these properties, by number."""

    name: str | None = None
    role: str | None = None
    tag: str | None = None
    parent: Pid | None = None
    tenant: str | None = None
    ended: bool = False
    limit: int = 1000


class LiveKind(Value):
    """How many processes of one kind are in a kernel's memory.

    `doing` is the syscall they are in, e.g. "think" or "receive", or "work".
    """

    program: str
    process_class: ProcessClass
    doing: str
    processes: int


class CountLive(Request[tuple[LiveKind, ...]], topic="process.count_live", effect="none"):
    """The processes in this kernel's memory, by kind."""


class Doing(Value):
    """What one process in this kernel's memory is doing, as in LiveKind."""

    pid: Pid
    doing: str


class ReadLive(Request[tuple[Doing, ...]], topic="process.read_live", effect="none"):
    """The processes in this kernel's memory, at most `limit`: those that work before the rest."""

    limit: int = Field(default=200, ge=0)


class OpenStream(Request[Any], topic="process.open_stream", effect="none"):
    """An async iterator over a process's `Delta`s from now on, complete and back-pressured."""

    pid: Pid
