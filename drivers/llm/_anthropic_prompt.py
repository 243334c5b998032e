"""A conversation as the messages wire wants it: the user and the model in turn, in blocks."""

import re
from collections.abc import Iterator, Sequence
from itertools import takewhile
from operator import attrgetter
from typing import Any, Literal

from ...subsystems.llm.driver import BadPrompt, ChatMessage, JsonObject, ToolCall, ToolSpec

Block = dict[str, Any]
Cache = Literal["5m", "1h", "off"]

OPENING = "Begin."
"""The user's first words where a history begins with the model's: the wire has no other way."""

STRANGE = re.compile(r"[^a-zA-Z0-9_-]")
"""What an id may not contain here; other vendors' ids do, such as functions.read:0."""


def parted(
    messages: Sequence[ChatMessage],
) -> tuple[Sequence[ChatMessage], Sequence[ChatMessage]]:
    """The system messages at the beginning, and the conversation.

    Where there is nothing else, the last of them is what the model answers.
    """
    leading = sum(1 for _ in takewhile(lambda message: message.role == "system", messages))
    leading = min(leading, len(messages) - 1)
    return messages[:leading], messages[leading:]


def texts(messages: Sequence[ChatMessage]) -> list[Block]:
    """A block for each message that says something: the wire refuses empty ones."""
    return [_text(message.text) for message in messages if message.text.strip()]


def turns(messages: Sequence[ChatMessage], vendor: str) -> list[Block]:
    """User and model strictly in turn, the user first. Raises BadPrompt when nothing is said."""
    told: list[tuple[str, list[Block]]] = []
    for message in messages:
        role = "assistant" if message.role == "assistant" else "user"
        if not (blocks := _blocks(message, vendor)):
            continue
        if told and told[-1][0] == role:
            told[-1][1].extend(blocks)
        else:
            told.append((role, blocks))
    if not told:
        raise BadPrompt("the prompt has no text at all: say what the model shall answer")
    if told[0][0] == "assistant":
        told.insert(0, ("user", [_text(OPENING)]))
    return [{"role": role, "content": _results_first(blocks)} for role, blocks in told]


def offered(tools: Sequence[ToolSpec]) -> list[Block]:
    """The tools by name, so that their order in the prompt never changes."""
    return [
        {"name": tool.name, "description": tool.description, "input_schema": tool.parameters}
        for tool in sorted(tools, key=attrgetter("name"))
    ]


def mark(body: JsonObject, cache: Cache) -> None:
    """Say up to where the prompt may be cached: after tools, system, and two user messages.

    The marks move on with the conversation, and that costs nothing: they are not part of what
    is compared, and every block has the same shape with a mark and without. The newest user
    message's mark writes what the next turn reads; the one before stands where the last turn
    wrote, so it is found even when more than the 20 blocks the provider looks back lie between,
    or when the newest message ended with something that only that turn said.
    Four marks are the most it takes:
    https://platform.claude.com/docs/en/build-with-claude/prompt-caching
    """
    if cache == "off":
        return
    label = {"type": "ephemeral"} | ({"ttl": cache} if cache != "5m" else {})
    parts: Any = body
    said = [turn["content"] for turn in parts["messages"] if turn["role"] == "user"]
    for blocks in (parts.get("tools"), parts.get("system"), *said[-2:]):
        if blocks:
            blocks[-1]["cache_control"] = label


def _blocks(message: ChatMessage, vendor: str) -> list[Block]:
    if message.role == "tool":
        return [_result(message)]
    if message.role == "assistant":
        return list(_answer(message, vendor))
    # A system message within the conversation is the user's here: not every model takes one
    # among the messages, and moved to the front it would change the cached prefix.
    return texts((message,))


def _answer(message: ChatMessage, vendor: str) -> Iterator[Block]:
    """What the model said, in the order in which it came.

    Reasoning goes back, signed as it was, where the reply has kept it because its vendor
    requires that. Another vendor's signature would be refused.
    """
    text, calls = message.text, [_call(call) for call in message.tool_calls]
    match message.echo:
        case {"wire": "anthropic", "vendor": str(whose), "blocks": list(kept)} if whose == vendor:
            for block in kept:
                match block:
                    case {"type": "text", "length": int(length)}:
                        yield from _if_said(text[:length])
                        text = text[length:]
                    case {"type": "tool_use"}:
                        yield from calls[:1]
                        calls = calls[1:]
                    case dict():
                        yield block
    yield from _if_said(text)
    yield from calls


def _if_said(text: str) -> list[Block]:
    return [_text(text)] if text.strip() else []


def _results_first(blocks: list[Block]) -> list[Block]:
    """Results stand directly behind the calls; what else the user said follows."""
    return sorted(blocks, key=lambda block: block["type"] != "tool_result")


def _text(text: str) -> Block:
    return {"type": "text", "text": text}


def _result(message: ChatMessage) -> Block:
    told: Block = {"type": "tool_result", "tool_use_id": _id(message.tool_call_id or "")}
    return told | ({"content": message.text} if message.text else {})


def _call(call: ToolCall) -> Block:
    return {"type": "tool_use", "id": _id(call.id), "name": call.name, "input": call.arguments}


def _id(number: str) -> str:
    return STRANGE.sub("_", number)
