"""What others may say to quotas, and what a call is told that does not fit one."""

import math
from typing import Self

from pydantic import Field, field_validator, model_validator

from ...kernel.errors import Refused
from ...kernel.message import Event, Request, Value
from ..storage.messages import Crossing, Pid, PutAccount
from .currencies import checked

NANO = 10**9
"""Money is counted in billionths of its currency."""
MOST = 9 * 10**18
COUNTED = ("tokens", "prompt_tokens", "completion_tokens", "calls", "tool_calls")
ENDS_AT = "ends_at"
"""The account of wall time: its ceiling is a moment, in seconds since 1970."""
NAMESPACE, PROCESS = "all", "process:"


class Quota(Value):
    """What a process with all its descendants, a tenant or everybody may use; None is no limit.

        agent = await spawn(kernel, brief(topic="friday"), quota=Quota(money=0.5, currency="EUR"))

    `tokens` are of prompts and replies together, `calls` those of models. `wall_s` seconds after
    its birth a process makes no call any more. When a call does not fit, the process of it is
    stopped, until it is continued (`action="stop"`), or a human is asked to raise the ceiling
    ("ask"), or it is given the model `instead` ("degrade"), and is stopped if that does not fit.
    """

    tokens: int | None = Field(default=None, ge=0, le=MOST)
    prompt_tokens: int | None = Field(default=None, ge=0, le=MOST)
    completion_tokens: int | None = Field(default=None, ge=0, le=MOST)
    calls: int | None = Field(default=None, ge=0, le=MOST)
    tool_calls: int | None = Field(default=None, ge=0, le=MOST)
    money: float | None = Field(default=None, ge=0, le=MOST / NANO)
    currency: str | None = None
    wall_s: float | None = Field(default=None, ge=0)
    action: Crossing = "stop"
    instead: str = ""

    @field_validator("currency")
    @classmethod
    def _exists(cls, code: str | None) -> str | None:
        return None if code is None else checked(code)

    @model_validator(mode="after")
    def _is_whole(self) -> Self:
        if (self.money is None) != (self.currency is None):
            raise ValueError("money and currency go together: money = 2.5, currency = 'EUR'")
        if (self.action == "degrade") != bool(self.instead):
            raise ValueError("action 'degrade' and instead, the cheaper model, go together")
        return self

    def accounts(
        self, scope: str, now: float, *, configured: bool = False
    ) -> tuple[PutAccount, ...]:
        """The ceilings that this sets in a scope; `now` is seconds since 1970."""
        ceilings = {what: getattr(self, what) for what in COUNTED}
        if self.currency is not None and self.money is not None:
            ceilings[self.currency] = round(self.money * NANO)
        if self.wall_s is not None:
            ceilings[ENDS_AT] = math.ceil(now + self.wall_s)
        return tuple(
            PutAccount(
                scope=scope,
                what=what,
                ceiling=ceiling,
                action=self.action,
                instead=self.instead,
                configured=configured,
            )
            for what, ceiling in ceilings.items()
            if ceiling is not None
        )


class TenantQuota(Quota):
    """A tenant's, and, by address, what it may use of single models."""

    models: dict[str, Quota] = {}


def of_process(pid: Pid) -> str:
    """The scope of a process and all its descendants."""
    return f"{PROCESS}{pid}"


def of_tenant(tenant: str, model: str | None = None) -> str:
    """The scope of a tenant, or of what it asks of the model at an address."""
    return f"tenant:{tenant}" if model is None else f"model:{model} tenant:{tenant}"


def amount(what: str, number: float) -> str:
    """So much of what an account counts, for people."""
    if what == ENDS_AT:
        return f"{number:,.0f} seconds"
    if what in COUNTED:
        return f"{number:,.0f} {what.replace('_', ' ')}"
    return f"{number / NANO:,.6f}".rstrip("0").rstrip(".") + f" {what}"


class OverBudget(Refused):
    """A call does not fit a quota, and would not when everything else was done.

    `scope` and `what` say which, e.g. "tenant:acme" and "tokens" or "EUR"; it might need
    `needed`, of which `left` are left (money in billionths). `action` and `instead` are the
    quota's.
    """

    def __init__(
        self,
        scope: str,
        what: str,
        *,
        needed: int,
        left: int,
        ceiling: int,
        action: Crossing = "stop",
        instead: str = "",
    ) -> None:
        if what == ENDS_AT:
            told = "its time is over"
        else:
            told = (
                f"a call may need {amount(what, needed)}; left are {amount(what, max(left, 0))} "
                f"of {amount(what, ceiling)}"
            )
        super().__init__(
            f"quota of {scope}: {told}; raise it (`aosk quota set`), or ask for less (max_tokens)",
            rule=f"quota {scope} {what}",
        )
        self.scope, self.what, self.needed, self.left = scope, what, needed, left
        self.ceiling, self.action, self.instead = ceiling, action, instead


class Unbounded(Refused):
    """Nobody can say what a call may use at most, so a quota cannot keep it."""


class SetQuota(Request[None], topic="quota.set", effect="idempotent"):
    """Set a quota's ceilings, by `of_process`, `of_tenant` or NAMESPACE; what is used stays.

    What it does not name stays as it is. Only a process can have `wall_s`, from now on.
    """

    scope: str
    quota: Quota


class QuotaCrossed(Event, topic="quota.crossed", urgent=True):
    """A call of `who` does not fit a quota; money is in billionths. See OverBudget."""

    who: str
    scope: str
    what: str
    needed: int
    left: int
    action: Crossing
