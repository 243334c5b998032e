"""Modes: what is decided of calls that no configured rule is about.

The `deny` of a mode holds whatever is allowed elsewhere: it is what the mode promises.
"""

from collections.abc import Mapping
from typing import NamedTuple

from .messages import Mode, Verdict
from .rules import CALL, Rule

ANY = f"{CALL}:*"
MODELS = Rule(call="llm.complete:*")
READS = Rule(call=ANY, effect=("none",))
OUTSIDE = Rule(call=ANY, outside=(".",))
PRIVATE = Rule(call=ANY, private=True)
SPENDING = Rule(call=ANY, access=("spend",))
NETWORK = Rule(call=ANY, hosts=("*",))


class Preset(NamedTuple):
    """Its rules, and what it says where none of them is about a call."""

    deny: tuple[Rule, ...] = ()
    ask: tuple[Rule, ...] = ()
    allow: tuple[Rule, ...] = ()
    otherwise: Verdict = "deny"


CLOSED = Preset()
"""Without a mode: what no rule allows is refused."""

PRESETS: Mapping[Mode, Preset] = {
    "read_only": Preset(
        deny=(
            Rule(call=ANY, access=("write", "delete")),
            SPENDING,
            Rule(call=ANY, effect=("idempotent", "once")),
        ),
        ask=(OUTSIDE, PRIVATE, NETWORK),
        allow=(MODELS, READS),
    ),
    "standard": Preset(
        ask=(Rule(call=ANY, access=("delete",)), SPENDING, OUTSIDE, PRIVATE, NETWORK),
        allow=(MODELS, READS, Rule(call=ANY, access=("read", "write"), below=(".",))),
        otherwise="ask",
    ),
    "trusted": Preset(otherwise="allow"),
}
