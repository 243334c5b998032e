"""What others may say to the policy: what would it decide, what was always allowed; its events."""

from collections.abc import Iterable
from typing import Literal, Self, get_args

from pydantic import Field, JsonValue

from ...kernel.errors import KernelError, Refused, nearest
from ...kernel.message import Event, Request, Value
from .rules import Rule, Written, rules

__all__ = [
    "ALWAYS",
    "APPROVE",
    "DENY",
    "GRANTS",
    "Bounds",
    "CallAllowed",
    "CallAsked",
    "CallRefused",
    "Decide",
    "Decision",
    "Grant",
    "Line",
    "ListGrants",
    "ListRules",
    "Mode",
    "NeedsApproval",
    "NoSuchGrant",
    "RevokeGrant",
    "Rule",
    "Verdict",
    "Written",
]

Mode = Literal["read_only", "standard", "trusted"]
"""`read_only`: reads in the workspace, changes nothing. `standard`: writes there too, and asks
before it deletes, spends, leaves the workspace, uses the network or does what no rule knows. `trusted`:
whatever is not denied."""

Verdict = Literal["deny", "ask", "allow"]
APPROVE, DENY, ALWAYS = "approve", "deny", "always"
GRANTS = "policy.grants"
"""The collection of what humans have always allowed; the keys are numbers of their questions."""
JsonObject = dict[str, JsonValue]


class Decision(Value):
    """What the policy says of a call, and the one rule that says so."""

    verdict: Verdict
    rule: str


class Bounds(Value):
    """What a process may do, within what its parent may: a mode, and rules of what is left.

    `capabilities` are of tools, and of whatever else they name; None are all there are.
    """

    mode: Mode | None = None
    capabilities: tuple[Rule, ...] | None = None

    @classmethod
    def of(cls, mode: Mode | None, capabilities: Iterable[Written] | None) -> Self | None:
        """None where nothing is said. Raises ValueError for what is no mode or no rule."""
        if mode is None and capabilities is None:
            return None
        if mode is not None and mode not in get_args(Mode):
            raise ValueError(f"no mode {mode!r}; {nearest(mode, get_args(Mode))}")
        left = None if capabilities is None else rules("capabilities", capabilities)
        return cls(mode=mode, capabilities=left)

    def written(self) -> str:
        """As a process's record has it."""
        return self.model_dump_json(exclude_defaults=True)


class Grant(Value):
    """What a human has always allowed, to the processes of one tenant, by answering a question."""

    number: int
    rule: Rule
    tenant: str


class NoSuchGrant(KernelError):
    """Nothing was always allowed under this number, or it was revoked."""


class NeedsApproval(Refused):
    """A human has to say whether this call may be made; whoever is no process cannot wait for it.

    `mark` stands for exactly this call: an Origin that has it among `approved` may make it.
    `text` tells a human of it, who has `within_s` seconds; `grant` is what "always" allows.
    """

    def __init__(
        self, what: str, *, rule: str, mark: str, text: str, within_s: float, grant: JsonObject
    ) -> None:
        super().__init__(
            f"{what} needs the approval of a human ({rule}), and only a process can wait for one; "
            "spawn a process for it, or allow it in [services.policy]",
            rule=rule,
        )
        self.what, self.mark, self.text = what, mark, text
        self.within_s, self.grant = within_s, grant


class Decide(Request[Decision], topic="policy.decide", effect="none", addressed=True):
    """What would be decided of such a call? Nothing is called, asked or told.

    `bounds` are those of a process's record; `tenant` is who was granted what.
    """

    call: str
    arguments: JsonObject = Field(default_factory=dict)
    bounds: tuple[str, ...] = ()
    tenant: str = "default"


class Line(Value):
    """A rule where it stands in the order of deciding, and what is odd about it."""

    verdict: Verdict
    rule: str
    warning: str = ""


class ListRules(Request[tuple[Line, ...]], topic="policy.rules", effect="none", addressed=True):
    """The rules of the configuration and its mode: the first that is about a call decides."""


class ListGrants(Request[tuple[Grant, ...]], topic="policy.grants", effect="none", addressed=True):
    """What humans have always allowed, by number."""


class RevokeGrant(Request[None], topic="policy.revoke", effect="idempotent", addressed=True):
    """Ask again from now on. Raises NoSuchGrant."""

    number: int


class CallRefused(Event, topic="policy.refused"):
    """A call was refused: by a rule, by a human, or because no human has answered in time.

    `who` is the process that called, or else the sender; `what` is topic:subject, for a tool
    "tools.call:" and its name; `rule` names what decided.
    """

    who: str
    what: str
    rule: str


class CallAsked(Event, topic="policy.asked"):
    """A call has to be approved by a human; told again each time its process comes back to it."""

    who: str
    what: str
    rule: str


class CallAllowed(Event, topic="policy.allowed"):
    """A call was let through: by a rule, by a human's approval, or by what one always allows."""

    who: str
    what: str
    rule: str
