"""AOS Kernel: an operating-system kernel for AI agents."""

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
from aoskernel.subsystems.tools.tool import IdempotencyKey, tool

__version__ = "0.1.0"

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
    "Service",
    "assistant",
    "attach",
    "handles",
    "program",
    "spawn",
    "subscribes",
    "tool",
]
