"""One call on its way: what it may need, what is held for it, and what it has used."""

import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from ...kernel.call import Call
from ..processes.messages import Origin
from ..storage.messages import Charge, Reserve, Spend, Write
from .ledger import Limit, Need, give_back, hold
from .messages import ENDS_AT
from .uses import Use

ANYONE = Origin()
"""Calls from outside of any process."""


class Passage:
    """A call, from its admission to its settlement.

    `carried` is what its intent is to be committed with; whoever takes it commits it. Until
    then nothing is reserved but in this kernel's own books.
    """

    __slots__ = ("call", "carried", "needs", "origin", "ticket", "use")

    def __init__(self, call: Call[Any], use: Use) -> None:
        self.call, self.use = call, use
        self.origin = call.origin if isinstance(call.origin, Origin) else ANYONE
        self.needs: Sequence[Need] = ()
        self.carried: list[Write] = []
        self.ticket = 0

    def demand(self, limits: Sequence[Limit]) -> None:
        """What it may use of each limit at most. Raises Unbounded."""
        use = self.use
        concerned = [(one, one.account.what) for one in limits if one.account.what != ENDS_AT]
        self.needs = [
            Need(limit, use.most(what)) for limit, what in concerned if use.concerns(what)
        ]

    def is_final(self, need: Need) -> bool:
        """It would not fit either when all others had given back what they hold."""
        return need.amount > need.limit.left or not self.use.waits

    @contextmanager
    def held(self) -> Iterator[None]:
        """Reserve it here, and give it along to be reserved in storage."""
        call, before = self.call, self.call.origin
        self.ticket = random.getrandbits(63)
        charges = self._charges([need.amount for need in self.needs])
        self.carried.append(Reserve(ticket=self.ticket, charges=charges))
        hold(self.needs)
        call.origin = self.origin._replace(carries=self.carried)
        try:
            yield
        finally:
            call.origin = before

    def take(self) -> tuple[Write, ...]:
        """What is carried, for whoever commits it now."""
        return self.origin._replace(carries=self.carried).take()

    def undo(self) -> None:
        """It has not begun, and nothing of it is in storage."""
        give_back(self.needs)

    def settle(self, day: str) -> Spend | None:
        """What there is to be committed of it; None where it has used nothing and held nothing."""
        spent = self.use.spent()
        used = [self.use.took(spent, need.limit.account.what) for need in self.needs]
        give_back(self.needs, used)
        has_begun = spent.calls or spent.tool_calls
        if not (self.needs or has_begun):
            return None
        return Spend(
            tenant=self.origin.tenant,
            model=self.use.model,
            day=day,
            spent=spent if has_begun else None,
            ticket=self.ticket,
            charges=self._charges(used),
        )

    def _charges(self, amounts: Sequence[int]) -> tuple[Charge, ...]:
        if not amounts:
            return ()
        accounts = [need.limit.account for need in self.needs]
        return tuple(
            [
                Charge(scope=account.scope, what=account.what, amount=amount)
                for account, amount in zip(accounts, amounts, strict=True)
            ]
        )
