"""Limits as the configuration has them: how much, of which calls, and what shares it."""

import math
import re
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, model_validator

from ...kernel.message import Value

Dimension = Literal["requests", "input_tokens", "output_tokens", "tokens"]
DIMENSIONS: tuple[Dimension, ...] = ("requests", "input_tokens", "output_tokens", "tokens")
Per = Literal["account", "address", "tenant", "user", "tool", "host", "key", "all"]
BREADTH: tuple[Per, ...] = ("key", "user", "tool", "host", "tenant", "address", "account", "all")
"""From the narrowest to the widest; who waits stands in line at the narrow ones first."""

UNITS = {"s": 1.0, "min": 60.0, "h": 3600.0, "d": 86400.0}
RATE = re.compile(
    r"\s*(?P<amount>[-+]?\d+(?:\.\d+)?(?:[eE]\d+)?)\s*/\s*(?P<unit>\w+)"
    r"(?:\s*,?\s*burst\s+(?P<burst>[-+]?\d+))?\s*"
)
BURST_S = 0.05
"""Of calls, what so many seconds bring may come at once; late wake-ups are made up for by it."""
SHARED_BURST_S = 0.5
LEAST_SHARED_BURST_S = 0.1
"""A shared limit is drawn in blocks that are good for half of that."""


@dataclass(frozen=True)
class Rate:
    """So much in a second on the average, and at most `burst` at once.

    In any window of w seconds no more than `each_s * w + burst` is let through.
    """

    amount: float
    unit: str
    burst: float | None = None

    @classmethod
    def parse(cls, text: Any) -> "Rate":
        """Read "50/s", "40000/min" or "50/s burst 10". Raises ValueError."""
        if isinstance(text, cls):
            return text
        found = RATE.fullmatch(text) if isinstance(text, str) else None
        if found is None:
            raise ValueError(f'{text!r} is no rate; write for example "50/s" or "50/s burst 10"')
        amount, unit = float(found["amount"]), found["unit"]
        if unit not in UNITS:
            raise ValueError(f"{text!r}: unknown unit {unit!r}; there are {', '.join(UNITS)}")
        if amount <= 0:
            raise ValueError(
                f"{text!r}: a rate must be more than 0; leave the limit out to have none, and let "
                "the policy refuse what must never be called"
            )
        if amount == math.inf:
            raise ValueError(f"{text!r}: leave the limit out to have none")
        burst = None if found["burst"] is None else int(found["burst"])
        if burst is not None and burst < 1:
            raise ValueError(f"{text!r}: a burst below one call would let nothing through")
        return cls(amount, unit, burst)

    @property
    def per_s(self) -> float:
        return self.amount / UNITS[self.unit]

    @property
    def each_s(self) -> float:
        """Seconds that bring one."""
        return UNITS[self.unit] / self.amount

    def most(self, dimension: Dimension, *, shared: bool) -> float:
        """At once: what was said, else what one unit of time brings; of calls, hardly any."""
        if self.burst is not None:
            return self.burst
        if dimension == "requests":
            return max(2.0, self.per_s * (SHARED_BURST_S if shared else BURST_S))
        return max(2.0, self.amount)

    def __str__(self) -> str:
        burst = "" if self.burst is None else f" burst {self.burst:g}"
        return f"{self.amount:g}/{self.unit}{burst}"


RateText = Annotated[Rate, BeforeValidator(Rate.parse)]


class Limit(Value):
    """What calls of one kind may use, a bucket for each `per`.

    `of` is a pattern of addresses ("llm.*"), or of names that `admitted` is asked for. An
    account is a provider's key: models that use the same one share its bucket. `shared` is one
    bucket for all kernels on the database.
    """

    of: str = "*"
    per: Per = "account"
    requests: RateText | None = None
    input_tokens: RateText | None = None
    output_tokens: RateText | None = None
    tokens: RateText | None = None
    concurrency: int | None = None
    shared: bool = False

    @model_validator(mode="after")
    def _could_work(self) -> Self:
        if not self.rates and self.concurrency is None:
            raise ValueError(
                f"the limit of {self.of!r} limits nothing; give it one of "
                f"{', '.join(DIMENSIONS)} or concurrency"
            )
        if self.concurrency is not None and self.concurrency < 1:
            raise ValueError(f"concurrency must be at least 1, it is {self.concurrency}")
        if self.shared:
            self._check_shared()
        return self

    def _check_shared(self) -> None:
        for rate in self.rates.values():
            least = max(2.0, rate.per_s * LEAST_SHARED_BURST_S)
            if rate.burst is not None and rate.burst < least:
                raise ValueError(
                    f"{rate}: kernels that share a limit draw it in blocks, and need a burst of "
                    f"at least {math.ceil(least)}"
                )

    @property
    def rates(self) -> dict[Dimension, Rate]:
        """The dimensions that have one."""
        told = ((name, getattr(self, name)) for name in DIMENSIONS)
        return {name: rate for name, rate in told if rate is not None}

    @property
    def is_fixed(self) -> bool:
        """A call's address alone says which bucket it is."""
        return self.per in ("account", "address", "all")

    def covers(self, name: str) -> bool:
        return fnmatchcase(name, self.of)

    def __str__(self) -> str:
        return f"{self.of} per {self.per}"
