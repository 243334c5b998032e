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
    AddProcess,
    AddVector,
    ClaimProcesses,
    Commit,
    Entry,
    Fenced,
    FindMemories,
    FindProcesses,
    FindSimilar,
    FindUnembedded,
    Intend,
    Key,
    KeyTaken,
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
    SchemaMismatch,
    Settle,
    StorageError,
    StorageRefused,
    StorageUnavailable,
    TakeLetter,
)

__all__ = [
    "ENDED",
    "AddMemory",
    "AddPage",
    "AddProcess",
    "AddVector",
    "ClaimProcesses",
    "Commit",
    "Entry",
    "Fenced",
    "FindMemories",
    "FindProcesses",
    "FindSimilar",
    "FindUnembedded",
    "Intend",
    "Key",
    "KeyTaken",
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
    "SchemaMismatch",
    "Settle",
    "StorageDriver",
    "StorageError",
    "StorageRefused",
    "StorageUnavailable",
    "TakeLetter",
]


class StorageDriver(Protocol):
    """Where the log is. Seven methods."""

    async def start(self) -> None:
        """Connect, and bring the schema up to date."""

    async def run(self) -> None:
        """What goes on beside the calls: writing commits, keeping the lease. Ends when cut."""

    async def stop(self) -> None:
        """Release everything, processes too; safe after a failed start."""

    async def new_pid(self) -> Pid:
        """A process number that nobody has had."""
        ...

    async def commit(self, commit: Commit) -> None:
        """All writes or none. Raises Fenced when `epoch` is not the process's newest."""

    async def claim(self, claim: ClaimProcesses) -> tuple[ProcessRecord, ...]:
        """Take over processes that nobody owns, by the database's clock."""
        ...

    async def read(self, query: Request[R]) -> R:
        """Read back what was committed."""
        ...
