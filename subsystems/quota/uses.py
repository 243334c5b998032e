"""What a call may use at most, and what it has used, as a quota counts it."""

import math
from typing import Any, Literal, Protocol

from ...kernel.message import Meter
from ..llm.messages import Complete, ModelCard, Price, Usage
from ..storage.messages import Spent
from .currencies import Exchange
from .messages import COUNTED, NANO, Unbounded

USAGE = (
    *("llm.prompt_tokens", "llm.completion_tokens", "llm.cached_tokens"),
    *("llm.cache_written_tokens", "llm.reasoning_tokens", "llm.attempts"),
)
End = Literal["failed", "cut", "replied"]
"""How a call ended; it has failed until it is known to have done otherwise."""


class Use(Protocol):
    """Of one call."""

    waits: bool
    """May it fit when others have given something back?"""
    model: str
    end: End

    def concerns(self, what: str) -> bool:
        """Does such a call use this at all?"""
        ...

    def most(self, what: str) -> int:
        """What it may use of it at most. Raises Unbounded."""
        ...

    def spent(self) -> Spent:
        """What it has used until now."""
        ...

    def took(self, spent: Spent, what: str) -> int:
        """What that is, as the account counts it."""
        ...


class ToolUse:
    """A tool's call."""

    __slots__ = ("end",)
    waits = False  # what others have reserved they will use
    model = ""

    def __init__(self) -> None:
        self.end: End = "failed"

    def concerns(self, what: str) -> bool:
        return what == "tool_calls"

    def most(self, what: str) -> int:
        return 1

    def spent(self) -> Spent:
        return Spent(tool_calls=1)

    def took(self, spent: Spent, what: str) -> int:
        return spent.tool_calls


class ModelUse:
    """A model's call. `prompt` are the tokens of its prompt, where somebody has counted them.

    The meter goes on from attempt to attempt; what is counted here begins with this one.
    """

    __slots__ = (
        "_before",
        "_card",
        "_exchange",
        "_meter",
        "_unpriced",
        "ask",
        "end",
        "model",
        "prompt",
    )
    waits = True

    def __init__(
        self, ask: Complete, card: ModelCard, meter: Meter, exchange: Exchange, unpriced: str
    ) -> None:
        self.ask, self.model, self._card, self._meter = ask, card.model, card, meter
        self._exchange, self._unpriced = exchange, unpriced
        self._before = _metered(meter) if meter else None
        self.prompt: int | None = None
        self.end: End = "failed"

    def bound(self, max_tokens: int) -> Complete:
        """The same request, with a reply of so many tokens at most."""
        sampling = self.ask.sampling.model_copy(update={"max_tokens": max_tokens})
        self.ask = self.ask.model_copy(update={"sampling": sampling})
        return self.ask

    def concerns(self, what: str) -> bool:
        return what != "tool_calls"

    def most(self, what: str) -> int:
        match what:
            case "calls":
                return 1
            case "prompt_tokens":
                return self.prompt or 0
            case "completion_tokens":
                return self._reply()
            case "tokens":
                return (self.prompt or 0) + self._reply()
        rate = self._rate(what)
        if rate is None or self._card.price is None:
            return 0
        dearest = self._card.price.dearest(self.prompt or 0, self._reply())
        return math.ceil(dearest * rate * NANO)

    def _reply(self) -> int:
        most = self.ask.sampling.max_tokens or self._card.max_output
        if most is None:
            raise Unbounded(
                f"{self._card.model} does not say how long its replies may be, and under a quota "
                "every call must be bounded: say max_tokens, as in think(..., max_tokens=500), or "
                "max_tokens = 500 in [services.quota] for all that do not",
                rule="quota",
            )
        return most

    def _rate(self, currency: str) -> float | None:
        """From the model's currency to the quota's; None where money does not matter."""
        price = self._card.price
        rate = None if price is None else self._exchange.rate(price.currency, currency)
        if rate is not None or (price is None and self._unpriced == "allow"):
            return rate
        if price is None:
            raise Unbounded(
                f"nobody knows what {self._card.model} costs, and a quota in {currency} is set: "
                "give the model a price, or let it pass uncounted with "
                'unpriced = "allow" in [services.quota]',
                rule="quota",
            )
        raise Unbounded(
            f"{self._card.model} is priced in {price.currency}, and a quota is set in {currency}: "
            f'add rates = {{ "{price.currency}/{currency}" = ... }} to [services.quota]',
            rule="quota",
        )

    def spent(self) -> Spent:
        prompt, completion, cached, written, reasoning, attempts = self._used()
        if attempts and not prompt and self.end == "cut":
            prompt = self.prompt or 0  # nobody had told yet; it was sent all the same
        price, money = self._card.price, 0
        if price is not None:
            money = _money(price, prompt, completion, cached, written)
        return Spent(
            currency="" if price is None else price.currency,
            prompt=prompt,
            completion=completion,
            cached=cached,
            reasoning=reasoning,
            money=money,
            calls=attempts or int(self.end == "replied"),
        )

    def _used(self) -> tuple[int, ...]:
        now = _metered(self._meter)
        if self._before is None:
            return now
        return tuple([after - before for after, before in zip(now, self._before, strict=True)])

    def took(self, spent: Spent, what: str) -> int:
        if what == "tokens":
            return spent.prompt + spent.completion
        if what in COUNTED:
            return int(getattr(spent, what.removesuffix("_tokens")))
        rate = self._exchange.rate(spent.currency, what)
        return 0 if rate is None else round(spent.money * rate)


def _money(price: Price, prompt: int, completion: int, cached: int, written: int) -> int:
    usage = Usage.model_construct(
        prompt=prompt, completion=completion, cached=cached, cache_written=written
    )
    return round(price.of(usage) * NANO)


def _metered(meter: Meter) -> tuple[int, ...]:
    get: Any = meter.get
    return tuple([int(get(name, 0)) for name in USAGE])
