"""What others may say to processes: spawn, wait, signal, write to them, look at them."""

from typing import Any, Literal, NamedTuple, Self

from pydantic import Field, JsonValue

from ...kernel.call import Call
from ...kernel.errors import KernelError
from ...kernel.message import Effect, Event, Request, Value
from ..policy.messages import Bounds
from ..quota.messages import Quota
from ..storage.messages import Key, Pid, ProcessClass, ProcessRecord, Question, State, Write
from ..tools.messages import CallTool

Signal = Literal["TERM", "KILL", "STOP", "CONT"]


class Epilogue:
    """What guards leave of a syscall, until it is committed with the outcome."""

    __slots__ = ("_ended", "_writes")

    def __init__(self) -> None:
        self._writes: tuple[Write, ...] = ()
        self._ended = False

    def add(self, write: Write) -> bool:
        """False when the outcome has been taken already: by then nobody else will commit it."""
        if not self._ended:
            self._writes = (*self._writes, write)
        return not self._ended

    def end(self) -> tuple[Write, ...]:
        """All that was left, for whoever commits it; once."""
        taken, self._writes, self._ended = self._writes, (), True
        return taken

    def put_back(self, writes: tuple[Write, ...]) -> None:
        """That commit was refused: another outcome is to come."""
        self._writes, self._ended = (*writes, *self._writes), False


class Origin(NamedTuple):
    """Who is calling: carried by the kernel with every call a process makes.

    `process_class`, `priority` (0 first) and `tenant` are set at spawn; the scheduler, the
    policy and the accounts go by them. `key` is the syscall's place in the log, `attempts` how
    often it was begun there in earlier lives. `quotas` are those of its ancestors, and itself,
    that were born with one, `bounds` what it may do, see Bounds. `carries` is what guards give
    along to be committed with the intent of this call, `epilogue` what they leave to be
    committed with the syscall's outcome. `rule` is that by which the call is made, and
    `approved` are marks of calls that a human has approved, see NeedsApproval.
    """

    pid: Pid | None = None
    program: str = ""
    process_class: ProcessClass = "normal"
    priority: int = 50
    tenant: str = "default"
    epoch: int = 0
    key: Key = ""
    kind: str = ""
    fingerprint: str = ""
    attempts: int = 0
    quotas: tuple[Pid, ...] = ()
    carries: list[Write] | None = None
    epilogue: Epilogue | None = None
    bounds: tuple[str, ...] = ()
    rule: str = ""
    approved: tuple[str, ...] = ()

    def __str__(self) -> str:
        return "app" if self.pid is None else f"{self.program}[{self.pid}]"

    def take(self) -> tuple[Write, ...]:
        """What it carries, for whoever commits it; once."""
        if not self.carries:
            return ()
        taken = tuple(self.carries)
        self.carries.clear()
        return taken

    def leave(self, write: Write) -> bool:
        """Have it committed with the outcome. False where there is none to come."""
        return self.epilogue is not None and self.epilogue.add(write)

    def left(self) -> tuple[Write, ...]:
        """What was left, for whoever commits it; once."""
        return () if self.epilogue is None else self.epilogue.end()


def intended(call: Call[Any]) -> Effect | None:
    """The effect that the journal writes down before this call; None where it writes nothing."""
    origin, message = call.origin, call.message
    if not (isinstance(origin, Origin) and origin.pid is not None and origin.key):
        return None
    declared = message.tool_effect if isinstance(message, CallTool) else message.effect
    return None if declared == "none" else declared


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


class DoubtfulCall(Value):
    """A call whose kernel was lost before its outcome, and why nobody knows that."""

    pid: Pid
    key: Key
    kind: str
    attempts: int
    why: str


class Spawn(Request[ProcessRecord], topic="process.spawn", effect="idempotent"):
    """Start a process.

    With a `key` this is idempotent: it gives the process that was once spawned under it,
    running, parked or ended. `program` is the definition itself; on a wire it is its name.
    A `bound` child is sent TERM when its parent ends; others go on without it. What its `quota`
    lets it use, it and its descendants use of its parent's. It and they may do what its `bounds`
    leave of what its parent may.
    """

    program: Any
    state_json: str
    key: str | None = None
    name: str = ""
    role: str = ""
    tags: tuple[str, ...] = ()
    process_class: ProcessClass = "normal"
    priority: int = Field(default=50, ge=0, le=100)
    tenant: str = "default"
    parent: Pid | None = None
    bound: bool = False
    quota: Quota | None = None
    bounds: Bounds | None = None


class Resume(Request[ProcessStatus], topic="process.resume", effect="idempotent"):
    """Go on with a process here, although nobody has called it, if no living kernel has it.

    The reply says whether it is `live` here; a stopped one needs CONT, an ended one has ended.
    Raises NoSuchProcess, NoSuchProgram.
    """

    pid: Pid


class Wait(Request[ProcessRecord], topic="process.wait", effect="none"):
    """Wait until the process has ended; the reply is its last record."""

    pid: Pid


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


class ListDoubts(Request[tuple[DoubtfulCall, ...]], topic="process.list_doubts", effect="none"):
    """The calls that stopped processes are in doubt of, or this process; by process and key."""

    pid: Pid | None = None


class Resolve(Request[None], topic="process.resolve", effect="idempotent"):
    """Say how calls came out that a stopped process is in doubt of.

    They were `done` with this result, or have `failed` with this error, or are to be made
    `again`: those at `keys`, or, without any, the only one. The process goes on when it is in
    no doubt any more. Raises NotInDoubt.
    """

    pid: Pid
    outcome: Literal["done", "failed", "again"]
    result: JsonValue = None
    error: str = ""
    keys: tuple[Key, ...] = ()


class ListProcesses(Request[tuple[ProcessStatus, ...]], topic="process.list", effect="none"):
    """The processes with all of these properties, by number."""

    name: str | None = None
    role: str | None = None
    tag: str | None = None
    parent: Pid | None = None
    tenant: str | None = None
    ended: bool = False
    limit: int = 1000


class Inspect(Request[ProcessStatus], topic="process.inspect", effect="none"):
    """One process, by number or key."""

    pid: Pid | None = None
    key: str | None = None


class Send(Request[None], topic="process.send", effect="once"):
    """Put a letter into a process's mailbox. Raises MailboxFull, NoSuchProcess."""

    to: Pid
    body: JsonValue


class OpenStream(Request[Any], topic="process.open_stream", effect="none"):
    """An async iterator over a process's `Delta`s from now on, complete and back-pressured."""

    pid: Pid


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


class ProcessSpawned(Event, topic="process.spawned"):
    """A process has begun."""

    pid: Pid
    program: str
    name: str
    process_class: ProcessClass
    priority: int


class ProcessExited(Event, topic="process.exited"):
    """A process has ended: exited, failed or killed."""

    pid: Pid
    program: str
    state: State
    error: str | None


class ProcessParked(Event, topic="process.parked"):
    """A process waits for long and has left memory; the next event for it brings it back."""

    pid: Pid
    waits_in: str


class ProcessResumed(Event, topic="process.resumed"):
    """A parked process is back in memory."""

    pid: Pid


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
