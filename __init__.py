"""AOS Kernel: an operating-system kernel for AI agents.

Names are imported when they are first used, so that a command which needs none is quick.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from aoskernel.kernel import (
        BootError,
        ConfigError,
        Event,
        Kernel,
        KernelError,
        KernelFailed,
        Request,
        Service,
        handles,
        subscribes,
    )
    from aoskernel.subsystems.limiter.admission import admitted
    from aoskernel.subsystems.processes.assistant import assistant
    from aoskernel.subsystems.processes.messages import ProcessFailed
    from aoskernel.subsystems.processes.program import (
        Exit,
        Process,
        ProcessRef,
        Program,
        attach,
        program,
        spawn,
    )
    from aoskernel.subsystems.tools.tool import IdempotencyKey, Sensitive, Touches, tool

__version__ = "0.1.0"

_DOORS = {
    "kernel": (
        *("BootError", "ConfigError", "Event", "Kernel", "KernelError", "KernelFailed"),
        *("Request", "Service", "handles", "subscribes"),
    ),
    "subsystems.limiter.admission": ("admitted",),
    "subsystems.processes.assistant": ("assistant",),
    "subsystems.processes.messages": ("ProcessFailed",),
    "subsystems.processes.program": (
        *("Exit", "Process", "ProcessRef", "Program", "attach", "program", "spawn"),
    ),
    "subsystems.tools.tool": ("IdempotencyKey", "Sensitive", "Touches", "tool"),
}

__all__ = [
    "BootError",
    "ConfigError",
    "Event",
    "Exit",
    "IdempotencyKey",
    "Kernel",
    "KernelError",
    "KernelFailed",
    "Process",
    "ProcessFailed",
    "ProcessRef",
    "Program",
    "Request",
    "Sensitive",
    "Service",
    "Touches",
    "admitted",
    "assistant",
    "attach",
    "handles",
    "program",
    "spawn",
    "subscribes",
    "tool",
]


def __getattr__(name: str) -> Any:
    for door, names in _DOORS.items():
        if name in names:
            found = globals()[name] = getattr(import_module(f"aoskernel.{door}"), name)
            return found
    raise AttributeError(f"module 'aoskernel' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
