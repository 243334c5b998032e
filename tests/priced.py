"""A scripted model that has a price, and may say how long its replies are at most."""

from dataclasses import dataclass

from aoskernel.drivers.llm.scripted import Scripted
from aoskernel.kernel.message import Meter
from aoskernel.subsystems.llm.driver import Emit
from aoskernel.subsystems.llm.messages import (
    ChatMessage,
    Complete,
    Completion,
    ModelCard,
    Price,
    ToolSpec,
)

EUR = Price(currency="EUR", prompt=10.0, completion=50.0, cached=1.0, cache_written=12.5)
"""For a million tokens, so 10,000 billionths for one of a prompt."""

SERVED: list[Meter] = []
"""What every call has used that a model was asked, whoever knows of it."""


@dataclass(kw_only=True)
class Priced(Scripted):
    """Scripted, with a card of its own. It counts prompts so many tokens too short."""

    price: Price | None = EUR
    max_output: int | None = None
    miscounts: int = 0

    def card(self) -> ModelCard:
        more = {"price": self.price, "max_output": self.max_output}
        return super().card().model_copy(update=more)

    async def count(self, messages: tuple[ChatMessage, ...], tools: tuple[ToolSpec, ...]) -> int:
        return max(0, await super().count(messages, tools) - self.miscounts)

    async def complete(self, ask: Complete, emit: Emit, meter: Meter) -> Completion:
        SERVED.append(meter)
        return await super().complete(ask, emit, meter)
