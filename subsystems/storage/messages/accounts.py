"""Accounts: what quotas bound, what is reserved of it, and what was spent."""

from dataclasses import dataclass
from typing import Literal

from ....kernel.message import Request

Crossing = Literal["stop", "ask", "degrade"]


SpentBy = Literal["agent", "tenant", "model", "day"]


@dataclass(slots=True, kw_only=True)
class Account:
    """What a quota bounds, and how it stands: `what` is counted, of all calls of a `scope`.

    Whole numbers: tokens, calls, or billionths of a currency. No `ceiling`: it only counts.
    Of what was `used`, `lost` was of calls that a crash has cut, taken at their reservation.
    Where reservations were too small, it is `overdrawn` by so much. `action` says what becomes
    of a process that meets the ceiling, `instead` which model it is given.
    """

    scope: str
    what: str
    ceiling: int | None
    used: int = 0
    reserved: int = 0
    lost: int = 0
    overdrawn: int = 0
    action: Crossing = "stop"
    instead: str = ""


@dataclass(slots=True, kw_only=True)
class Charge:
    """So much, for one account."""

    scope: str
    what: str
    amount: int


@dataclass(slots=True, kw_only=True)
class Spent:
    """What calls have used. Money in billionths of `currency`, "" where no price is known."""

    currency: str = ""
    prompt: int = 0
    completion: int = 0
    cached: int = 0
    reasoning: int = 0
    money: int = 0
    calls: int = 0
    tool_calls: int = 0


@dataclass(slots=True, kw_only=True)
class PutAccount:
    """Set an account's ceiling; what it has counted until now stays.

    A ceiling that is `configured` says nothing new where the configuration said the same
    before: what others have set since then stays.
    """

    write: Literal["account"] = "account"
    scope: str
    what: str
    ceiling: int | None
    action: Crossing = "stop"
    instead: str = ""
    configured: bool = False


@dataclass(slots=True, kw_only=True)
class RaiseCeiling:
    """Raise an account's ceiling."""

    write: Literal["raised"] = "raised"
    scope: str
    what: str
    by: int


@dataclass(slots=True, kw_only=True)
class Reserve:
    """Before a call: keep so much of these accounts, until the `ticket` is spent.

    Accounts that are not there bound nothing. Raises Overdrawn. When the process is taken over,
    or has ended, what is still reserved counts as used.
    """

    write: Literal["reserve"] = "reserve"
    ticket: int
    charges: tuple[Charge, ...]


@dataclass(slots=True, kw_only=True)
class Spend:
    """After a call: what it has used, None if nothing; `ticket` is its reservation's.

    The `charges` name all accounts that it was reserved of. An account may be overdrawn by it.
    `day` is a date in UTC, "2026-11-27".
    """

    write: Literal["spend"] = "spend"
    tenant: str
    model: str
    day: str
    spent: Spent | None
    ticket: int = 0
    charges: tuple[Charge, ...] = ()


class ReadAccounts(Request[tuple[Account, ...]], topic="storage.read_accounts", effect="none"):
    """All accounts, by scope; those of processes that have ended only if asked for."""

    ended: bool = False


class ReadSpent(Request[tuple[tuple[str, Spent], ...]], topic="storage.read_spent", effect="none"):
    """What was used, for each agent (its number), tenant, model or day, and currency.

    Only from the day `since` on, "2026-11-27", where it is given.
    """

    by: SpentBy = "agent"
    since: str | None = None
