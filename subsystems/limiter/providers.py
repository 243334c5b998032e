"""What providers say of their keys: how long to stay away, and how much is left."""

import math

from ..llm.messages import Allowance
from .buckets import Buckets
from .limits import Dimension

FIRST_HOLD_S = 1.0
"""How long a key is left alone that was refused without a time; doubled each time in a row."""
DIMENSION_OF: dict[str, Dimension] = {
    "requests": "requests",
    "tokens": "tokens",
    "prompt_tokens": "input_tokens",
    "completion_tokens": "output_tokens",
}


def is_about_limits(error: Exception) -> bool:
    """Does it say to stay away, as a model's RateLimited does, or any that names a time?"""
    return hasattr(error, "allowances") or getattr(error, "retry_after_s", None) is not None


class Providers:
    """Believes them, within reason: never for longer than `longest_hold_s`."""

    def __init__(self, longest_hold_s: float) -> None:
        if not 0 < longest_hold_s < math.inf:
            raise ValueError(f"longest_hold_s must be more than 0, it is {longest_hold_s:g}")
        self.longest_hold_s = longest_hold_s
        self.refusals: dict[str, int] = {}  # in a row, by account

    def refused(self, buckets: Buckets, account: str, error: Exception, now: float) -> None:
        """Leave the key alone for as long as the error says, or longer each time if it does not."""
        wait_s = getattr(error, "retry_after_s", None)
        refusals = self.refusals[account] = self.refusals.get(account, 0) + 1
        if not isinstance(wait_s, int | float) or not 0 <= wait_s < math.inf:
            wait_s = FIRST_HOLD_S * 2.0 ** min(refusals - 1, 32)
        until = now + min(wait_s, self.longest_hold_s)
        buckets.account(account).hold(until, "its provider takes no more for now")
        self.believe(buckets, account, getattr(error, "allowances", ()), now)

    def answered(self, account: str) -> None:
        """A call has come back well."""
        self.refusals.pop(account, None)

    def believe(
        self, buckets: Buckets, account: str, told: tuple[Allowance, ...], now: float
    ) -> None:
        """What is incomplete, or cannot be, is passed over."""
        for one in told:
            limit, remaining, reset_s = one.limit, one.remaining, one.reset_s
            if limit is None or remaining is None or reset_s is None:
                continue
            if limit > 0 and 0 <= remaining <= limit and 0 <= reset_s < math.inf:
                reset_s = min(reset_s, self.longest_hold_s)
                what = DIMENSION_OF[one.what]
                buckets.account(account).told(what, limit, remaining, reset_s, now)
