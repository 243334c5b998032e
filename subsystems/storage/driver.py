"""What a storage driver must implement.

A driver is a dataclass whose fields are its config. `read` answers each query of
`storage.messages` with that query's reply type. All words that a driver needs are here: those of
storage, those of its chains and those of who verifies them.
"""

from collections.abc import AsyncGenerator, Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from ...kernel.message import R, Request
from .chain import *
from .messages import *
from .verifying import *

Query = Request
"""A question to what was committed."""
Ring = Callable[[Iterable[Pid] | None], None]
"""Says that something has happened to these processes; None when it may be any of them."""
TellSeats = Callable[[SeatsCalled], None]
"""Says that a holder of shared places waits, or has given some back."""


class StorageDriver(Protocol):
    """Where the log is. Seven methods."""

    async def start(self) -> None:
        """Connect, and bring the schema up to date."""

    async def run(self, ring: Ring) -> None:
        """What goes on beside the calls: writing commits, keeping the lease. Ends when cut.

        `ring` for what happens to processes by commits of others, and for whom a commit of
        ours has woken without saying so: who waits for a process that has ended, or is bound
        to it.
        """

    async def stop(self) -> None:
        """Release everything, processes too; safe after a failed start."""

    async def new_pid(self) -> Pid:
        """A process number that nobody has had."""
        ...

    async def commit(self, commit: Commit) -> None:
        """All writes or none. Raises Fenced unless this kernel owns the process, in this epoch."""

    async def claim(self, claim: ClaimProcesses) -> tuple[ProcessRecord, ...]:
        """Take over processes that nobody owns, by the database's clock.

        Of those whose owner has only fallen silent, that owner's `ring` tells.
        """
        ...

    async def read(self, query: Query[R]) -> R:
        """Read back what was committed."""
        ...


@runtime_checkable
class Forgetful(StorageDriver, Protocol):
    """A driver that can delete what is over, so that its store need not grow for ever."""

    async def forget(self, order: ForgetExpired) -> tuple[Expired, ...]:
        """Delete them, all of each or nothing, beside all commits. Raises StorageError."""
        ...


@dataclass(frozen=True, kw_only=True)
class KernelSeen:
    """A kernel that has a place in the database, until then, in seconds since 1970.

    `os_pid` is its process on its machine, 0 where that is unknown; `processes` counts those it
    owns, `programs` are the names and versions it has. One whose time is over is silent.
    """

    number: int
    until: float
    lives: bool
    os_pid: int
    processes: int
    programs: tuple[tuple[str, str], ...]


@dataclass(frozen=True, kw_only=True)
class Survey:
    """How a database is, from outside: its schema, and what is in the namespace.

    `where` may be shown. `applied`, `missing` and `unknown` name migrations, "0001_log";
    unknown ones are newer than this code. `fault` is why it cannot be worked with, and what to
    do. The rest is empty while there is no schema, `server` while there is no database.
    """

    where: str
    server: str
    namespace: str
    applied: tuple[str, ...]
    missing: tuple[str, ...]
    unknown: tuple[str, ...]
    fault: str | None
    kernels: tuple[KernelSeen, ...] = ()
    states: Mapping[State, int]


@runtime_checkable
class Surveyable(StorageDriver, Protocol):
    """A driver whose store others see too, and which outlives the program that wrote to it."""

    async def survey(self) -> Survey:
        """Look, started or not, and change nothing; `stop` ends it. Raises StorageError."""
        ...


@runtime_checkable
class SharesRates(StorageDriver, Protocol):
    """A driver that keeps rates which kernels share; it answers ReadRates too."""

    async def draw(self, draw: DrawRate) -> Drawn:
        """Take it at once and by its own clock, or say when it will be there."""
        ...


@runtime_checkable
class SharesSeats(StorageDriver, Protocol):
    """A driver that keeps places which kernels share; it answers ReadSeats too."""

    async def hold(self, hold: HoldSeats) -> Held:
        """Do so at once, or say when it may be asked again. A word that comes late is nothing."""
        ...

    async def hear_seats(self, tell: TellSeats) -> None:
        """Tell of holders, this kernel's too, that wait or have given back. Ends when cut.

        What nobody was told of is found out by asking again.
        """


@runtime_checkable
class Audited(StorageDriver, Protocol):
    """A driver whose log is chained and sealed, so that one can see that nobody has changed it."""

    def trail(self, pid: Pid | None = None) -> AsyncGenerator[Item, None]:
        """Started or not, as of one moment: the seals, where processes stand, and their links.

        In the order in which a Verifier takes them; with `pid` the links of that process only.
        Raises StorageError.
        """
        ...

    async def erase(self, order: EraseBodies) -> int:
        """Leave of these bodies only what stands for them. Raises StorageError."""
        ...
