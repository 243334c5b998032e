"""Who is calling: what the kernel carries with every call that a process makes."""

from typing import Any, NamedTuple

from ....kernel.call import Call
from ....kernel.message import Effect
from ...storage.messages import Key, Pid, ProcessClass, Write
from ...tools.messages import CallTool


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

    `process_class`, `priority` (0 first), `tenant` and `user` are set at spawn; the scheduler, the
    limiter, the policy and the accounts go by them. `key` is the syscall's place in the log, `attempts` how
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
    user: str = ""
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
