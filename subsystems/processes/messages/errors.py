"""What can go wrong with processes, and in their programs."""

from typing import Self

from ....kernel.errors import KernelError
from ...storage.messages import Pid, ProcessRecord, State


class ProcessFailed(KernelError):
    """A process did not exit well: `state` says how it ended, `kind` and `error` of what.

    `kind` is the error's class, e.g. "ToolFailed", or "" for a process that was killed.
    """

    def __init__(self, pid: Pid, program: str, state: State, error: str, kind: str = "") -> None:
        told = f"{kind}: {error}" if kind else error
        super().__init__(f"process {pid} ({program}) {state}: {told}")
        self.pid, self.program, self.state = pid, program, state
        self.error, self.kind = error, kind

    @classmethod
    def of(cls, record: ProcessRecord) -> Self:
        """What there is to say of a process without a result."""
        told, kind = record.error or "no result", record.error_kind or ""
        return cls(record.pid, record.program, record.state, told, kind)


class NoSuchProcess(KernelError):
    """There is no process of this number, key or name."""


class NoSuchProgram(KernelError):
    """This kernel does not have the program that a process runs."""


class ProgramDiverged(KernelError):
    """The program does not say what the log says it said; it cannot be resumed."""


class OutcomeUnknown(KernelError):
    """A call had begun when its kernel was lost, and nobody can say whether it was done."""


class NotInDoubt(KernelError):
    """The process does not wait to be told how a call came out."""


class NoSuchQuestion(KernelError):
    """There is no such question, or no such choice, or it has been answered."""


class ConcurrentSyscalls(KernelError):
    """Two syscalls at once on one path; run them in `parallel`, so that each has its own."""


class MailboxFull(KernelError):
    """The mailbox holds as many letters as it may; the receiver is not keeping up."""
