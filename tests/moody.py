"""Models that fail as told, and a guard that lets nobody through until a moment."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import anyio

from aoskernel.drivers.llm.scripted import Scripted
from aoskernel.kernel import Call, NotNow, Proceed, Service, handles
from aoskernel.kernel.call import here
from aoskernel.kernel.message import R
from aoskernel.subsystems.llm.driver import CutReply, Emit, Meter
from aoskernel.subsystems.llm.messages import (
    ChatMessage,
    Complete,
    Completion,
    Count,
    Describe,
    ModelCard,
    Usage,
)

Mood = Callable[[float], Exception | None]
"""What a call at this time fails with; None when it is answered."""


class Moody(Service, name="llm"):
    """A model that repeats the prompt, or fails as its mood is; it notes who asked when."""

    def __init__(
        self,
        mood: Mood = lambda now: None,
        *,
        name: str = "moody",
        window: int = 1000,
        slots: int = 1000,
        takes_s: float = 0.0,
        **says: Any,
    ) -> None:
        self.mood, self.takes_s, self.says = mood, takes_s, says
        self.card = ModelCard(model=name, driver="test", context_window=window, slots=slots)
        self.asked: list[tuple[float, str]] = []
        self.answered: list[str] = []

    @handles(Complete)
    async def complete(self, ask: Complete) -> Completion:
        text = ask.messages[-1].text
        self.asked.append((self.bus.time(), text))
        if self.takes_s:
            await anyio.sleep(self.takes_s)
        error = self.mood(self.bus.time())
        if error is not None:
            raise error
        self.answered.append(text)
        call = here()
        assert isinstance(call, Call)
        call.meter.add("llm.completion_tokens", 1)
        usage = Usage(prompt=1, completion=1)
        said = {"text": text, "finish": "stop", "usage": usage, "model": self.card.model}
        return Completion(**said | self.says)

    @handles(Count)
    async def count(self, ask: Count) -> int:
        error = self.mood(self.bus.time())
        if error is not None:
            raise error
        return len(self.card.model) + sum(len(message.text) for message in ask.messages)

    @handles(Describe)
    async def describe(self, request: Describe) -> ModelCard:
        return self.card


@dataclass(kw_only=True)
class CutOnce(Scripted):
    """A scripted model whose first reply ends too early."""

    has_cut: bool = False

    async def complete(self, ask: Complete, emit: Emit, meter: Meter) -> Completion:
        if self.has_cut:
            return await super().complete(ask, emit, meter)
        self.has_cut = True
        await emit("one ")
        await emit("two ")
        raise CutReply("the stream ended before the reply did", text="one two ")


def after(times: int, error: Callable[[], Exception]) -> Mood:
    """So many failures, and then no more."""
    left = [times]

    def mood(now: float) -> Exception | None:
        left[0] -= 1
        return error() if left[0] >= 0 else None

    return mood


class Doorman(Service, name="doorman"):
    """A guard where a limiter would stand: an address is shut until a moment, and tells so."""

    def __init__(self, **until: float) -> None:
        self.until = {f"llm.{name}": moment for name, moment in until.items()}
        self.refused: list[tuple[float, str]] = []

    async def guard(self, call: Call[R], proceed: Proceed[R]) -> R:
        until = self.until.get(call.address, 0.0)
        if self.bus.time() < until:
            self.refused.append((self.bus.time(), call.address))
            raise NotNow(until, f"{call.address} is shut")
        return await proceed(call)


def asking(text: str = "hello", **more: Any) -> Complete:
    return Complete(messages=(ChatMessage(role="user", text=text),), **more)
