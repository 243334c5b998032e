"""What a scripted model takes for a token, and counting that keeps up with a conversation."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field

from ...subsystems.llm.driver import ChatMessage, ToolCall, ToolSpec

BYTES_A_TOKEN = 4
TOKENS_A_MESSAGE = 3
LATEST = 256
"""Conversations whose last prompt is remembered."""

Messages = tuple[ChatMessage, ...]


@dataclass(slots=True)
class Counted:
    """A prompt's messages, their tokens, and the tool calls in them."""

    messages: Messages = ()
    tokens: int = 0
    calls: int = 0

    def begins(self, messages: Messages) -> bool:
        return messages[: len(self.messages)] == self.messages

    def grown(self, messages: Messages) -> "Counted":
        """This prompt, which begins with these, and what has come since."""
        new = messages[len(self.messages) :]
        tokens = self.tokens + sum([_message_tokens(message) for message in new])
        return Counted(messages, tokens, self.calls + sum([len(m.tool_calls) for m in new]))


@dataclass(slots=True)
class Counter:
    """Counts prompts; one that has only grown since the last time is counted from there on."""

    _latest: dict[int, Counted] = field(default_factory=dict)  # by its first message's identity
    _offered: tuple[ToolSpec, ...] = ()
    _offered_tokens: int = 0

    def count(self, messages: Messages) -> Counted:
        first = id(messages[0]) if messages else 0
        known = self._latest.pop(first, None)
        if known is None or not known.begins(messages):
            known = Counted()
        counted = self._latest[first] = known.grown(messages)
        if len(self._latest) > LATEST:
            del self._latest[next(iter(self._latest))]
        return counted

    def tools(self, offered: tuple[ToolSpec, ...]) -> int:
        """Tokens of these tools; the same ones come again and again."""
        if offered != self._offered:
            self._offered = offered
            self._offered_tokens = sum([tokens(tool.model_dump_json()) for tool in offered])
        return self._offered_tokens


def _message_tokens(message: ChatMessage) -> int:
    calls = call_tokens(message.tool_calls) if message.tool_calls else 0
    return TOKENS_A_MESSAGE + tokens(message.text) + calls


def call_tokens(calls: Sequence[ToolCall]) -> int:
    return sum(tokens(one.name) + tokens(json.dumps(one.arguments)) for one in calls)


def tokens(text: str) -> int:
    return -(-size(text) // BYTES_A_TOKEN)


def size(text: str) -> int:
    """Bytes."""
    return len(text) if text.isascii() else len(text.encode(errors="replace"))
