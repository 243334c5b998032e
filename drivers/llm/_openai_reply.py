"""A reply of the chat-completions wire as it is streamed, in every vendor's spelling."""

import json
from collections.abc import Iterator, Mapping
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
from .._http import Fault
from ._fault import within
from ._reply import Piece, agreed
from ._think import ThinkTags

FINISHES: dict[str, Finish] = {
    "stop": "stop",
    "length": "length",
    "model_length": "length",
    "max_tokens": "length",
    "tool_calls": "tool_calls",
    "function_call": "tool_calls",
    "content_filter": "refused",
    "sensitive": "refused",
    "safety": "refused",
}
"""What vendors call a reply's end; what is not here is taken for a stop."""

FAILED = ("error", "network_error", "insufficient_system_resource")
"""Ends that are none: the vendor gave up."""

CACHED = "prompt_tokens_details.cached_tokens"
CACHE_WRITTEN = "prompt_tokens_details.cache_write_tokens"
REASONED = "completion_tokens_details.reasoning_tokens"


class Reply:
    """Takes chunks, or one whole answer, and puts the message together.

    `calls_before` are the tool calls in the history: a call without an id gets a number.
    """

    def __init__(self, endpoint: Endpoint, *, calls_before: int) -> None:
        self.usage: Usage | None = None
        self._endpoint = endpoint
        self._calls_before = calls_before
        self._said: dict[str, list[str]] = {"text": [], "reasoning": []}
        self._calls: list[_Call] = []
        self._kept: JsonObject = {}
        self._finish: Finish | None = None
        self._refusal = False
        self._tags = ThinkTags() if endpoint.think_tags else None

    @property
    def text(self) -> str:
        return "".join(self._said["text"])

    @property
    def reasoning(self) -> str:
        return "".join(self._said["reasoning"])

    @property
    def generated(self) -> str:
        return self.text + "".join(call.arguments for call in self._calls)

    @property
    def is_whole(self) -> bool:
        return self._finish is not None

    @property
    def is_over(self) -> bool:
        return self._finish is not None and self.usage is not None

    def take(self, payload: Any) -> Iterator[Piece]:
        """The pieces in this chunk. Raises Fault when it holds an error."""
        if (fault := within(payload)) is not None:
            raise fault
        choices = payload.get("choices")
        if choices:
            choice = choices[0]
            for piece in self._pieces(choice.get("delta") or choice.get("message") or {}):
                self._said[piece[1]].append(piece[0])
                yield piece
            if finish := choice.get("finish_reason"):
                yield from self._end(finish)
        self._measure(payload)

    def completion(self, model: str) -> Completion:
        """The message, with its calls parsed. Raises ModelUnavailable."""
        assert self._finish is not None
        calls = self._parsed_calls()
        finish: Finish = "refused" if self._refusal else self._finish
        return Completion(
            text=self.text,
            tool_calls=calls,
            finish=agreed(finish, calls),
            usage=self.usage or Usage(prompt=0, completion=0),
            model=model,
            reasoning=self.reasoning,
            echo=self._echo(),
        )

    def _pieces(self, delta: Mapping[str, Any]) -> Iterator[Piece]:
        thought = delta.get("reasoning_content") or delta.get("reasoning") or _details(delta)
        if isinstance(thought, str) and thought:
            yield thought, "reasoning"
        content = delta.get("content")
        if content:
            yield from self._content(content)
        if refusal := delta.get("refusal"):
            self._refusal = True
            yield refusal, "text"
        for call in delta.get("tool_calls") or ():
            self._call(call)
        for name in self._endpoint.echo:
            if (value := delta.get(name)) is not None:
                self._kept[name] = self._kept[name] + value if name in self._kept else value

    def _content(self, content: Any) -> Iterator[Piece]:
        """Text, or the list of parts that some vendors send when a model reasons."""
        if isinstance(content, str):
            if self._tags is None:
                yield content, "text"
            else:
                yield from self._tags.split(content)
            return
        for part in content:
            if part.get("type") == "thinking":
                yield "".join(inner.get("text", "") for inner in part["thinking"]), "reasoning"
            elif text := part.get("text"):
                yield text, "text"

    def _end(self, finish: str) -> Iterator[Piece]:
        if finish in FAILED:
            raise Fault("cut", f"the reply ended with {finish!r}")
        self._finish = FINISHES.get(finish, "stop")
        if self._tags is not None:
            for piece in self._tags.end():
                self._said[piece[1]].append(piece[0])
                yield piece

    def _call(self, delta: Mapping[str, Any]) -> None:
        """Part of a call: found by its index, or by a new id where a vendor sends no index."""
        index, number = delta.get("index"), delta.get("id") or ""
        call = next((c for c in reversed(self._calls) if c.index == index), None)
        if call is None or (number and call.id and number != call.id):
            call = _Call(index)
            self._calls.append(call)
        call.take(number, delta)

    def _measure(self, payload: Mapping[str, Any]) -> None:
        told = payload.get("usage") or (payload.get("x_groq") or {}).get("usage")
        if not told and (choices := payload.get("choices")):
            told = choices[0].get("usage")
        if not told:
            return
        at = self._endpoint
        self.usage = Usage(
            prompt=told.get("prompt_tokens") or 0,
            completion=told.get("completion_tokens") or 0,
            cached=_at(told, at.cached_tokens or CACHED),
            cache_written=_at(told, CACHE_WRITTEN),
            reasoning=_at(told, at.reasoning_tokens or REASONED),
        )

    def _parsed_calls(self) -> tuple[ToolCall, ...]:
        """The calls; one that the token limit cut is left out."""
        calls = []
        for number, call in enumerate(self._calls, self._calls_before + 1):
            try:
                calls.append(call.parsed(f"call_{number}"))
            except ValueError as error:
                if self._finish == "length":
                    continue
                raise ModelUnavailable(
                    f"the model wrote arguments that are no JSON object: {call.arguments[:80]!r}"
                ) from error
        return tuple(calls)

    def _echo(self) -> JsonObject | None:
        calls: JsonObject = {
            call.id: call.extra for call in self._calls if call.extra is not None and call.id
        }
        if not self._kept and not calls:
            return None
        return {"wire": "openai", "message": self._kept, "calls": calls}


class _Call:
    """A tool call as its parts come in."""

    def __init__(self, index: int | None) -> None:
        self.index, self.id, self._name, self._parts = index, "", "", list[str]()
        self.extra: Any = None

    @property
    def arguments(self) -> str:
        return "".join(self._parts)

    def take(self, number: str, delta: Mapping[str, Any]) -> None:
        self.id = self.id or number
        self.extra = delta.get("extra_content") or self.extra
        function = delta.get("function") or {}
        self._name = self._name or function.get("name") or ""
        if arguments := function.get("arguments"):
            self._parts.append(arguments if isinstance(arguments, str) else json.dumps(arguments))

    def parsed(self, number: str) -> ToolCall:
        """Raises ValueError when the arguments are no JSON object."""
        arguments = json.loads(self.arguments or "{}")
        if not isinstance(arguments, dict) or not self._name:
            raise ValueError("no object")
        return ToolCall(id=self.id or number, name=self._name, arguments=arguments)


def _details(delta: Mapping[str, Any]) -> str:
    """Reasoning of a vendor that streams it in parts and nowhere else, as MiniMax may."""
    return "".join(part.get("text") or "" for part in delta.get("reasoning_details") or ())


def _at(told: Mapping[str, Any], path: str) -> int:
    """The number at a dotted path, 0 where there is none."""
    value: Any = told
    for name in path.split("."):
        value = value.get(name) if isinstance(value, Mapping) else None
    return value if isinstance(value, int) else 0
