"""A tool, and the things in the world that a call of it touches."""

import re
from collections.abc import Iterable
from decimal import Decimal
from typing import Literal, NamedTuple
from urllib.parse import urlsplit

from pydantic import JsonValue

from ....kernel.message import Effect, Value
from ...llm.messages import JsonObject, ToolSpec

Kind = Literal["path", "url", "resource", "spend"]
"""What an argument names: a file or directory, a URL, something the tool's own, or an amount
of money that the call spends."""
Access = Literal["read", "write", "delete", "spend"]
CURRENCY = re.compile(r"[A-Z][A-Z0-9]{2,11}")


class Touch(Value):
    """What a tool does with the thing that one of its arguments names.

    `below` is the directory where relative paths begin. `currency` is of what is spent: a code in
    capitals, such as "EUR", or the argument that says it. Only what is spent has the access "spend".
    """

    argument: str
    kind: Kind
    access: Access
    below: str = ""
    currency: str = ""

    @property
    def names_currency(self) -> bool:
        """Is it the same for all calls?"""
        return CURRENCY.fullmatch(self.currency) is not None

    def problem(self, arguments: Iterable[str]) -> str:
        """What is wrong with it, for a tool of these arguments; empty where nothing is."""
        known = sorted(arguments)
        if self.argument not in known:
            return (
                f"there is no argument {self.argument!r}; there are: {', '.join(known) or 'none'}"
            )
        if (self.kind == "spend") != (self.access == "spend"):
            return (
                f"{self.argument!r}: to spend is all that is done with money, and with nothing else"
            )
        if bool(self.currency) != (self.kind == "spend"):
            return (
                f"{self.argument!r}: a currency is to be given of what is spent, and only of that"
            )
        if self.currency and not self.names_currency and self.currency not in known:
            return (
                f"{self.argument!r}: {self.currency!r} is no currency; write a code in capitals, "
                'for example "EUR", or the argument that says it'
            )
        return ""


class Resource(NamedTuple):
    """A thing that a call touches. A path is absolute where its tool says where it begins.

    It is as the caller wrote it: `..` and links in it are still to be followed, and one that
    begins with `~` is where its tool takes that to be. What is spent is
    named "60.5 EUR"; whatever else stands there is no amount that could be compared.
    """

    kind: Kind
    name: str
    access: Access

    @property
    def host(self) -> str:
        """Of a URL, whom it asks, in small letters; empty where it names nobody."""
        try:
            return (urlsplit(self.name).hostname or "").rstrip(".") if self.kind == "url" else ""
        except ValueError:
            return ""


class Tool(Value):
    """A tool that can be called: what the model sees, what a retry may do, who has it.

    `reconciles`: it can say what became of a call. `refuses_repeats`: a key that it has seen
    it does not take again. `touches`: what its arguments name; none where that is not declared.
    """

    spec: ToolSpec
    effect: Effect
    address: str
    reconciles: bool = False
    refuses_repeats: bool = False
    touches: tuple[Touch, ...] = ()

    @property
    def name(self) -> str:
        return self.spec.name


def resources(tool: Tool, arguments: JsonObject) -> tuple[Resource, ...]:
    """What a call with these arguments touches, as far as its tool declares it.

    An argument that is left out counts as its default, a list as all that is in it.
    """
    return tuple(
        Resource(touch.kind, _placed(touch, name), touch.access)
        for touch in tool.touches
        for name in _named(touch, tool, arguments)
    )


def _named(touch: Touch, tool: Tool, arguments: JsonObject) -> list[str]:
    given = _given(touch.argument, tool, arguments)
    values = given if isinstance(given, list) else [given]
    if touch.kind != "spend":
        return [str(value) for value in values if isinstance(value, str | int)]
    currency = touch.currency
    if not touch.names_currency:
        said = _given(currency, tool, arguments)
        currency = said if isinstance(said, str) else "?"
    return [f"{_amount(value)} {currency}" for value in values]


def _given(argument: str, tool: Tool, arguments: JsonObject) -> JsonValue:
    properties = tool.spec.parameters.get("properties")
    declared = properties.get(argument) if isinstance(properties, dict) else None
    default = declared.get("default") if isinstance(declared, dict) else None
    return arguments.get(argument, default)


def _amount(value: JsonValue) -> str:
    """In plain digits, where it is a number or a text of them."""
    return f"{Decimal(repr(value)):f}" if isinstance(value, float) else str(value)


def _placed(touch: Touch, name: str) -> str:
    is_relative = touch.kind == "path" and touch.below and not name.startswith(("/", "~"))
    return f"{touch.below.rstrip('/')}/{name}" if is_relative else name
