"""Retry: a call that may work later is made again, after a pause, as far as that does no harm."""

import random
from typing import Any

import anyio

from ...kernel.call import Call
from ...kernel.errors import ConfigError, KernelError, NotNow, nearest
from ...kernel.message import Effect, R
from ...kernel.service import Proceed, Service
from ..processes.messages import Origin
from ..tools.messages import CallTool
from .budget import RetryBudget
from .messages import GaveUp, Retried


class Retry(Service, name="retry"):
    """A guard that repeats what failed, while it holds no slot.

    A call is made at most `attempts` times, where its error is retryable or of a class named in
    `also`. Before each repetition stands a pause, drawn between 0 and a bound that begins at
    `first_s` seconds and doubles up to `longest_s`; what a provider asks for with Retry-After
    comes before it, and where that is more than `longest_s`, the call fails at once. So it does
    when the pause would last beyond the caller's deadline.

    Repetitions to one address are at most `share` of its calls within `window_s` seconds, and
    `spare` besides. A call with the effect "once" is repeated only when a guard has not let it
    through (NotNow): after anything else nobody here knows whether it had begun. `seed` makes
    the pauses the same in each run.
    """

    def __init__(
        self,
        attempts: int = 4,
        first_s: float = 0.5,
        longest_s: float = 60.0,
        share: float = 0.2,
        spare: int = 10,
        window_s: float = 60.0,
        also: tuple[str, ...] = (),
        seed: int | None = None,
    ) -> None:
        """Raises ValueError for what cannot be meant."""
        if attempts < 1:
            raise ValueError("attempts must be at least 1, which is the call itself")
        if not 0 < first_s <= longest_s:
            raise ValueError("first_s must be above 0 and at most longest_s")
        if not 0 <= share <= 1:
            raise ValueError("share is a part of the calls, between 0 and 1")
        if spare < 0 or window_s <= 0:
            raise ValueError("spare must not be negative, and window_s must be above 0")
        self._attempts, self._first_s, self._longest_s = attempts, first_s, longest_s
        self._share, self._spare, self._window_s = share, spare, window_s
        self._also = frozenset(also)
        self._draw = random.Random(seed).uniform
        self._budgets: dict[str, RetryBudget] = {}

    async def start(self) -> None:
        known = {kind.__name__ for kind in KernelError.kinds()}
        for name in self._also - known:
            raise ConfigError(
                f"services.{self.address}.also: no error is called {name!r}; {nearest(name, known)}"
            )

    async def guard(self, call: Call[R], proceed: Proceed[R]) -> R:
        self._budget(call.address).count(self.bus.time())
        attempt = call.origin.attempts if isinstance(call.origin, Origin) else 0
        while True:
            try:
                return await proceed(call)
            except KernelError as error:
                if not (call.patient and self._repeats(call, error)):
                    raise
                attempt += not isinstance(error, NotNow)
                pause_s = self._pause_s(error, attempt)
                why_not = self._obstacle(call, error, attempt, pause_s)
                if why_not is not None:
                    error.add_note(f"attempts made: {attempt}; {why_not}")
                    await self.publish(GaveUp(**_told(call, error, attempt), why=why_not))
                    raise
                told = _told(call, error, attempt)
                await self.publish(Retried(**told, reason=str(error), pause_s=pause_s))
            await anyio.sleep(pause_s)

    def _budget(self, address: str) -> RetryBudget:
        budget = self._budgets.get(address)
        if budget is None:
            budget = RetryBudget(self._share, self._spare, self._window_s)
            self._budgets[address] = budget
        return budget

    def _repeats(self, call: Call[Any], error: KernelError) -> bool:
        """May this be made again at all?"""
        if isinstance(error, NotNow):
            return True
        if _effect(call) == "once":
            return False
        return error.retryable or any(kind.__name__ in self._also for kind in type(error).__mro__)

    def _pause_s(self, error: KernelError, attempt: int) -> float:
        if isinstance(error, NotNow):
            return max(0.0, error.until - self.bus.time())
        bound = min(self._first_s * 2.0 ** min(attempt - 1, 60), self._longest_s)
        return _asked_s(error) + self._draw(0, bound)

    def _obstacle(
        self, call: Call[Any], error: KernelError, attempt: int, pause_s: float
    ) -> str | None:
        """What forbids another attempt, if anything does. The budget is asked last: it pays."""
        now = self.bus.time()
        if now + pause_s >= call.deadline:
            return f"the caller's deadline is before the next, which could be in {pause_s:.3g} s"
        if isinstance(error, NotNow):
            return None
        if attempt >= self._attempts:
            return f"more are not made (attempts in [services.{self.address}])"
        if _asked_s(error) > self._longest_s:
            return f"{call.address} asks for a pause of {_asked_s(error):g} s (longest_s)"
        if not self._budget(call.address).spend(now):
            return f"too many calls of {call.address} fail to repeat them all (share, spare)"
        return None

    def hand_over(self, successor: "Retry") -> None:
        """What has been spent stays spent, within the successor's bounds."""
        if successor._window_s != self._window_s:
            return
        successor._budgets = self._budgets
        for budget in self._budgets.values():
            budget.share, budget.spare = successor._share, successor._spare


def _effect(call: Call[Any]) -> Effect:
    """A tool declares its own."""
    message = call.message
    return message.tool_effect if isinstance(message, CallTool) else message.effect


def _asked_s(error: KernelError) -> float:
    """For how long the provider wants to be left alone, as far as it said so."""
    return getattr(error, "retry_after_s", None) or 0.0


def _told(call: Call[Any], error: KernelError, attempt: int) -> dict[str, Any]:
    """Which call failed, and how, as both events have it."""
    return {
        "call": call.span_id,
        "caller": str(call.origin or call.sender),
        "what": call.message.topic,
        "address": call.address,
        "attempt": attempt,
        "error": type(error).__name__,
    }
