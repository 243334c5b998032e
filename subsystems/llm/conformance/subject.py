"""The driver under test: how to get it, and what it did in a call."""

import unittest
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

import anyio

from ..driver import LLM, Complete, Completion, DeltaKind, Meter, Usage

CLEAN_UP_S = 10
METERED = ("prompt", "completion", "cached", "cache_written", "reasoning")


class Nonconforming(AssertionError):
    """The driver does not do what a model driver must; the message is a sentence."""


class NotApplicable(unittest.SkipTest):
    """This cannot be checked on this subject; the message says why."""


def expect(holds: bool, otherwise: str) -> None:
    """Raises Nonconforming with the sentence `otherwise`."""
    if not holds:
        raise Nonconforming(otherwise)


class Model:
    """A started driver, what it emitted in its last call and what it metered."""

    def __init__(self, driver: LLM) -> None:
        self.driver, self.card = driver, driver.card()
        self.heard: list[tuple[str, DeltaKind]] = []
        self.meter = Meter()

    def needs(self, able: bool, what: str) -> None:
        """Raises NotApplicable where the card says that the model cannot do this."""
        if not able:
            raise NotApplicable(f"the card of {self.card.model} says: no {what}")

    async def ask(self, ask: Complete) -> Completion:
        """Call, and keep what comes of it."""
        self.heard, self.meter = [], Meter()
        return await self.driver.complete(ask, self._hear, self.meter)

    async def ask_warm(self, ask: Complete) -> Completion:
        """Ask twice: answers from the same state of a prefix cache are the same."""
        await self.ask(ask)
        return await self.ask(ask)

    def said(self, kind: DeltaKind = "text") -> str:
        """The pieces of this kind, joined."""
        return "".join(text for text, of in self.heard if of == kind)

    @property
    def used(self) -> Usage:
        """What the meter says of the last call."""
        return Usage.model_validate(
            {part: int(self.meter.get(f"llm.{part}_tokens", 0)) for part in METERED}
        )

    async def _hear(self, text: str, kind: DeltaKind = "text", /) -> None:
        self.heard.append((text, kind))


@dataclass(frozen=True, kw_only=True)
class Subject:
    """A driver under test.

    `make` builds one that is not started; keyword arguments are config over its own. `running`
    is one that is: checks that need no config of their own use it, and leave it running.
    A "real" model says what it likes; a "told" one what `script` says, and is checked for it.
    `small_window` and `one_slot` are config that make the window small enough to overflow
    cheaply, and calls wait for each other. From `cache_from` tokens on a repeated prompt is
    read from the prefix cache. `exempt` names checks that what stands behind the driver
    cannot pass, each with the reason. A check has `patience_s` seconds.
    """

    make: Callable[..., LLM]
    running: LLM | None = None
    nature: Literal["real", "told"] = "real"
    small_window: Mapping[str, Any] | None = None
    one_slot: Mapping[str, Any] | None = None
    cache_from: int = 1100
    exempt: Mapping[str, str] = field(default_factory=dict)
    patience_s: float = 60

    @asynccontextmanager
    async def model(self, config: Mapping[str, Any] | None = None) -> AsyncIterator[Model]:
        """The driver, started, until the block ends."""
        if self.running is not None and config is None:
            yield Model(self.running)
            return
        driver = self.make(**(config or {}))
        try:
            await driver.start()
            yield Model(driver)
        finally:
            with anyio.move_on_after(CLEAN_UP_S, shield=True):
                await driver.stop()
