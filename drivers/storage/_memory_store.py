"""All that is kept in memory, by what it is about."""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field

from ...subsystems.storage import driver as d
from ._memory_accounts import Accounts
from ._memory_calls import Calls
from ._memory_memories import Memories
from ._memory_process import Process
from ._memory_rates import Rates
from ._memory_records import Records
from ._memory_seats import Seats


@dataclass(slots=True)
class Store:
    """Processes by number and by key; `doors` ring for the kernels that share all this."""

    processes: dict[d.Pid, Process] = field(default_factory=dict)
    keys: dict[str, d.Pid] = field(default_factory=dict)
    memories: Memories = field(default_factory=Memories)
    records: Records = field(default_factory=Records)
    calls: Calls = field(default_factory=Calls)
    accounts: Accounts = field(default_factory=Accounts)
    rates: Rates = field(default_factory=Rates)
    seats: Seats = field(default_factory=Seats)
    programs: set[tuple[str, str]] = field(default_factory=set)
    doors: list[d.Ring] = field(default_factory=list)
    letters: Iterator[int] = field(default_factory=lambda: itertools.count(1))
    """Their numbers."""

    def of(self, pid: d.Pid) -> Process:
        """What is kept of a process; nothing of one that is not there."""
        return self.processes.get(pid) or Process()

    def has_ended(self, pid: d.Pid) -> bool:
        return self.of(pid).has_ended
