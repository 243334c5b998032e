"""What a storage driver must implement.

A driver is a dataclass whose fields are its config. `read` answers each query of
`storage.messages` with that query's reply type.
"""

from typing import Protocol

from ...kernel.message import R, Request
from .messages import (
    ENDED,
    AddMemory,
    AddPage,
    Commit,
    Entry,
    Fenced,
    FindMemories,
    FindProcesses,
    Intend,
    Letter,
    Memory,
    Page,
    Pid,
    PostLetter,
    ProcessRecord,
    ReadLetters,
    ReadLog,
    ReadPages,
    ReadProcess,
    SaveProcess,
    Settle,
    TakeLetter,
)

__all__ = [
    "ENDED",
    "AddMemory",
    "AddPage",
    "Commit",
    "Entry",
    "Fenced",
    "FindMemories",
    "FindProcesses",
    "Intend",
    "Letter",
    "Memory",
    "Page",
    "Pid",
    "PostLetter",
    "ProcessRecord",
    "ReadLetters",
    "ReadLog",
    "ReadPages",
    "ReadProcess",
    "Request",
    "SaveProcess",
    "Settle",
    "StorageDriver",
    "TakeLetter",
]


class StorageDriver(Protocol):
    """Where the log is. Five methods."""

    async def start(self) -> None:
        """Connect, and bring the schema up to date."""

    async def stop(self) -> None:
        """Release everything; safe after a failed start."""

    async def new_pid(self) -> Pid:
        """A process number that nobody has had."""
        ...

    async def commit(self, commit: Commit) -> None:
        """All writes or none. Raises Fenced when `epoch` is not the process's newest."""

    async def read(self, query: Request[R]) -> R:
        """Read back what was committed."""
        ...
