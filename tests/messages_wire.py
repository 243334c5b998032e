"""What servers say on the messages wire, as tests play it; checked against the SDK's types."""

from collections.abc import Iterator
from typing import Any

Told = dict[str, Any]


def begun(*, prompt: int = 20, cached: int = 0, written: int = 0) -> Told:
    usage = {
        "input_tokens": prompt,
        "cache_read_input_tokens": cached,
        "cache_creation_input_tokens": written,
        "output_tokens": 1,
    }
    return {"type": "message_start", "message": message(usage=usage)}


def message(*blocks: Told, stop: str | None = None, usage: Told) -> Told:
    """A whole message, as a server that does not stream gives it."""
    return {
        "id": "msg_01",
        "type": "message",
        "role": "assistant",
        "model": "claude-test",
        "content": list(blocks),
        "stop_reason": stop,
        "stop_sequence": None,
        "usage": usage,
    }


def text(index: int, *parts: str) -> Iterator[Told]:
    deltas = [{"type": "text_delta", "text": part} for part in parts]
    yield from block(index, {"type": "text", "text": ""}, deltas)


def calling(index: int, number: str, name: str, *parts: str) -> Iterator[Told]:
    """A tool call whose arguments come in these parts."""
    deltas = [{"type": "input_json_delta", "partial_json": part} for part in ("", *parts)]
    first = {"type": "tool_use", "id": number, "name": name, "input": {}}
    yield from block(index, first, deltas)


def thinking(index: int, signature: str, *parts: str) -> Iterator[Told]:
    deltas: list[Told] = [{"type": "thinking_delta", "thinking": part} for part in parts]
    deltas.append({"type": "signature_delta", "signature": signature})
    yield from block(index, {"type": "thinking", "thinking": "", "signature": ""}, deltas)


def redacted(index: int, data: str) -> Iterator[Told]:
    yield from block(index, {"type": "redacted_thinking", "data": data}, [])


def block(index: int, first: Told, deltas: list[Told]) -> Iterator[Told]:
    yield {"type": "content_block_start", "index": index, "content_block": first}
    for delta in deltas:
        yield {"type": "content_block_delta", "index": index, "delta": delta}
    yield {"type": "content_block_stop", "index": index}


def ended(stop: str = "end_turn", *, completion: int = 9, thought: int = 0) -> Iterator[Told]:
    usage: Told = {"output_tokens": completion}
    if thought:
        usage["output_tokens_details"] = {"thinking_tokens": thought}
    delta = {"stop_reason": stop, "stop_sequence": None}
    yield {"type": "message_delta", "delta": delta, "usage": usage}
    yield {"type": "message_stop"}


HELLO = [begun(), *text(0, "Hel", "lo ", "世界 🎉"), *ended()]

TWO_CALLS = [
    begun(prompt=3, cached=100, written=7),
    *text(0, "I look."),
    *calling(1, "toolu_a", "read_file", '{"pa', 'th": "no', 'tes.txt"}'),
    *calling(2, "toolu_b", "list_files"),
    *ended("tool_use", completion=40),
]

THOUGHT = [
    begun(),
    *thinking(0, "c2lnbmVk", "Let me ", "see."),
    *redacted(1, "aGlkZGVu"),
    *text(2, "I look."),
    *calling(3, "toolu_a", "list_files", "{}"),
    *ended("tool_use", completion=30, thought=12),
]

THOUGHT_BETWEEN = [
    begun(),
    *thinking(0, "Zmlyc3Q=", "First."),
    *text(1, "I look."),
    *thinking(2, "c2Vjb25k", "Then."),
    *text(3, "And again."),
    *calling(4, "toolu_a", "list_files", "{}"),
    *ended("tool_use"),
]

REFUSED = [begun(), *text(0, "I "), *ended("refusal")]

FORCED = [
    begun(),
    *calling(0, "toolu_a", "reply", '{"age"', ": 3}"),
    *ended("tool_use"),
]

STORIES = {
    "hello": HELLO,
    "two calls": TWO_CALLS,
    "thought": THOUGHT,
    "thought between": THOUGHT_BETWEEN,
    "refused": REFUSED,
    "forced": FORCED,
}
