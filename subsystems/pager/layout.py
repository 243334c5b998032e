"""The layout of a prompt: what stands where, kept up page by page."""

from collections.abc import Iterable

from ..llm.messages import ChatMessage
from ..storage.messages import Page

UNANSWERED = "(not called: the step was interrupted)"
"""Stands where a tool call has no result, so that the history is valid for every provider."""

TEMPLATE = 64
"""Tokens that a model's template may put around a message or a tool."""


class Layout:
    """Messages from stable to volatile: system, pinned, then the history.

    Every tool call has its result behind it, or a note that it has none. What is here already
    is never gone through again, for a prompt may have thousands of messages. `most` bounds
    their tokens: no tokenizer makes more than there are bytes.
    """

    __slots__ = ("_history", "_pinned", "_results", "_system", "held", "most")

    def __init__(self) -> None:
        self.most = 0
        self.held: list[ChatMessage] = []  # whatever is pinned
        self._system: list[ChatMessage] = []
        self._pinned: list[ChatMessage] = []
        self._history: list[ChatMessage] = []
        # Ids may recur: a result belongs to the latest call before it.
        self._results: dict[str | None, list[int]] = {}

    @property
    def messages(self) -> tuple[ChatMessage, ...]:
        """All of them, in their order."""
        return (*self._system, *self._pinned, *self._history)

    def grown(self, pages: Iterable[tuple[Page, ChatMessage]]) -> "Layout":
        """Another one, with these pages more."""
        grown = Layout()
        grown.most, grown.held = self.most, self.held.copy()
        grown._system, grown._pinned = self._system.copy(), self._pinned.copy()
        grown._history, grown._results = self._history.copy(), self._results.copy()
        for page, message in pages:
            grown.add(page, message)
        return grown

    def add(self, page: Page, message: ChatMessage) -> None:
        """Put the next page, as the model sees it, where it belongs."""
        if page.pinned:
            self.held.append(message)
        if page.role == "system":
            self._append(self._system, message)
        elif page.pinned:
            self._append(self._pinned, message)
        elif page.role == "tool":
            self._answer(message)
        else:
            self._append(self._history, message)
            self._ask(message)

    def _append(self, part: list[ChatMessage], message: ChatMessage) -> None:
        part.append(message)
        self.most += at_most(message)

    def _ask(self, message: ChatMessage) -> None:
        self._results |= {call.id: [] for call in message.tool_calls}
        for call in message.tool_calls:
            self._results[call.id].append(len(self._history))
            missing = ChatMessage(role="tool", text=UNANSWERED, tool_call_id=call.id)
            self._append(self._history, missing)

    def _answer(self, result: ChatMessage) -> None:
        for place in self._results.get(result.tool_call_id, ()):
            self.most += at_most(result) - at_most(self._history[place])
            self._history[place] = result


def at_most(message: ChatMessage) -> int:
    """Tokens of a message."""
    size = bound(message.text)
    if message.reasoning:
        size += bound(message.reasoning)
    for call in message.tool_calls:
        size += bound(call.model_dump_json())
    return size


def bound(part: str) -> int:
    """Tokens of a text, and of what a template puts around it."""
    return TEMPLATE + (len(part) if part.isascii() else 4 * len(part))
