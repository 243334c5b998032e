"""A reply of llama.cpp as it comes in: its text, its end, its tokens, its errors."""

import json
from typing import Any

from ...subsystems.llm.driver import (
    BadPrompt,
    Complete,
    Completion,
    Finish,
    Meter,
    ModelError,
    ModelUnavailable,
    PromptTooLong,
    Usage,
)
from ._llamacpp_engine import Chunk
from ._llamacpp_prompt import cut_answer, next_call_id, parse

CLOSERS = ("}", "]", '"')


class Reply:
    """A reply as it comes in; keeps the meter at what was used so far.

    A JSON reply is whole at its last bracket: llama.cpp's grammar lets a small model go on
    with up to 22 tokens of white space.
    """

    def __init__(self, meter: Meter, *, is_json: bool) -> None:
        self.is_whole = False
        self._meter = meter
        self._is_json = is_json
        self._metered = Usage(prompt=0, completion=0)
        self._pieces: list[str] = []
        self._finish: Finish | None = None

    def take(self, chunk: Chunk) -> str:
        """The text in this chunk; raises what llama.cpp says went wrong."""
        if "error" in chunk:
            raise translated(chunk["error"])
        self._measure(chunk)
        choices = chunk.get("choices")
        if not choices:
            return ""
        self._finish = choices[0]["finish_reason"] or self._finish
        piece: str = choices[0]["delta"].get("content") or ""
        self._pieces.append(piece)
        if self._is_json and piece.endswith(CLOSERS) and _is_valid("".join(self._pieces)):
            self.is_whole, self._finish = True, "stop"
        return piece

    def completion(self, model: str) -> Completion:
        """The reply as it was said."""
        if self._finish is None:
            raise ModelUnavailable("llama.cpp ended the reply before its end")
        return Completion(
            text="".join(self._pieces), finish=self._finish, usage=self._metered, model=model
        )

    def completion_with_tools(self, model: str, ask: Complete) -> Completion:
        """The reply taken apart: the answer's text, or the call."""
        said = self.completion(model)
        if said.finish == "length":
            return said.model_copy(update={"text": _until(cut_answer(said.text), ask)})
        text, calls = parse(said.text, call_id=next_call_id(ask.messages))
        finish = "tool_calls" if calls else said.finish
        return said.model_copy(
            update={"text": _until(text, ask), "tool_calls": calls, "finish": finish}
        )

    def _measure(self, chunk: Chunk) -> None:
        if timings := chunk.get("timings"):
            cached, read = timings["cache_n"], timings["prompt_n"]
            self._settle(
                Usage(prompt=cached + read, completion=timings["predicted_n"], cached=cached)
            )

    def _settle(self, used: Usage) -> None:
        before, self._metered = self._metered, used
        self._meter.add("llm.prompt_tokens", used.prompt - before.prompt)
        self._meter.add("llm.cached_tokens", used.cached - before.cached)
        self._meter.add("llm.completion_tokens", used.completion - before.completion)


def translated(error: dict[str, Any]) -> ModelError:
    """What llama.cpp says went wrong, as an error of ours."""
    if error.get("type") == "exceed_context_size_error":
        return PromptTooLong(tokens=error["n_prompt_tokens"], window=error["n_ctx"])
    message = f"llama.cpp: {error.get('message')}"
    return BadPrompt(message) if error.get("code") == 400 else ModelUnavailable(message)


def _is_valid(text: str) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True


def _until(text: str, ask: Complete) -> str:
    """The text up to the first stop text."""
    return text[
        : min((text.find(stop) for stop in ask.sampling.stop if stop in text), default=None)
    ]
