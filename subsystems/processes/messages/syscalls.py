"""What is told of a program at work: its steps and its syscalls."""

from ....kernel.message import Event
from ...storage.messages import Key, Pid


class StepDone(Event, topic="process.step_done"):
    """A process took a step, in `seconds`; one that was cut and is taken again is told once."""

    pid: Pid
    step: int
    failed: bool
    seconds: float


class SyscallBegan(Event, topic="process.syscall_began"):
    """A process says something, e.g. kind "think" or "call:read_file"."""

    pid: Pid
    key: Key
    kind: str


class SyscallRepeated(Event, topic="process.syscall_repeated"):
    """A syscall that a crash had cut is made again; it has been begun `attempts` times before."""

    pid: Pid
    key: Key
    kind: str
    attempts: int


class SyscallDone(Event, topic="process.syscall_done"):
    """A syscall came out, after `seconds`; one that the log answers is not told again."""

    pid: Pid
    key: Key
    kind: str
    failed: bool
    seconds: float
