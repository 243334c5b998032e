"""A rule ready to be compared with calls, together with what it says of them."""

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal
from fnmatch import translate
from typing import Any

from ...kernel.message import Effect
from ..tools.messages import Resource
from .messages import Decision, JsonObject, Verdict
from .money import Money, spent
from .places import Places, host_of
from .rules import Rule

Case = tuple[JsonObject, tuple[Resource, ...], Places]
"""Of one call: its arguments, what it touches, and where paths lead."""


@dataclass(frozen=True, slots=True)
class Clause:
    """A rule that allows must be about all that a call touches; any other, about some of it."""

    decision: Decision
    rule: Rule
    _subject: Any
    _where: tuple[tuple[str, Any], ...]
    _over: dict[str, Decimal]
    _up_to: dict[str, Decimal]

    @classmethod
    def of(cls, verdict: Verdict, where: str, rule: Rule) -> "Clause":
        """`where` it is written, e.g. "policy.deny"."""
        patterns = tuple((name, _matching(*several)) for name, several in rule.where.items())
        decision = Decision(verdict=verdict, rule=f"{where} {rule}")
        over, up_to = _limits(rule.spends_over), _limits(rule.spends_up_to)
        return cls(decision, rule, _matching(rule.subject), patterns, over, up_to)

    @property
    def name(self) -> str:
        return self.decision.rule

    def concerns(self, topic: str, subject: str) -> bool:
        """May it be about calls of this name?"""
        return topic == self.rule.topic and self._subject(subject) is not None

    def applies(self, effect: Effect) -> bool:
        return not self.rule.effect or effect in self.rule.effect

    @property
    def is_static(self) -> bool:
        """The call's name and its effect say all."""
        return not (self._where or self.rule.touches)

    def fits(self, case: Case) -> bool:
        arguments, resources, places = case
        for argument, fit in self._where:
            value = arguments.get(argument)
            if value.__class__ is str:
                if fit(value) is None:
                    return False
            elif not self._some_or_all(fit(text) is not None for text in texts(value)):
                return False
        rule = self.rule
        if rule.spends and not self._some_or_all(map(self._is_spent, spent(resources))):
            return False
        if not (rule.access or rule.places or rule.asks_hosts):
            return True
        return self._some_or_all(self._covers(one, places) for one in resources)

    @property
    def _allows(self) -> bool:
        return self.decision.verdict == "allow"

    def _some_or_all(self, fit: Iterable[bool]) -> bool:
        if not self._allows:
            return any(fit)
        found = tuple(fit)
        return bool(found) and all(found)

    def _covers(self, resource: Resource, places: Places) -> bool:
        rule = self.rule
        if resource.kind == "spend" and rule.spends and self._allows:
            return True
        if rule.access and resource.access not in rule.access:
            return False
        if not (rule.places or rule.asks_hosts):
            return True
        if resource.kind == "path" and rule.places:
            return self._is_there(resource.name, places)
        return resource.kind == "url" and rule.asks_hosts and self._is_asked(resource.name)

    def _is_there(self, path: str, places: Places) -> bool:
        """Of a path that nobody can follow, a rule that allows is not, and any other is."""
        rule = self.rule
        below = places.is_below(path, rule.below) if rule.below else True
        inside = places.is_below(path, rule.outside) if rule.outside else False
        if below is None or inside is None:
            return not self._allows
        return below and not inside

    def _is_asked(self, url: str) -> bool:
        host = host_of(url)
        if host is None:
            return not self._allows
        named = not self.rule.hosts or any(host.fits(pattern) for pattern in self.rule.hosts)
        return named and (host.is_private or not self.rule.private)

    def _is_spent(self, money: Money | None) -> bool:
        """Of what cannot be compared, a rule that allows is not, and any other is."""
        if money is None:
            return not self._allows
        over, up_to = self._over.get(money.currency), self._up_to.get(money.currency)
        if (self._over and over is None) or (self._up_to and up_to is None):
            return not self._allows
        is_over = over is None or money.amount > over
        return is_over and (up_to is None or money.amount <= up_to)


def _matching(*patterns: str) -> Any:
    """Gives a match where one of these fits the whole text, else None."""
    return re.compile("|".join(map(translate, patterns))).match


def _limits(written: Iterable[str]) -> dict[str, Decimal]:
    """By currency."""
    return {m.currency: m.amount for m in map(Money.read, written) if m is not None}


def texts(value: Any) -> tuple[str, ...]:
    """What an argument's patterns are compared with: each of a list, JSON of what is no text."""
    if value is None:
        return ()
    values = value if isinstance(value, list) else [value]
    return tuple([one if isinstance(one, str) else json.dumps(one) for one in values])
