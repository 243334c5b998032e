"""A shop behind limits, for tests of the guards below the scheduler."""

from collections.abc import Awaitable, Callable
from typing import Any

import anyio

from aoskernel import Kernel, Request, Service, handles
from aoskernel.kernel.call import here
from aoskernel.kernel.testing import run_virtual
from aoskernel.subsystems.llm.messages import (
    ChatMessage,
    Complete,
    Completion,
    Describe,
    ModelCard,
    Sampling,
    Usage,
)
from aoskernel.subsystems.processes.messages import Origin


class Fetch(Request[str], topic="shop.fetch", effect="none", addressed=True):
    """Have something from the shop."""


class Shop(Service, name="shop"):
    """Takes its time, and notes when it was asked."""

    def __init__(self, takes_s: float = 0.0) -> None:
        self.takes_s = takes_s
        self.error: Exception | None = None
        self.asked_at: list[float] = []

    @handles(Fetch)
    async def fetch(self, request: Fetch) -> str:
        self.asked_at.append(self.bus.time())
        await anyio.sleep(self.takes_s)
        if self.error is not None:
            raise self.error
        return "goods"


class Metered(Service, name="llm"):
    """A model of one account that uses what it was told to, or fails as it was told to."""

    def __init__(self, account: str = "", slots: int = 32, takes_s: float = 0.0) -> None:
        self.account, self.slots, self.takes_s = account, slots, takes_s
        self.prompt, self.completion = 10, 10
        self.error: Exception | None = None
        self.asked: list[tuple[float, str]] = []

    @handles(Complete)
    async def complete(self, ask: Complete) -> Completion:
        call = here()
        assert call is not None
        self.asked.append((self.bus.time(), ask.messages[-1].text))
        if self.error is not None:
            raise self.error
        meter = call.meter  # type: ignore[attr-defined]
        meter.add("llm.prompt_tokens", self.prompt)
        await anyio.sleep(self.takes_s)
        meter.add("llm.completion_tokens", self.completion)
        usage = Usage(prompt=self.prompt, completion=self.completion)
        return Completion(text="ok", finish="stop", usage=usage, model="metered")

    @handles(Describe)
    async def describe(self, request: Describe) -> ModelCard:
        return ModelCard(
            model="m", driver="test", context_window=99, slots=self.slots, account=self.account
        )


def asking(text: str = "go", max_tokens: int | None = None) -> Complete:
    sampling = Sampling(max_tokens=max_tokens)
    return Complete(messages=(ChatMessage(role="user", text=text),), sampling=sampling)


async def ask(kernel: Kernel, text: str, *, to: str | None = None, **who: Any) -> str:
    """As a process of this class, priority or tenant."""
    origin = Origin(**who) if who else None
    return (await kernel.bus.request(asking(text), to, origin=origin)).text


def virtually(scenario: Callable[[], Awaitable[None]]) -> None:
    """On virtual time, a day of it at most."""

    async def run() -> None:
        with anyio.fail_after(86_400):
            await scenario()

    run_virtual(run)


def most_within(moments: list[float], window_s: float) -> int:
    """The most of them that lie in one window of so many seconds, its end not included."""
    moments, first, most = sorted(moments), 0, 0
    for last, moment in enumerate(moments):
        while moments[first] <= moment - window_s + 1e-9:
            first += 1
        most = max(most, last - first + 1)
    return most
