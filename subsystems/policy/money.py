"""Money: what calls spend, exactly, and never in another currency than they say."""

import re
from collections.abc import Iterable
from decimal import MAX_EMAX, MAX_PREC, MIN_EMIN, Context, Decimal
from typing import NamedTuple

from ..tools.messages import Resource

WRITTEN = re.compile(r"(\d+(?:\.\d+)?) ([A-Za-z][A-Za-z0-9]{2,11})", re.ASCII)
EXACT = Context(prec=MAX_PREC, Emax=MAX_EMAX, Emin=MIN_EMIN)


class Money(NamedTuple):
    """An amount of a currency, never less than nothing."""

    amount: Decimal
    currency: str

    @classmethod
    def read(cls, text: str) -> "Money | None":
        """Of "60.5 EUR"; None of what is anything else, so also of a negative amount."""
        found = WRITTEN.fullmatch(text)
        return None if found is None else cls(Decimal(found[1]), found[2].upper())

    def __str__(self) -> str:
        return f"{self.amount} {self.currency}"


NOTHING = Money(Decimal(), "XXX")
"""In what ISO 4217 has for no currency: a rule up to this allows nothing to be spent."""


def spent(resources: Iterable[Resource]) -> tuple[Money | None, ...]:
    """What a call spends altogether, in each currency; None stands for what nobody can say."""
    totals: dict[str, Decimal] = {}
    unknown = False
    for resource in resources:
        if resource.kind == "spend":
            money = Money.read(resource.name)
            if money is None:
                unknown = True
            else:
                before = totals.get(money.currency, Decimal())
                totals[money.currency] = EXACT.add(before, money.amount)
    known = tuple(Money(amount, currency) for currency, amount in sorted(totals.items()))
    return (*known, None) if unknown else known
