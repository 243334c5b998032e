"""Policy: what may be called, what a human is asked about, and what is refused."""

import json
import os
from collections.abc import Sequence
from typing import Any

from ...kernel.call import Call
from ...kernel.errors import Refused
from ...kernel.message import Effect, Event, R, Request
from ...kernel.service import Proceed, Service, handles, subscribes
from ..processes.messages import Origin, intended
from ..storage.messages import Commit, DropRecord, FindRecords, ReadRecord
from ..tools.messages import (
    TOOL_CHANGES,
    CallTool,
    FindTools,
    Known,
    Preview,
    Tool,
    ToolError,
    UnknownTool,
)
from .clause import Clause
from .course import Course, asks_tool
from .granting import approval, grants, mark, proposed
from .judge import Judge
from .messages import (
    GRANTS,
    CallAllowed,
    CallAsked,
    CallRefused,
    Decide,
    Decision,
    Grant,
    JsonObject,
    Line,
    ListGrants,
    ListRules,
    Mode,
    NoSuchGrant,
    RevokeGrant,
    Verdict,
)
from .rules import CALL, Rule, Written, rules

ANYONE = Origin()
Name = tuple[str, str, tuple[str, ...]]
"""Of a call: its topic, its subject, and the bounds of whoever calls."""


class Policy(
    Service, name="policy", needs=[FindTools, Preview, FindRecords, ReadRecord, Commit], pinned=True
):
    """A guard that lets through what a rule allows, asks a human where a rule says so.

        [services.policy]
        mode = "standard"
        allow = ["llm.complete:*", "tools.call:read_*", "tools.call:git command=status*"]
        ask   = [{ call = "tools.call:fetch_url", hosts = "*.example.org" }]
        deny  = [{ call = "tools.call:*", below = "~/.ssh" }]

    A rule that denies goes before one that asks, and that before one that allows; what none is
    about is for the `mode`, and refused without one. Relative paths in rules begin in
    `workspace`. Who is asked has `ask_within_s` seconds; then the call is refused.
    """

    def __init__(
        self,
        allow: tuple[Written, ...] = (),
        ask: tuple[Written, ...] = (),
        deny: tuple[Written, ...] = (),
        mode: Mode | None = None,
        workspace: str = ".",
        ask_within_s: float = 86400.0,
    ) -> None:
        """Raises ValueError for a rule that cannot be read."""
        self._rules: dict[Verdict, Sequence[Rule]] = {
            "deny": rules("deny", deny),
            "ask": rules("ask", ask),
            "allow": rules("allow", allow),
        }
        if ask_within_s <= 0:
            raise ValueError(f"ask_within_s must be more than 0, it is {ask_within_s:g}")
        self._mode, self._within_s = mode, ask_within_s
        self._workspace = os.path.abspath(os.path.expanduser(workspace))
        self._known = Known[Name, Course]()

    async def start(self) -> None:
        self._judge = Judge(self.address, self._rules, self._mode)

    @subscribes(*TOOL_CHANGES)
    async def on_change(self, event: Event) -> None:
        self._known.forget()

    # Calls

    async def guard(self, call: Call[R], proceed: Proceed[R]) -> R:
        message = call.message
        origin = call.origin if isinstance(call.origin, Origin) else ANYONE
        subject = message.name if isinstance(message, CallTool) else call.address
        name = (message.topic, subject, origin.bounds)
        course = self._known.get(name) or await self._learn(name, message.effect)
        decision = course.constant or await course.decide(_arguments(message), self._workspace)
        if decision.verdict != "allow":
            decision = await self._approved(call, origin, subject, course, decision)
        if self.bus.hears(CallAllowed):
            await self.publish(CallAllowed(**_told(call, subject, decision.rule)))
        if isinstance(message, CallTool) and intended(call) is not None:
            call.origin = origin._replace(rule=decision.rule)
        return await proceed(call)

    async def _learn(self, name: Name, effect: Effect) -> Course:
        """What decides calls of this name, kept until a tool changes."""
        return await self._known.learn(name, self._course(name, effect))

    async def _course(self, name: Name, effect: Effect) -> Course:
        topic, subject, bounds = name
        layers = self._judge.layers(bounds, topic, subject)
        tool = None
        if topic == CALL and asks_tool(layers):
            tool = await self._tool(subject)
        effect = effect if tool is None else tool.effect
        layers = tuple(layer.with_effect(effect) for layer in layers)
        return Course.of(layers, tool)

    async def _tool(self, name: str) -> Tool | None:
        try:
            (tool,) = await self.request(FindTools(names=(name,)))
        except UnknownTool:
            return None
        return tool

    async def _approved(
        self, call: Call[Any], origin: Origin, subject: str, course: Course, decision: Decision
    ) -> Decision:
        """What a human allows of what is to be asked. Raises Refused."""
        topic, arguments = call.message.topic, _arguments(call.message)
        told = _told(call, subject, decision.rule)
        if decision.verdict == "deny":
            await self.publish(CallRefused(**told))
            raise self._refused(topic, subject, decision)
        asked = mark(topic, subject, arguments)
        if asked in origin.approved:
            return Decision(verdict="allow", rule=f"approved: {decision.rule}")
        granted = await self._granted(origin.tenant, topic, subject, course, arguments)
        if granted is not None:
            return Decision(verdict="allow", rule=f"always allowed ({granted.number})")
        await self.publish(CallAsked(**told))
        rule = proposed(topic, subject, course.tool, arguments)
        raise approval(
            Decision(verdict="ask", rule=decision.rule),
            call=f"{topic}:{subject}",
            arguments=arguments,
            touched=course.case(arguments, self._workspace)[1],
            would=await self._preview(call, arguments),
            asked=asked,
            within_s=self._within_s,
            grant=Grant(number=0, rule=rule, tenant=origin.tenant),
        )

    async def _preview(self, call: Call[Any], arguments: JsonObject) -> str:
        """What a tool would change, where it can say."""
        if not isinstance(call.message, CallTool):
            return ""
        would = Preview(name=call.message.name, arguments=arguments)
        try:
            return await self.request(would, to=call.address)
        except ToolError as error:
            return str(error)

    def _refused(self, topic: str, subject: str, decision: Decision) -> Refused:
        """The error, which says how to allow it where no rule forbids it."""
        if decision.rule == f"{self.address}.allow":
            rule = json.dumps(str(Rule.exactly(topic, subject)))
            return Refused(
                f"no rule allows {topic} of {subject!r}; to allow it, add {rule} to allow in "
                f"[services.{self.address}]",
                rule=decision.rule,
            )
        return Refused(f"{topic} of {subject!r} is refused by {decision.rule}", rule=decision.rule)

    # What was always allowed

    async def _granted(
        self, tenant: str, topic: str, subject: str, course: Course, arguments: JsonObject
    ) -> Grant | None:
        """Read each time: whoever is asked otherwise waits longer, and what is revoked is so at once."""
        case = course.case(arguments, self._workspace)
        for grant in await grants(self):
            clause = Clause.of("allow", "always", grant.rule)
            if grant.tenant == tenant and clause.concerns(topic, subject) and clause.fits(case):
                return grant
        return None

    @handles(ListGrants)
    async def list_grants(self, request: ListGrants) -> tuple[Grant, ...]:
        return tuple(sorted(await grants(self), key=lambda grant: grant.number))

    @handles(RevokeGrant)
    async def revoke(self, request: RevokeGrant) -> None:
        key = str(request.number)
        if await self.request(ReadRecord(collection=GRANTS, key=key)) is None:
            raise NoSuchGrant(
                f"nothing was always allowed under number {key}; `aosk policy` lists what was"
            )
        await self.request(Commit(writes=(DropRecord(collection=GRANTS, key=key),)))

    # Looking

    @handles(ListRules)
    async def list_rules(self, request: ListRules) -> tuple[Line, ...]:
        return self._judge.lines()

    @handles(Decide)
    async def decide(self, request: Decide) -> Decision:
        """Of a tool, or of what has the effect of a model's call."""
        topic, _, subject = request.call.partition(":")
        course = await self._learn((topic, subject, request.bounds), "once")
        decision = course.constant or await course.decide(request.arguments, self._workspace)
        if decision.verdict != "ask":
            return decision
        whose, arguments = request.tenant, request.arguments
        granted = await self._granted(whose, topic, subject, course, arguments)
        if granted is None:
            return decision
        return Decision(verdict="allow", rule=f"always allowed ({granted.number})")


def _arguments(message: Request[Any]) -> JsonObject:
    return message.arguments if isinstance(message, CallTool) else {}


def _told(call: Call[Any], subject: str, rule: str) -> dict[str, str]:
    """Who, what and why, as events have it."""
    who = call.sender if call.origin is None else str(call.origin)
    return {"who": who, "what": f"{call.message.topic}:{subject}", "rule": rule}
