"""Which processes are over, and their deletion."""

from dataclasses import dataclass

from ....kernel.message import Request, Value
from .names import Pid, State


class Expiry(Value):
    """Which processes are over: those that ended so long ago, and that no living one needs.

    Needed is a child of a living parent, a process that a living one waits for, and one whose
    descendants live. Of one with a `key` the record stays, for `keys_after_s` seconds or for
    ever: while it is there the key is taken.
    """

    after_s: float
    states: tuple[State, ...] = ("exited", "failed", "killed")
    tenant: str | None = None
    but_tenants: tuple[str, ...] = ()
    keys_after_s: float | None = None


@dataclass(slots=True, kw_only=True)
class Expired:
    """A process that is over. Not `whole`: its record stays, and with it the key.

    `ended_at` is in seconds since 1970.
    """

    pid: Pid
    program: str
    state: State
    tenant: str
    key: str | None
    ended_at: float
    whole: bool


class FindExpired(Request[tuple[Expired, ...]], topic="storage.find_expired", effect="none"):
    """Processes that could be forgotten, the longest ended first."""

    expiry: Expiry
    limit: int = 1000


class ForgetExpired(
    Request[tuple[Expired, ...]], topic="storage.forget_expired", effect="idempotent"
):
    """Delete what is kept of them: log, pages, letters, signals, questions, accounts, record.

    What they remembered and what they have spent stays. One with a reservation that nobody has
    settled waits for that. The reply are those that are gone, at most `limit`; fewer when
    there are no more. Raises StorageRefused where the driver deletes nothing.
    """

    expiry: Expiry
    limit: int = 100
