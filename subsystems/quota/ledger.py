"""What this kernel knows of the accounts that are bounded; storage has the last word."""

import asyncio
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from ..storage.messages import Account
from .messages import ENDS_AT, PROCESS


class Limit:
    """A bounded account, and those who wait until something is given back, oldest first."""

    __slots__ = ("account", "reserved", "used", "waiting")

    def __init__(self, account: Account) -> None:
        self.waiting: dict[int, tuple[int, asyncio.Future[None]]] = {}
        self.learn(account)

    def learn(self, account: Account) -> None:
        self.account, self.used, self.reserved = account, account.used, account.reserved

    @property
    def ceiling(self) -> int:
        return self.account.ceiling or 0

    @property
    def left(self) -> int:
        """When all that is reserved would be given back."""
        return self.ceiling - self.used

    @property
    def free(self) -> int:
        return self.ceiling - self.used - self.reserved

    def wait(self, call: int, amount: int) -> "asyncio.Future[None]":
        """Done when so much may be free, or never will be. Who asks again keeps its place."""
        bell = asyncio.get_running_loop().create_future()
        self.waiting[call] = (amount, bell)
        return bell

    def wake(self) -> None:
        """As many as fit, in their order; a call that has gone away by then is no harm."""
        free = self.free
        for call, (amount, bell) in tuple(self.waiting.items()):
            if amount <= self.left:
                if amount > free:
                    return
                free -= amount
            del self.waiting[call]
            _ring(bell)


def _ring(bell: "asyncio.Future[None]") -> None:
    if not bell.done():
        bell.set_result(None)


class Need(NamedTuple):
    """A call may use so much of a limit."""

    limit: Limit
    amount: int


class Ledger:
    """The limits, by scope and by what they count."""

    def __init__(self) -> None:
        self._limits: dict[str, dict[str, Limit]] = {}
        self.accounts: tuple[Account, ...] = ()
        self.known: frozenset[str] = frozenset()
        """Scopes that storage has accounts of, bounded or not."""
        self.processes: frozenset[str] = frozenset()
        """Those of them that are a process's."""

    def learn(self, accounts: tuple[Account, ...]) -> None:
        """These are all there are. Who waits at one that is still there goes on waiting."""
        former, self._limits, self.accounts = self._limits, {}, accounts
        known = set()
        for account in accounts:
            known.add(account.scope)
            limit = former.get(account.scope, {}).pop(account.what, None)
            if account.ceiling is None:
                former.setdefault(account.scope, {})[account.what] = limit or Limit(account)
                continue
            limit = limit or Limit(account)
            limit.learn(account)
            limit.wake()
            self._limits.setdefault(account.scope, {})[account.what] = limit
        self.known = frozenset(known)
        self.processes = frozenset(scope for scope in known if scope.startswith(PROCESS))
        for limit in (limit for gone in former.values() for limit in gone.values()):
            for _, bell in limit.waiting.values():
                _ring(bell)

    def __bool__(self) -> bool:
        return bool(self._limits)

    def of(self, scopes: Iterable[str]) -> tuple[Limit, ...]:
        """All limits of these scopes."""
        return tuple(limit for scope in scopes for limit in self._limits.get(scope, {}).values())


def earliest(limits: Sequence[Limit]) -> Limit | None:
    """The one that is over first, of those that are moments."""
    ends = [limit for limit in limits if limit.account.what == ENDS_AT]
    return min(ends, key=lambda limit: limit.ceiling) if ends else None


def short(needs: Sequence[Need]) -> Need | None:
    """One that does not fit: rather one that never will than one that only has to wait."""
    tight = [need for need in needs if need.amount > need.limit.free]
    return next((n for n in tight if n.amount > n.limit.left), tight[0]) if tight else None


def hold(needs: Sequence[Need]) -> None:
    """Reserved, as far as this kernel is concerned."""
    for limit, amount in needs:
        limit.reserved += amount


def give_back(needs: Sequence[Need], used: Sequence[int] = ()) -> None:
    """What was held of each; and what was used, if anything, is used."""
    for place, (limit, amount) in enumerate(needs):
        limit.reserved = max(0, limit.reserved - amount)
        limit.used += used[place] if used else 0
        if limit.waiting:
            limit.wake()
