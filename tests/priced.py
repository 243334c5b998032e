"""A scripted model that has a price, and may say how long its replies are at most."""

from dataclasses import dataclass

from aoskernel.drivers.llm.scripted import Scripted
from aoskernel.subsystems.llm.messages import ModelCard, Price

EUR = Price(currency="EUR", prompt=10.0, completion=50.0, cached=1.0, cache_written=12.5)
"""For a million tokens, so 10,000 billionths for one of a prompt."""


@dataclass(kw_only=True)
class Priced(Scripted):
    """Scripted, with a card of its own."""

    price: Price | None = EUR
    max_output: int | None = None

    def card(self) -> ModelCard:
        more = {"price": self.price, "max_output": self.max_output}
        return super().card().model_copy(update=more)
