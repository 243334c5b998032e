"""Tokens where no tokenizer is at hand: estimated, and learned from what providers report.

A text's content (words, code, numbers, Chinese, ...) is counted, and weighed as the tokenizer
that is nearest to the model's would. What providers report then corrects each content's weight,
what a message and a tool cost besides their text, and how far an estimate may be off.
"""

import json
from collections.abc import Iterable, Iterator, Sequence
from math import ceil
from typing import Literal, NamedTuple

from ...subsystems.llm.driver import ChatMessage, ToolSpec
from ._estimate_family import family_of
from ._estimate_learning import Learner
from ._estimate_text import CONTENTS, Tokens, scanner_of

DOUBTS = {
    "words": 0.25,
    "code": 0.3,
    "layout": 0.3,
    "numbers": 0.4,
    "han": 0.4,
    "scripts": 0.4,
    "symbols": 0.5,
}
"""How far a content's factor may lie from 1, as a standard deviation."""
OWN = 0.5
"""The share of these doubts for a model whose own tokenizer was fitted."""

COSTS = {
    "schemas": (0.0, 0.3),
    "prompt": (3, 15),
    "message": (4, 3),
    "tool": (8, 8),
    "tools": (30, 60),
}
"""What else counts, with its doubt: the share by which a tool's definition costs more than its
JSON; then tokens for each prompt, message or call, tool, and prompt with tools."""

ROOMS = (0.25, 4.0)
"""A content's factor stays within this."""
SPREAD = 0.06
RESERVED = 2.5
"""Deviations of the reserve."""
RESERVED_LEAST = 0.08
"""The least reserve, as a share of the estimate."""
IMPLAUSIBLE = 3
HIDDEN = 300
"""Tokens of instructions that a provider may add to any prompt."""


Back = Literal["never", "with_tools", "always"]


class Estimate(NamedTuple):
    """Tokens, and with the reserve: what a provider reports is hardly ever more."""

    tokens: int
    at_most: int


class Estimator:
    """Counts for one model at one provider; `reasoning_back` as at `Endpoint`."""

    def __init__(self, model: str, *, reasoning_back: Back = "never") -> None:
        family = family_of(model)
        share = OWN if family.own else 1.0
        self._scanner = scanner_of(family)
        self._back = reasoning_back
        self._learner = Learner(
            [1.0 for _ in CONTENTS] + [value for value, _ in COSTS.values()],
            [DOUBTS[name] * share for name in CONTENTS] + [doubt for _, doubt in COSTS.values()],
            [ROOMS[0] for _ in CONTENTS] + [-0.7, 0, 0, 0, 0],
            [ROOMS[1] for _ in CONTENTS] + [3, 2000, 100, 500, 2000],
            spread=SPREAD,
        )

    def text(self, text: str) -> Estimate:
        """Tokens of a text by itself."""
        return self._estimated((*self._scanner.tokens(text), 0, 0, 0, 0, 0))

    def prompt(self, messages: Sequence[ChatMessage], tools: Sequence[ToolSpec]) -> Estimate:
        """Tokens of a prompt as the provider will count it."""
        return self._estimated(self._quantities(messages, tools))

    def learn(
        self, messages: Sequence[ChatMessage], tools: Sequence[ToolSpec], tokens: int
    ) -> None:
        """The provider says that this prompt had so many tokens.

        What cannot be is not believed: nothing at all, or the part that was not cached.
        """
        quantities = self._quantities(messages, tools)
        expected = self._learner.estimate(quantities)
        if expected / IMPLAUSIBLE < tokens < expected * IMPLAUSIBLE + HIDDEN:
            self._learner.learn(quantities, tokens)

    def _estimated(self, quantities: Sequence[float]) -> Estimate:
        tokens = max(self._learner.estimate(quantities), 0.0)
        reserve = RESERVED * self._learner.deviation(quantities)
        return Estimate(ceil(tokens), ceil(tokens + max(reserve, RESERVED_LEAST * tokens)))

    def _quantities(self, messages: Sequence[ChatMessage], tools: Sequence[ToolSpec]) -> Tokens:
        schemas = self._sum(_definitions(tools))
        texts = self._sum(self._texts(messages))
        calls = sum(len(message.tool_calls) for message in messages)
        return (
            *(map(sum, zip(texts, schemas, strict=True))),
            sum(schemas),
            1,
            len(messages) + calls,
            len(tools),
            1 if tools else 0,
        )

    def _sum(self, texts: Iterable[str]) -> Tokens:
        rows = [self._scanner.tokens(text) for text in texts]
        return tuple(map(sum, zip(*rows, strict=True))) if rows else (0.0,) * len(CONTENTS)

    def _texts(self, messages: Iterable[ChatMessage]) -> Iterator[str]:
        for message in messages:
            yield message.text
            if self._back == "always" or (self._back == "with_tools" and message.tool_calls):
                yield message.reasoning
            for call in message.tool_calls:
                yield call.name
                yield json.dumps(call.arguments, ensure_ascii=False)


def _definitions(tools: Sequence[ToolSpec]) -> Iterator[str]:
    for tool in tools:
        yield json.dumps(
            {"name": tool.name, "description": tool.description, "parameters": tool.parameters},
            ensure_ascii=False,
        )
