"""Accounts that quotas bound, what is reserved of them and what was spent, in dictionaries."""

from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, fields, replace
from operator import add, attrgetter

from ...subsystems.storage import driver as d

_Name = tuple[str, str]
"""Scope and what."""
_Use = tuple[d.Pid, str, str, str, str]
"""Whose, of which tenant and model, on which day, in which currency."""
_BY: dict[d.SpentBy, Callable[[_Use], str]] = {
    "agent": lambda use: str(use[0]),
    "tenant": lambda use: use[1],
    "model": lambda use: use[2],
    "day": lambda use: use[3],
}


@dataclass(slots=True)
class Accounts:
    """Balanced at each commit, as the database does it."""

    _accounts: dict[_Name, d.Account] = field(default_factory=dict)
    _configured: dict[_Name, int | None] = field(default_factory=dict)
    _reserved: dict[int, tuple[d.Pid, tuple[d.Charge, ...]]] = field(default_factory=dict)
    _spent: dict[_Use, d.Spent] = field(default_factory=dict)

    def check(self, writes: Iterable[d.Write]) -> None:
        """Raises Overdrawn when not all that they reserve fits."""
        held: dict[_Name, int] = defaultdict(int)
        for write in writes:
            for charge in write.charges if isinstance(write, d.Reserve) else ():
                held[charge.scope, charge.what] += charge.amount
        for name, amount in held.items():
            account = self._accounts.get(name)
            if account is None or account.ceiling is None or not amount:
                continue
            if account.used + account.reserved + amount > account.ceiling:
                raise d.Overdrawn(f"a reservation does not fit: {amount} more for {account}")

    def put(self, write: d.PutAccount) -> None:
        name = (write.scope, write.what)
        if write.configured:
            if self._configured.get(name) == write.ceiling:
                return
            self._configured[name] = write.ceiling
        account = self._accounts.setdefault(
            name, d.Account(scope=write.scope, what=write.what, ceiling=None)
        )
        account.ceiling, account.action = write.ceiling, write.action
        account.instead = write.instead
        _balance(account)

    def lift(self, write: d.RaiseCeiling) -> None:
        account = self._accounts.get((write.scope, write.what))
        if account is not None and account.ceiling is not None:
            account.ceiling += write.by
            _balance(account)

    def reserve(self, pid: d.Pid, write: d.Reserve) -> None:
        known = tuple([c for c in write.charges if (c.scope, c.what) in self._accounts])
        self._reserved[write.ticket] = (pid, known)
        for charge in known:
            self._accounts[charge.scope, charge.what].reserved += charge.amount

    def spend(self, pid: d.Pid, write: d.Spend) -> None:
        if write.charges:
            self._settle(write)
        if write.spent is None:
            return
        use = (pid, write.tenant, write.model, write.day, write.spent.currency)
        before = self._spent.get(use)
        self._spent[use] = write.spent if before is None else _sum(before, write.spent)

    def _settle(self, write: d.Spend) -> None:
        _, held = self._reserved.pop(write.ticket, (None, ()))
        for charge in held:
            self._accounts[charge.scope, charge.what].reserved -= charge.amount
        for charge in write.charges:
            account = self._accounts.get((charge.scope, charge.what))
            if account is not None:
                account.used += charge.amount
                _balance(account)

    def assume(self, is_lost: Callable[[d.Pid], bool]) -> None:
        """Nobody will ever say what the calls of these have used: all that was reserved."""
        lost = [ticket for ticket, (pid, _) in self._reserved.items() if is_lost(pid)]
        for ticket in lost:
            for charge in self._reserved.pop(ticket)[1]:
                account = self._accounts[charge.scope, charge.what]
                account.used += charge.amount
                account.reserved -= charge.amount
                account.lost += charge.amount

    def holders(self) -> set[str]:
        """The scopes of those who have reserved something still, or of whom it is reserved."""
        held = {f"process:{pid}" for pid, _ in self._reserved.values()}
        return held.union(c.scope for _, charges in self._reserved.values() for c in charges)

    def close(self, pid: d.Pid) -> None:
        """The accounts of a process that is gone; what it has spent stays."""
        for name in [name for name in self._accounts if name[0] == f"process:{pid}"]:
            del self._accounts[name]
            self._configured.pop(name, None)

    def read(self) -> tuple[d.Account, ...]:
        return tuple(replace(account) for _, account in sorted(self._accounts.items()))

    def spent(self, query: d.ReadSpent) -> tuple[tuple[str, d.Spent], ...]:
        sums: dict[tuple[str, str], d.Spent] = {}
        for use, spent in self._spent.items():
            if query.since is None or use[3] >= query.since:
                of = (_BY[query.by](use), spent.currency)
                sums[of] = _sum(sums[of], spent) if of in sums else spent
        order = (lambda of: (int(of[0]), of[1])) if query.by == "agent" else (lambda of: of)
        return tuple((of[0], sums[of]) for of in sorted(sums, key=order))


def _balance(account: d.Account) -> None:
    """By how much it is overdrawn now."""
    over = 0 if account.ceiling is None else account.used + account.reserved - account.ceiling
    account.overdrawn = max(0, over)


def _sum(one: d.Spent, other: d.Spent) -> d.Spent:
    sums = map(add, _AMOUNTS(one), _AMOUNTS(other))
    return d.Spent(**dict(zip(_NAMES, sums, strict=True)), currency=one.currency)


_NAMES = tuple(field.name for field in fields(d.Spent) if field.name != "currency")
_AMOUNTS = attrgetter(*_NAMES)
