"""The judge: of all the rules that are about a call, which one decides."""

from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from typing import NamedTuple

from ...kernel.message import Effect
from .clause import Case, Clause
from .messages import Bounds, Decision, Line, Mode, Verdict
from .modes import CLOSED, PRESETS, Preset
from .rules import CALL, Rule

STRICTEST_FIRST: tuple[Verdict, ...] = ("deny", "ask", "allow")
REMEMBERED = 1024
"""Bounds of processes that are kept ready; most processes share a few."""


class Layer(NamedTuple):
    """Clauses in the order of deciding, and what is said where none of them is about a call.

    It says nothing of topics other than these, where they are given.
    """

    clauses: tuple[Clause, ...]
    otherwise: Decision
    topics: frozenset[str] | None = None

    def about(self, topic: str, subject: str) -> "Layer":
        """What is left of it for calls of this name."""
        return Layer(tuple(c for c in self.clauses if c.concerns(topic, subject)), self.otherwise)

    def with_effect(self, effect: Effect) -> "Layer":
        """What is left of it for a tool: nothing behind a clause that needs no argument."""
        left: list[Clause] = []
        for clause in self.clauses:
            if clause.applies(effect):
                left.append(clause)
                if clause.is_static:
                    break
        return Layer(tuple(left), self.otherwise)

    @property
    def constant(self) -> Decision | None:
        """What it says of every call of the name, whatever the arguments; None if that depends."""
        if not self.clauses:
            return self.otherwise
        first = self.clauses[0]
        return first.decision if first.is_static else None

    def decide(self, case: Case) -> Decision:
        for clause in self.clauses:
            if clause.fits(case):
                return clause.decision
        return self.otherwise


def strictest(decisions: Iterable[Decision]) -> Decision:
    """Of several, the first of those that allow least."""
    return min(decisions, key=lambda decision: STRICTEST_FIRST.index(decision.verdict))


class Judge:
    """Deny before ask before allow, of what is configured; then the mode, if nothing of it fits.

    A mode's own deny comes with the configured ones. Each bound of a process is a layer more,
    and the strictest layer decides: so no bound ever widens what the others leave.
    """

    def __init__(
        self,
        address: str,
        lists: dict[Verdict, Sequence[Rule]],
        mode: Mode | None,
    ) -> None:
        self._address, self._mode = address, mode
        self._lists = {verdict: tuple(of) for verdict, of in lists.items()}
        self._layers = lru_cache(REMEMBERED)(self._layers_of)

    def layers(self, bounds: tuple[str, ...], topic: str, subject: str) -> tuple[Layer, ...]:
        """All that must be asked of calls of this name."""
        return tuple(
            layer.about(topic, subject)
            for layer in self._layers(bounds)
            if layer.topics is None or topic in layer.topics
        )

    def _layers_of(self, bounds: tuple[str, ...]) -> tuple[Layer, ...]:
        parsed = [Bounds.model_validate_json(text) for text in bounds] or [Bounds()]
        modes = [parsed[0].mode or self._mode, *(b.mode for b in parsed[1:] if b.mode)]
        layers = [self._configured(mode) for mode in dict.fromkeys(modes)]
        left = [b.capabilities for b in parsed if b.capabilities is not None]
        return (*layers, *map(_bounded, left))

    def _configured(self, mode: Mode | None) -> Layer:
        preset = CLOSED if mode is None else PRESETS[mode]
        otherwise = f"{self._address}.allow" if mode is None else f"{mode}: nothing else decides"
        decision = Decision(verdict=preset.otherwise, rule=otherwise)
        return Layer(tuple(self._clauses(preset, mode or "")), decision)

    def _clauses(self, preset: Preset, mode: str) -> Iterator[Clause]:
        for rule in self._lists["deny"]:
            yield Clause.of("deny", f"{self._address}.deny", rule)
        for rule in preset.deny:
            yield Clause.of("deny", f"{mode}.deny", rule)
        for rule in self._lists["ask"]:
            yield Clause.of("ask", f"{self._address}.ask", rule)
        for rule in self._lists["allow"]:
            yield Clause.of("allow", f"{self._address}.allow", rule)
        for rule in preset.ask:
            yield Clause.of("ask", f"{mode}.ask", rule)
        for rule in preset.allow:
            yield Clause.of("allow", f"{mode}.allow", rule)

    def lines(self) -> tuple[Line, ...]:
        """All rules in their order, each configured one with what makes it useless."""
        layer = self._configured(self._mode)
        lines: list[Line] = []
        before: list[Clause] = []
        for clause in layer.clauses:
            ours = before if clause.name.startswith(f"{self._address}.") else ()
            over = next((one for one in ours if _swallows(one, clause)), None)
            warning = "" if over is None else _useless(over, clause)
            lines.append(Line(verdict=clause.decision.verdict, rule=clause.name, warning=warning))
            before.append(clause)
        last = layer.otherwise
        rule = last.rule if self._mode else f"{last.rule}: nothing else allows it"
        return (*lines, Line(verdict=last.verdict, rule=rule))


def _bounded(capabilities: tuple[Rule, ...]) -> Layer:
    """Only these, of tools and of whatever else they name."""
    clauses = tuple(Clause.of("allow", "capabilities", rule) for rule in capabilities)
    otherwise = Decision(verdict="deny", rule="capabilities")
    return Layer(clauses, otherwise, frozenset({CALL, *(rule.topic for rule in capabilities)}))


def _swallows(one: Clause, other: Clause) -> bool:
    """Is every call that the other is about one of this one's, as far as names tell?"""
    narrow, name = one.rule.model_copy(update={"call": ""}), other.rule.subject
    if one.rule.is_narrow and narrow != other.rule.model_copy(update={"call": ""}):
        return False
    is_literal = not set(name) & set("*?[")
    within = one.rule.subject in ("*", name) or (is_literal and one.concerns(one.rule.topic, name))
    return one.rule.topic == other.rule.topic and within


def _useless(one: Clause, other: Clause) -> str:
    if one.decision.verdict == other.decision.verdict:
        return f"says nothing new: {one.name} is about all of its calls"
    return f"is never reached: {one.name} decides all of its calls"
