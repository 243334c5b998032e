"""What others may say to processes: spawn, wait, signal, write to them, look at them."""

from .doubts import DoubtfulCall, ListDoubts, Resolve
from .errors import (
    ConcurrentSyscalls,
    MailboxFull,
    NoSuchProcess,
    NoSuchProgram,
    NoSuchQuestion,
    NotInDoubt,
    OutcomeUnknown,
    ProcessFailed,
    ProgramDiverged,
)
from .life import ProcessExited, ProcessParked, ProcessResumed, ProcessSpawned, Resume, Spawn, Wait
from .origin import Epilogue, Origin, intended
from .questions import Answer, Ask, Asked, ListQuestions, Withdraw
from .signals import Checkpoint, Follow, Kill, Send, Signal
from .status import (
    Blocked,
    CountLive,
    Doing,
    Inspect,
    ListProcesses,
    LiveKind,
    OpenStream,
    ProcessStatus,
    ReadLive,
)
from .syscalls import StepDone, SyscallBegan, SyscallDone, SyscallRepeated

__all__ = [
    "Answer",
    "Ask",
    "Asked",
    "Blocked",
    "Checkpoint",
    "ConcurrentSyscalls",
    "CountLive",
    "Doing",
    "DoubtfulCall",
    "Epilogue",
    "Follow",
    "Inspect",
    "Kill",
    "ListDoubts",
    "ListProcesses",
    "ListQuestions",
    "LiveKind",
    "MailboxFull",
    "NoSuchProcess",
    "NoSuchProgram",
    "NoSuchQuestion",
    "NotInDoubt",
    "OpenStream",
    "Origin",
    "OutcomeUnknown",
    "ProcessExited",
    "ProcessFailed",
    "ProcessParked",
    "ProcessResumed",
    "ProcessSpawned",
    "ProcessStatus",
    "ProgramDiverged",
    "ReadLive",
    "Resolve",
    "Resume",
    "Send",
    "Signal",
    "Spawn",
    "StepDone",
    "SyscallBegan",
    "SyscallDone",
    "SyscallRepeated",
    "Wait",
    "Withdraw",
    "intended",
]
