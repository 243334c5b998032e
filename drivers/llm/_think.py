"""Reasoning that stands in the text itself, between <think> and </think>, told apart."""

from collections.abc import Iterator

from ...subsystems.llm.driver import DeltaKind

OPEN, CLOSE = "<think>", "</think>"


class ThinkTags:
    """Splits a text as it comes; a tag may be cut between two pieces.

    Only a tag at the very beginning opens the reasoning: later ones are text.
    """

    def __init__(self) -> None:
        self._kind: DeltaKind | None = None  # None: not known yet
        self._held = ""

    def split(self, text: str) -> Iterator[tuple[str, DeltaKind]]:
        """The pieces that are certain now."""
        self._held += text
        if self._kind is None:
            self._begin()
        if self._kind == "reasoning":
            yield from self._inside()
        if self._kind == "text" and self._held:
            yield self._take(len(self._held)), "text"

    def end(self) -> Iterator[tuple[str, DeltaKind]]:
        """What was held back for a tag that never came."""
        if self._held:
            yield self._take(len(self._held)), self._kind or "text"

    def _begin(self) -> None:
        start = self._held.lstrip()
        if start.startswith(OPEN):
            self._kind, self._held = "reasoning", start[len(OPEN) :].lstrip("\n")
        elif start and not OPEN.startswith(start):
            self._kind = "text"

    def _inside(self) -> Iterator[tuple[str, DeltaKind]]:
        before, tag, after = self._held.partition(CLOSE)
        if tag:
            self._kind, self._held = "text", after.lstrip("\n")
            if before:
                yield before, "reasoning"
            return
        held = next((n for n in range(len(CLOSE) - 1, 0, -1) if before.endswith(CLOSE[:n])), 0)
        if len(before) > held:
            yield self._take(len(before) - held), "reasoning"

    def _take(self, size: int) -> str:
        taken, self._held = self._held[:size], self._held[size:]
        return taken
