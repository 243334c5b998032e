"""Tokens where no tokenizer is at hand: estimated, and learned from what providers report."""

from collections.abc import Sequence

from ...subsystems.llm.driver import ChatMessage, ToolSpec

BYTES_A_TOKEN = 3.5


class Estimator:
    """Counts for one model family."""

    def __init__(self, model: str) -> None:
        self._model = model

    def text(self, text: str) -> int:
        """Tokens of a text."""
        return int(len(text.encode("utf-8", "replace")) / BYTES_A_TOKEN) + 1

    def prompt(self, messages: Sequence[ChatMessage], tools: Sequence[ToolSpec]) -> int:
        """Tokens of a prompt."""
        parts = [m.text for m in messages]
        parts += [c.model_dump_json() for m in messages for c in m.tool_calls]
        parts += [t.model_dump_json() for t in tools]
        return sum(self.text(part) + 4 for part in parts)

    def at_most(self, tokens: int) -> int:
        """An estimate with its reserve: what the provider reports is hardly ever more."""
        return int(tokens * 1.2) + 8

    def learn(
        self, messages: Sequence[ChatMessage], tools: Sequence[ToolSpec], tokens: int
    ) -> None:
        """The provider says that this prompt had so many tokens."""
