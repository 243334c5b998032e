"""A reply of Ollama's native wire as it is streamed, from /api/chat or from /api/generate."""

import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from ...subsystems.llm.driver import Completion, Finish, ModelUnavailable, ToolCall, Usage
from .._http import Fault
from ._fault import TOO_LONG
from ._reply import Piece, agreed

FINISHES: dict[str, Finish] = {"stop": "stop", "length": "length"}
"""What is not here is taken for a stop; old servers say nothing."""

FAILED = ("load", "unload", "error")
"""Ends that are none: the model was only loaded or unloaded, or the server gave up."""

NEW_ONLY = 0.25
"""A count of prompt tokens below this part of the estimate is one of new tokens only."""


class Reply:
    """Takes the lines of a stream and puts the message together.

    `calls_before` are the tool calls in the history: a call without an id gets a number.
    `prompt` estimates the prompt's tokens; it is asked where the server does not say them.
    """

    def __init__(self, *, calls_before: int, prompt: Callable[[], int]) -> None:
        self.usage: Usage | None = None
        self._calls_before = calls_before
        self._prompt = prompt
        self._text: list[str] = []
        self._thought: list[str] = []
        self._calls: list[ToolCall] = []
        self._finish: Finish | None = None

    @property
    def text(self) -> str:
        return "".join(self._text)

    @property
    def reasoning(self) -> str:
        return "".join(self._thought)

    @property
    def generated(self) -> str:
        return self.text + "".join(json.dumps(call.arguments) for call in self._calls)

    @property
    def is_whole(self) -> bool:
        return self._finish is not None

    @property
    def is_over(self) -> bool:
        return self._finish is not None

    def take(self, payload: Any) -> Iterator[Piece]:
        """The pieces in this line. Raises Fault when it holds an error."""
        if not isinstance(payload, Mapping):
            raise Fault("cut", f"a part of the reply is no object: {str(payload)[:80]!r}")
        if told := payload.get("error"):
            raise _failed(told)
        said = payload.get("message") or {**payload, "content": payload.get("response")}
        if thought := said.get("thinking"):
            self._thought.append(thought)
            yield thought, "reasoning"
        if text := said.get("content"):
            self._text.append(text)
            yield text, "text"
        for call in said.get("tool_calls") or ():
            self._calls.append(self._call(call))
        if payload.get("done"):
            self._end(payload)

    def completion(self, model: str) -> Completion:
        """The message, when it is whole."""
        assert self._finish is not None
        return Completion(
            text=self.text,
            tool_calls=tuple(self._calls),
            finish=agreed(self._finish, self._calls),
            usage=self.usage or Usage(prompt=0, completion=0),
            model=model,
            reasoning=self.reasoning,
        )

    def _call(self, told: Mapping[str, Any]) -> ToolCall:
        """A call, which always comes whole. Raises ModelUnavailable."""
        function = told.get("function") or {}
        arguments = function.get("arguments") or {}
        try:
            parsed = json.loads(arguments) if isinstance(arguments, str) else arguments
        except ValueError:
            parsed = None
        if not isinstance(parsed, dict) or not function.get("name"):
            raise ModelUnavailable(f"the model wrote a call that is none: {str(told)[:120]}")
        number = self._calls_before + len(self._calls) + 1
        return ToolCall(
            id=told.get("id") or f"call_{number}", name=function["name"], arguments=parsed
        )

    def _end(self, told: Mapping[str, Any]) -> None:
        reason = told.get("done_reason") or "stop"
        if reason in FAILED:
            raise Fault("cut", f"the reply ended with {reason!r}")
        self._finish = FINISHES.get(reason, "stop")
        if "eval_count" in told or "prompt_eval_count" in told:
            self._measure(told)

    def _measure(self, told: Mapping[str, Any]) -> None:
        """The count of the prompt is whole, or of its new tokens only, or missing.

        Servers before July 2024, and some of June 2026, leave out what the prefix cache had
        (ollama/ollama#2068, #16414). Where the count cannot be the whole prompt's, that is
        estimated, and said to be so.
        """
        counted, cached = told.get("prompt_eval_count") or 0, told.get("prompt_eval_cached_count")
        prompt, estimate = counted, self._prompt()
        if is_part := counted < NEW_ONLY * estimate:
            prompt, cached = estimate, estimate - counted if counted else 0
        self.usage = Usage(
            prompt=prompt,
            completion=told.get("eval_count") or 0,
            cached=min(cached or 0, prompt),
            estimated=is_part,
        )


def _failed(told: Any) -> Fault:
    """An error inside a stream, which has no status of its own."""
    status = 400 if TOO_LONG.search(str(told)) else 500
    return Fault("status", "an error within the reply", status=status, told={"error": told})
