"""Which limits a call stands under: those of its process's line, its tenant, its model, of all."""

from typing import TYPE_CHECKING, TypeVar

import anyio

from ..processes.messages import Origin
from ..storage.messages import Pid, ReadAccounts, ReadProcess
from .ledger import Ledger, Limit
from .messages import NAMESPACE, of_process, of_tenant

if TYPE_CHECKING:
    from .service import Quotas

K = TypeVar("K")
V = TypeVar("V")

MOST_KNOWN = 10_000
"""Callers and lines of descent that are kept; then they are looked up anew."""
STALE_S = 0.25
"""What other kernels have done since then may change an answer."""

Who = tuple[Pid | None, str, str]
"""A process, its tenant, the address that it calls."""


class Books:
    """The ledger, and who is written down where in it. A swapped service hands them over."""

    def __init__(self) -> None:
        self.ledger = Ledger()
        self._limits: dict[Who, tuple[Limit, ...]] = {}
        self._lines: dict[Pid, tuple[Pid, ...]] = {}
        self._reading = anyio.Lock(fast_acquire=True)
        self._begun = 0
        self._read_at = float("-inf")

    async def learn(self, service: "Quotas") -> None:
        """How the accounts stand in storage; what somebody has begun to read since is enough."""
        begun = self._begun
        async with self._reading:
            if self._begun > begun:
                return
            self._begun, self._read_at = self._begun + 1, service.bus.time()
            self.ledger.learn(await service.request(ReadAccounts()))
            self._limits.clear()

    def learn_from(self, others: "Books") -> None:
        """As others have just read it."""
        self.ledger.learn(others.ledger.accounts)
        self._limits.clear()

    def is_stale(self, now: float) -> bool:
        return now >= self._read_at + STALE_S

    async def limits(self, service: "Quotas", origin: Origin, address: str) -> tuple[Limit, ...]:
        """All that bound this caller at this address."""
        if not (self.ledger or origin.quotas):
            return ()
        if any(of_process(pid) not in self.ledger.known for pid in origin.quotas):
            await self.learn(service)  # it is younger than what is known
        who = (origin.pid, origin.tenant, address)
        found = self._limits.get(who)
        if found is None:
            line = await self._line(service, origin)
            scopes = (NAMESPACE, of_tenant(origin.tenant), of_tenant(origin.tenant, address))
            found = self.ledger.of((*scopes, *map(of_process, line)))
            room(self._limits)[who] = found
        return found

    async def _line(self, service: "Quotas", origin: Origin) -> tuple[Pid, ...]:
        """The process and its ancestors; only those born with a quota where no other has one."""
        born = set(map(of_process, origin.quotas))
        if origin.pid is None or self.ledger.processes <= born:
            return origin.quotas
        line = self._lines.get(origin.pid)
        if line is None:
            line = room(self._lines)[origin.pid] = await _ancestry(service, origin.pid)
        return line


async def _ancestry(service: "Quotas", pid: Pid) -> tuple[Pid, ...]:
    line: list[Pid] = []
    above: Pid | None = pid
    while above is not None and above not in line:
        line.append(above)
        record = await service.request(ReadProcess(pid=above))
        above = None if record is None else record.parent
    return tuple(line)


def room(known: dict[K, V]) -> dict[K, V]:
    """The same, with room for one more."""
    if len(known) >= MOST_KNOWN:
        known.clear()
    return known
