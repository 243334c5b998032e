"""How `aosk` ends: its exit codes, and which error means which."""

from collections.abc import Iterator
from enum import IntEnum
from typing import Any, Self


class ExitCode(IntEnum):
    """The exit codes, for scripts to rely on."""

    meaning: str

    def __new__(cls, number: int, meaning: str) -> Self:
        code = int.__new__(cls, number)
        code._value_, code.meaning = number, meaning
        return code

    OK = 0, "done"
    FAILED = 1, "the agent or the kernel failed"
    USAGE = 2, "wrong usage"
    CONFIG = 3, "the configuration cannot be used"
    MODEL_MISSING = 4, "the model is not here"
    REFUSED = 5, "refused by the policy"
    TOOL = 6, "a tool failed, such as a file outside the workspace"
    INTERRUPTED = 130, "interrupted"


EPILOG = "Exit codes: " + "; ".join(f"{code.value} {code.meaning}" for code in ExitCode) + "."


class Stop(Exception):
    """A command cannot go on; the message says why and what to do. `kind` names it in JSON."""

    def __init__(self, message: str, code: ExitCode, kind: str = "") -> None:
        super().__init__(message)
        self.code = code
        self.kind = kind or code.name.lower()


def as_stop(error: Exception) -> Stop:
    """What an error means to whoever typed the command."""
    from ...subsystems.processes.messages import ProcessFailed

    if isinstance(error, Stop):
        return error
    if isinstance(error, ProcessFailed):
        return _stop_of(error.state, error.kind, error.error)
    return Stop(str(error) or repr(error), _code(type(error)), type(error).__name__)


def _stop_of(state: str, name: str, told: str) -> Stop:
    """What a process's end means."""
    if state == "killed":
        return Stop(f"the agent was {told}", ExitCode.FAILED, state)
    kind = next((kind for kind in _kinds() if kind.__name__ == name), None)
    code = ExitCode.FAILED if kind is None else _code(kind)
    sentence = f"{name}: {told}" if name and kind is None else told
    return Stop(f"the agent {state}: {sentence}", code, "" if kind is None else name)


def _code(kind: type[Exception]) -> ExitCode:
    from ...kernel import BootError, ConfigError, Refused
    from ...subsystems.llm.driver import ModelMissing
    from ...subsystems.tools.messages import ToolError

    codes: dict[type[Exception], ExitCode] = {
        ConfigError: ExitCode.CONFIG,
        BootError: ExitCode.CONFIG,
        ModelMissing: ExitCode.MODEL_MISSING,
        Refused: ExitCode.REFUSED,
        ToolError: ExitCode.TOOL,
    }
    return next((code for base, code in codes.items() if issubclass(kind, base)), ExitCode.FAILED)


def _kinds() -> Iterator[type[Any]]:
    """Every kernel error that is loaded."""
    from ...kernel import KernelError

    todo: list[type[Any]] = [KernelError]
    while todo:
        kind = todo.pop()
        todo += kind.__subclasses__()
        yield kind
