"""A circuit: closed while calls go well, open while they do not, half-open while it tries.

It has no clock and waits for nothing: each call enters and leaves it at a moment.
"""

import math
from collections import deque
from typing import NamedTuple, Self

from pydantic import model_validator

from ...kernel.message import Value
from .messages import Circuit as Shown
from .messages import CircuitOpen, CircuitState

FAILED, SLOW = 1, 2


class Outcome(NamedTuple):
    """What a call tells of what stands behind the circuit; one that was cut does not count."""

    failed: bool = False
    counts: bool = True


WELL, FAILURE, NOTHING = Outcome(), Outcome(failed=True), Outcome(counts=False)


class Rules(Value):
    """When a circuit opens and closes; times in seconds.

    The window is the last `window_calls`, or what ended within the last `window_s`.
    """

    window_calls: int = 20
    window_s: float | None = None
    least_calls: int = 10
    failure_rate: float = 0.5
    slow_s: float | None = None
    slow_rate: float = 1.0
    open_s: float = 30.0
    longest_open_s: float = 300.0
    probes: int = 1

    @model_validator(mode="after")
    def _could_work(self) -> Self:
        for name in ("window_calls", "least_calls", "probes"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, it is {getattr(self, name)}")
        for name in ("window_s", "slow_s", "open_s", "longest_open_s"):
            value = getattr(self, name)
            if value is not None and not 0 < value < math.inf:
                raise ValueError(f"{name} must be more than 0 seconds, it is {value:g}")
        for name in ("failure_rate", "slow_rate"):
            if not 0 < getattr(self, name) <= 1:
                raise ValueError(f"{name} is a part of the calls: more than 0 and at most 1")
        if self.window_s is None and self.least_calls > self.window_calls:
            raise ValueError(
                f"least_calls ({self.least_calls}) are more than the window holds "
                f"({self.window_calls}): the circuit would never open"
            )
        if self.longest_open_s < self.open_s:
            raise ValueError("longest_open_s must not be less than open_s")
        return self

    def under(self, own: "Rules") -> "Rules":
        """These, but for what `own` sets."""
        told = own.model_dump(include=own.model_fields_set)
        return Rules.model_validate({**self.model_dump(), **told})


class Circuit:
    """The calls of one address, or of one tool."""

    __slots__ = (
        "_failed", "_slow", "_window", "age", "is_quiet", "name", "opened", "passed", "probing", "reason",
        "rules", "state", "until",
    )  # fmt: skip

    def __init__(self, name: str, rules: Rules) -> None:
        self.name, self.rules, self.state = name, rules, "closed"
        self.until, self.reason = 0.0, ""
        self.opened = 0  # times in a row
        self.probing = self.passed = 0
        self.age = 0  # counts the changes of state; who entered in another says nothing
        self.is_quiet = False  # a call that goes well would change nothing
        self._window: deque[tuple[float, int]] = deque()
        self._failed = self._slow = 0

    state: CircuitState

    @property
    def calls(self) -> int:
        return len(self._window)

    def change(self, rules: Rules) -> None:
        """Go on under other rules; what the window holds stays."""
        self.rules, self.is_quiet = rules, False

    def enter(self, now: float) -> int:
        """Let a call through; what it gives back is for `leave`. Raises CircuitOpen."""
        if self.state == "closed":
            return self.age
        if self.state == "open":
            if now < self.until:
                raise CircuitOpen(self.name, self.until, self.reason)
            self._turn("half_open")
            self.probing = self.passed = 0
        if self.probing + self.passed >= self.rules.probes:
            raise CircuitOpen(self.name, now + self.rules.open_s, "others try it out")
        self.probing += 1
        return self.age

    def leave(self, turn: int, now: float, seconds: float, outcome: Outcome) -> bool:
        """A call is over; says whether who waits for the circuit should look again."""
        if turn != self.age:
            return False
        slow_s = self.rules.slow_s
        slow = slow_s is not None and seconds >= slow_s
        if self.state == "half_open":
            return self._probed(now, outcome, slow)
        if outcome.counts or slow:
            self._note(now, FAILED * outcome.failed + SLOW * slow)
            return (outcome.failed or slow) and self._judge(now)
        return False

    def _note(self, now: float, kind: int) -> None:
        window = self._window
        window.append((now, kind))
        if kind:
            self._failed += kind & FAILED
            self._slow += kind >> 1
        if self.rules.window_s is None:
            while len(window) > self.rules.window_calls:
                self._forget()
        else:
            oldest = now - self.rules.window_s
            while window[0][0] <= oldest:
                self._forget()
        self.is_quiet = (
            not (self._failed or self._slow)
            and self.rules.window_s is None
            and self.rules.slow_s is None
            and len(window) == self.rules.window_calls
        )

    def _forget(self) -> None:
        _, kind = self._window.popleft()
        self._failed -= kind & FAILED
        self._slow -= kind >> 1

    def _judge(self, now: float) -> bool:
        calls, rules = len(self._window), self.rules
        if calls < rules.least_calls:
            return False
        if self._failed >= rules.failure_rate * calls:
            self._open(now, f"{self._failed} of the last {calls} calls failed")
        elif rules.slow_s is not None and self._slow >= rules.slow_rate * calls:
            slow = f"took {rules.slow_s:g} s or more"
            self._open(now, f"{self._slow} of the last {calls} calls {slow}")
        return self.state == "open"

    def _probed(self, now: float, outcome: Outcome, slow: bool) -> bool:
        self.probing -= 1
        if outcome.failed or slow:
            self._open(now, "it was tried out and failed" if outcome.failed else "still too slow")
            return True
        if not outcome.counts:
            return True  # its place is free again
        self.passed += 1
        if self.passed < self.rules.probes:
            return False
        self.opened = 0
        self._turn("closed")
        return True

    def _open(self, now: float, reason: str) -> None:
        self._turn("open")
        longest, doubled = (
            self.rules.longest_open_s,
            self.rules.open_s * 2.0 ** min(self.opened, 64),
        )
        self.opened += 1
        self.until, self.reason = now + min(longest, doubled), reason

    def _turn(self, state: CircuitState) -> None:
        self.state = state
        self.age += 1
        self.is_quiet = False
        self._window.clear()
        self._failed = self._slow = 0

    def shown(self) -> Shown:
        """How it stands, as others may see it."""
        calls = len(self._window)
        return Shown(
            name=self.name,
            state=self.state,
            calls=calls,
            failure_rate=self._failed / calls if calls else 0.0,
            slow_rate=self._slow / calls if calls else 0.0,
            until=self.until if self.state == "open" else None,
            opened=self.opened,
            probes=self.probing,
        )
