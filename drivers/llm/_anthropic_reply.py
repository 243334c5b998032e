"""A reply of the messages wire as it is streamed: blocks, each in parts."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from ...subsystems.llm.driver import (
    Completion,
    Endpoint,
    Finish,
    JsonObject,
    ModelUnavailable,
    ToolCall,
    Usage,
)
from ._anthropic_block import Block
from ._fault import within
from ._reply import Piece, agreed

Event = Mapping[str, Any]

FINISHES: dict[str, Finish] = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "tool_use": "tool_calls",
    "refusal": "refused",
    # The provider's own tools, which only `extra` can offer, have taken too long for one call.
    # What is there is not the whole reply: like one that a limit cut, it can be continued.
    "pause_turn": "length",
}
"""What the wire calls a reply's end; what is not here is taken for a stop."""

SHOWN = {"text": "text", "thinking": "thinking", "tool_use": "partial_json"}
"""Where a delta has the next part of a block of this type."""


class Reply:
    """Takes events, or one whole message, and puts the reply together.

    `calls_before` are the tool calls in the history: a call without an id gets a number.
    `text_tool` names the tool that was forced to get JSON: its input is the reply's text.
    """

    def __init__(
        self, endpoint: Endpoint, *, vendor: str, calls_before: int, text_tool: str = ""
    ) -> None:
        self.usage: Usage | None = None
        self._endpoint, self._vendor = endpoint, vendor
        self._calls_before, self._text_tool = calls_before, text_tool
        self._spoken = "tool_use" if text_tool else "text"
        self._blocks: dict[int, Block] = {}
        self._told: dict[str, Any] = {}
        self._stop, self._over = "", False

    @property
    def text(self) -> str:
        return "".join(block.said for block in self._of(self._spoken))

    @property
    def reasoning(self) -> str:
        return "".join(block.said for block in self._of("thinking"))

    @property
    def generated(self) -> str:
        return "".join(block.said for block in self._blocks.values() if block.kind != "thinking")

    @property
    def is_whole(self) -> bool:
        return self._over or bool(self._stop)

    @property
    def is_over(self) -> bool:
        return self._over

    def take(self, payload: Any) -> Iterable[Piece]:
        """The pieces in this event. Raises Fault when it holds an error."""
        if (fault := within(payload)) is not None:
            raise fault
        taken = EVENTS.get(payload.get("type"))
        return taken(self, payload) if taken else ()

    def completion(self, model: str) -> Completion:
        """The message, with its calls parsed. Raises ModelUnavailable."""
        finish = FINISHES.get(self._stop, "stop")
        if self._text_tool and finish in ("stop", "tool_calls") and not self.text:
            raise ModelUnavailable(f"the model did not keep to the schema: {self.generated[:80]!r}")
        calls = () if self._text_tool else self._parsed_calls(finish)
        return Completion(
            text=self.text,
            tool_calls=calls,
            finish=agreed(finish, calls),
            usage=self.usage or Usage(prompt=0, completion=0),
            model=model,
            reasoning=self.reasoning,
            echo=self._echo() if self._wants_back(calls) else None,
        )

    def _of(self, kind: str) -> Iterator[Block]:
        return (block for block in self._blocks.values() if block.kind == kind)

    def _start(self, event: Event) -> Iterable[Piece]:
        self._measure(event.get("message") or {})
        return ()

    def _message(self, event: Event) -> Iterable[Piece]:
        """The whole reply at once, from a server that does not stream."""
        self._measure(event)
        self._stop, self._over = event.get("stop_reason") or "end_turn", True
        blocks = enumerate(event.get("content") or ())
        return [
            piece
            for index, block in blocks
            for event in ({"index": index, "content_block": block},)
            for piece in (*self._begin(event), *self._finish(event))
        ]

    def _begin(self, event: Event) -> Iterable[Piece]:
        """A block begins; where a server does not stream, all of it is here."""
        block = Block(event.get("content_block") or {})
        self._blocks[event.get("index", 0)] = block
        return self._shown(block, block.said)

    def _add(self, event: Event) -> Iterable[Piece]:
        index, delta = event.get("index", 0), event.get("delta") or {}
        if signature := delta.get("signature"):
            self._at(index, "thinking").signature += signature
        for kind, name in SHOWN.items():
            if part := delta.get(name):
                block = self._at(index, kind)
                block.parts.append(part)
                return self._shown(block, part)
        return ()

    def _finish(self, event: Event) -> Iterable[Piece]:
        """A block ends: an input of nothing, which has no parts, is an empty object."""
        block = self._blocks.get(event.get("index", 0))
        if block is None or block.kind != "tool_use" or block.said:
            return ()
        block.parts.append("{}")
        return self._shown(block, "{}")

    def _end(self, event: Event) -> Iterable[Piece]:
        self._stop = (event.get("delta") or {}).get("stop_reason") or self._stop
        self._measure(event)
        return ()

    def _close(self, event: Event) -> Iterable[Piece]:
        self._over = True
        return ()

    def _at(self, index: int, kind: str) -> Block:
        """The block at this place; a server may have skipped its beginning."""
        return self._blocks.setdefault(index, Block({"type": kind}))

    def _shown(self, block: Block, part: str) -> Iterable[Piece]:
        """The part as its reader sees it; a tool's input is not for reading."""
        if not part:
            return ()
        if block.kind == "thinking":
            return ((part, "reasoning"),)
        return ((part, "text"),) if block.kind == self._spoken else ()

    def _measure(self, holder: Mapping[str, Any]) -> None:
        """Counts are of the whole reply so far; what is not repeated still holds."""
        told = holder.get("usage")
        if not isinstance(told, Mapping):
            return
        self._told |= {name: value for name, value in told.items() if value}
        count = self._told.get
        cached = count(self._endpoint.cached_tokens or "cache_read_input_tokens", 0)
        written = count("cache_creation_input_tokens", 0)
        self.usage = Usage(
            prompt=count("input_tokens", 0) + cached + written,
            completion=count("output_tokens", 0),
            cached=cached,
            cache_written=written,
            reasoning=count("output_tokens_details", {}).get("thinking_tokens") or 0,
        )

    def _parsed_calls(self, finish: Finish) -> tuple[ToolCall, ...]:
        """The calls; one that a limit or a refusal cut, which is the last block, is left out."""
        blocks = list(self._blocks.values())
        if finish in ("length", "refused"):
            blocks = blocks[:-1]
        called = [block for block in blocks if block.kind == "tool_use"]
        return tuple(
            block.call(f"call_{number}")
            for number, block in enumerate(called, self._calls_before + 1)
        )

    def _wants_back(self, calls: tuple[ToolCall, ...]) -> bool:
        """Whether this vendor must see this reply's reasoning again."""
        back = self._endpoint.reasoning_back
        return back == "always" or (back == "with_tools" and bool(calls))

    def _echo(self) -> JsonObject | None:
        """The reasoning as it must be sent again, and what stood between it.

        Text and calls are in the message already, so only their places are kept.
        """
        blocks = list(self._blocks.values())
        while blocks and not blocks[-1].is_reasoning:
            blocks.pop()
        if not blocks:
            return None
        return {
            "wire": "anthropic",
            "vendor": self._vendor,
            "blocks": [block.kept() for block in blocks],
        }


EVENTS: dict[Any, Callable[[Reply, Event], Iterable[Piece]]] = {
    "message_start": Reply._start,
    "message": Reply._message,
    "content_block_start": Reply._begin,
    "content_block_delta": Reply._add,
    "content_block_stop": Reply._finish,
    "message_delta": Reply._end,
    "message_stop": Reply._close,
}
"""What is made of each event; pings, and events that are not known yet, say nothing."""
