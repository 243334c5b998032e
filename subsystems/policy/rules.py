"""Rules: which calls one is about, as the configuration, a spawn or an answer says it."""

import glob
import re
import shlex
from collections.abc import Iterable
from functools import cached_property
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, JsonValue, ValidationError

from ...kernel.errors import nearest
from ...kernel.message import TOPIC, Effect, Value
from ..tools.messages import Access
from .money import Money

CALL = "tools.call"
ARGUMENT = re.compile(r"[^\W\d]\w*", re.ASCII)
PORT = re.compile(r":\d{1,5}$")
EXAMPLES = '"tools.call:read_file", "tools.call:*" or "llm.complete:llm.fast"'


def _several(value: Any) -> Any:
    """One text stands for a list of one."""
    return (value,) if isinstance(value, str) else value


Effects = Annotated[tuple[Effect, ...], BeforeValidator(_several)]
Accesses = Annotated[tuple[Access, ...], BeforeValidator(_several)]
Texts = Annotated[tuple[str, ...], BeforeValidator(_several)]
Written = str | dict[str, JsonValue]
"""A rule as it is written: "topic:subject argument=pattern", or a table."""


class Rule(Value):
    """What a rule is about: `call` is "topic:subject", both as `Decide` has them.

    The subject is a pattern, as those of file names are; of a tool it is the name, else the
    address. What else a rule says narrows it, and is of tools only: `where` gives patterns of
    arguments, `effect` what the tool declares, `access` what it does with what it touches.
    Paths are `below` one of these directories, or `outside` of all of them. `hosts` of URLs are
    "example.org", "*.example.org" (any label below it) or "example.org:8080"; `private` ones are
    named so, or are addresses that no public host has.

    What a call spends altogether is over one of the amounts `spends_over`, or not over one of
    `spends_up_to`; each is "100 EUR", of another currency each.
    """

    call: str
    where: dict[str, Texts] = {}
    effect: Effects = ()
    access: Accesses = ()
    below: Texts = ()
    outside: Texts = ()
    hosts: Texts = ()
    private: bool = False
    spends_over: Texts = ()
    spends_up_to: Texts = ()

    @classmethod
    def parse(cls, written: Written) -> Self:
        """Raises ValueError, which says what is wrong with it."""
        rule = cls._of_text(written) if isinstance(written, str) else cls._of_table(written)
        rule._check()
        return rule

    @classmethod
    def _of_text(cls, text: str) -> Self:
        try:
            call, *pairs = shlex.split(text)
        except ValueError:
            call, pairs = "", []
        _check_call(call, text)
        where: dict[str, tuple[str, ...]] = {}
        for pair in pairs:
            name, equals, pattern = pair.partition("=")
            if not (equals and ARGUMENT.fullmatch(name)):
                raise ValueError(
                    f"{text!r}: {pair!r} is no pattern of an argument; write argument=pattern "
                    'behind the call, for example "tools.call:git command=status*"'
                )
            where[name] = (*where.get(name, ()), pattern)
        return cls(call=call, where=where)

    @classmethod
    def _of_table(cls, table: dict[str, JsonValue]) -> Self:
        unknown = [key for key in table if key not in cls.model_fields]
        if unknown:
            raise ValueError(
                f"{table!r}: unknown key {unknown[0]!r}; {nearest(unknown[0], cls.model_fields)}"
            )
        if "call" not in table:
            raise ValueError(f'{table!r} lacks its call; write call = "tools.call:NAME"')
        _check_call(str(table["call"]), str(table["call"]))
        try:
            return cls.model_validate(table)
        except ValidationError as error:
            problem = error.errors(include_url=False)[0]
            where = ".".join(str(part) for part in problem["loc"] if not isinstance(part, int))
            raise ValueError(f"{table!r}: {where}: {problem['msg']}") from None

    def _check(self) -> None:
        """What could never cover anything is an error, not a rule."""
        if self.topic != CALL and self.is_narrow:
            raise ValueError(
                f"{self}: only a tool has arguments, an effect and what it touches; "
                f"of {self.topic} say nothing but the address"
            )
        for host in self.hosts:
            name = PORT.sub("", host)
            if not name or "/" in name or "*" in name.removeprefix("*.").removeprefix("*"):
                raise ValueError(
                    f"{self}: {host!r} is no host; write example.org, *.example.org, "
                    "example.org:8080 or *"
                )
        if any("\0" in place or not place for place in (*self.below, *self.outside)):
            raise ValueError(f"{self}: a directory is missing in below or outside")
        for limits in (self.spends_over, self.spends_up_to):
            self._check_limits(limits)

    def _check_limits(self, limits: Iterable[str]) -> None:
        known: set[str] = set()
        for limit in limits:
            money = Money.read(limit)
            if money is None:
                raise ValueError(f'{self}: {limit!r} is no amount; write for example "100 EUR"')
            if money.currency in known:
                raise ValueError(f"{self}: there are two amounts of {money.currency}; give one")
            known.add(money.currency)

    @classmethod
    def exactly(cls, topic: str, subject: str) -> Self:
        """The rule that is about this and nothing else, whatever signs stand in it."""
        return cls(call=f"{topic}:{glob.escape(subject)}")

    @cached_property
    def topic(self) -> str:
        return self.call.partition(":")[0]

    @cached_property
    def subject(self) -> str:
        return self.call.partition(":")[2]

    @property
    def touches(self) -> bool:
        """Does it ask what a call touches?"""
        return bool(self.access or self.places or self.asks_hosts or self.spends)

    @property
    def places(self) -> bool:
        return bool(self.below or self.outside)

    @property
    def asks_hosts(self) -> bool:
        return bool(self.hosts or self.private)

    @property
    def spends(self) -> bool:
        return bool(self.spends_over or self.spends_up_to)

    @property
    def is_narrow(self) -> bool:
        """Does it say more than the call's name?"""
        return bool(self.where or self.effect or self.touches)

    def __str__(self) -> str:
        told = [_quoted(self.call)]
        told += [_quoted(f"{name}={p}") for name, these in self.where.items() for p in these]
        sets = {"effect": self.effect, "access": self.access, "below": self.below}
        sets |= {"outside": self.outside, "hosts": self.hosts}
        sets |= {"spends over": self.spends_over, "spends up to": self.spends_up_to}
        conditions = [f"{name} {_or(values)}" for name, values in sets.items() if values]
        conditions += ["private host"] if self.private else []
        return " ".join(told) + (f" ({'; '.join(conditions)})" if conditions else "")


def _check_call(call: str, text: str) -> None:
    topic, colon, subject = call.partition(":")
    if not (colon and subject.strip() == subject != "" and TOPIC.fullmatch(topic)):
        raise ValueError(f"{text!r} is no rule; write topic:subject, for example {EXAMPLES}")


def _quoted(text: str) -> str:
    """As a shell and TOML would have it; the signs of patterns need no quotes."""
    return text if re.fullmatch(r"[\w@%+=:,./*?\[\]!-]+", text, re.ASCII) else shlex.quote(text)


def _or(values: Iterable[str]) -> str:
    return " or ".join(values)


def rules(
    name: Literal["allow", "ask", "deny", "capabilities"], written: Iterable[Written]
) -> tuple[Rule, ...]:
    """Those of a list. Raises ValueError, which names the list."""
    parsed: list[Rule] = []
    for one in written:
        try:
            parsed.append(Rule.parse(one))
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from None
    return tuple(parsed)
