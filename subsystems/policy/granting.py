"""What a human is shown of a call that needs approval, and what "always" allows from then on."""

import glob
import hashlib
import json
from collections.abc import Iterable
from textwrap import indent
from typing import TYPE_CHECKING

from pydantic_core import to_json

from ..storage.messages import FindRecords
from ..tools.messages import Resource, Tool, resources
from .messages import ALWAYS, APPROVE, DENY, GRANTS, Decision, Grant, JsonObject, NeedsApproval
from .money import NOTHING, spent
from .places import host_of
from .rules import Rule

if TYPE_CHECKING:
    from .service import Policy

SHOWN, BESIDE_A_PREVIEW = 2000, 100
"""Characters of an argument that a human is shown."""
NO_AMOUNT = "an amount that cannot be compared"


def mark(topic: str, subject: str, arguments: JsonObject) -> str:
    """Stands for exactly this call."""
    return hashlib.blake2b(to_json([topic, subject, arguments]), digest_size=8).hexdigest()


async def grants(policy: "Policy") -> list[Grant]:
    """All there are, of all tenants."""
    found: list[Grant] = []
    after, query = "", FindRecords(collection=GRANTS)
    while True:
        records = await policy.request(query.model_copy(update={"after": after}))
        found += [Grant.model_validate(record.body) for record in records]
        if len(records) < query.limit:
            return found
        after = records[-1].key


def proposed(topic: str, subject: str, tool: Tool | None, arguments: JsonObject) -> Rule:
    """The rule of "always": the same tool on the same paths and hosts; whatever else it is given.

    Of a tool that touches paths too, URLs are meant as they are. It may spend as much as now, and
    nothing where that cannot be compared. A tool that declares nothing of what it touches is meant
    as a whole.
    """
    rule = Rule.exactly(topic, subject)
    if tool is None:
        return rule
    where: dict[str, tuple[str, ...]] = {}
    hosts: list[str] = []
    asks_hosts = all(touch.kind != "path" for touch in tool.touches)
    for touch in tool.touches:
        alone = tool.model_copy(update={"touches": (touch.model_copy(update={"below": ""}),)})
        if touch.kind == "spend":
            continue
        names = [one.name for one in resources(alone, arguments)]
        asked = [host_of(name) for name in names] if asks_hosts and touch.kind == "url" else []
        if asked and all(host is not None for host in asked):
            hosts += [f"{host.name}:{host.port}" for host in asked if host is not None]
        elif touch.argument in arguments:
            where[touch.argument] = tuple(glob.escape(name) for name in names)
    totals = spent(resources(tool, arguments))
    limits = [str(money or NOTHING) for money in totals]
    narrow = {"hosts": tuple(dict.fromkeys(hosts)), "spends_up_to": tuple(dict.fromkeys(limits))}
    return rule.model_copy(update={"where": where, **narrow})


def approval(
    decision: Decision,
    *,
    call: str,
    arguments: JsonObject,
    touched: Iterable[Resource],
    would: str,
    asked: str,
    within_s: float,
    grant: Grant,
) -> NeedsApproval:
    """The error that says what has to be approved."""
    told = [f"{call} is to be called; approve it?"]
    most = BESIDE_A_PREVIEW if would else SHOWN
    told += [f"  {name}: {_shown(value, most)}" for name, value in arguments.items()]
    told += [f"  spends {money or NO_AMOUNT}" for money in spent(touched)]
    told += [indent(would, "  ")] if would else []
    told.append(f"asked because of {decision.rule}")
    always = f"from now on, for tenant {grant.tenant}, {grant.rule}"
    told.append(f"{APPROVE}: this once; {DENY}: not at all; {ALWAYS}: {always}")
    return NeedsApproval(
        call,
        rule=decision.rule,
        mark=asked,
        text="\n".join(told),
        within_s=within_s,
        grant=grant.model_dump(mode="json", exclude={"number"}),
    )


def _shown(value: object, most: int) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= most else f"{text[:most]}... ({len(text):,} characters)"
