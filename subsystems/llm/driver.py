"""What a model driver must implement.

A driver is a dataclass whose fields are its config. It translates its vendor's errors into
the ones below, `from` the original, and never answers in the model's place.
"""

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Protocol

from ...kernel.errors import KernelError
from ...kernel.message import Meter, Value
from .messages import (
    ChatMessage,
    Complete,
    Completion,
    Finish,
    JsonObject,
    ModelCard,
    Sampling,
    ToolCall,
    ToolSpec,
    Usage,
)

__all__ = [
    "LLM",
    "BadPrompt",
    "ChatMessage",
    "Complete",
    "Completion",
    "Emit",
    "Fetchable",
    "Finish",
    "JsonObject",
    "Meter",
    "ModelCard",
    "ModelError",
    "ModelMissing",
    "ModelUnavailable",
    "PromptTooLong",
    "Report",
    "Sampling",
    "ToolCall",
    "ToolSpec",
    "Usage",
    "Weights",
]

Emit = Callable[[str], Awaitable[None]]
"""Takes each piece of text as it is generated; awaiting it is the caller's back-pressure."""


class ModelError(KernelError):
    """A model call failed. `retryable` says whether the same call may work later."""

    retryable = False


class ModelMissing(ModelError):
    """The model, its weights or its library is not here; the message names the command."""


class ModelUnavailable(ModelError):
    """The model cannot be reached or failed inside; a later call may work."""

    retryable = True


class PromptTooLong(ModelError):
    """The prompt does not fit the model's window."""

    def __init__(self, *, tokens: int, window: int) -> None:
        super().__init__(f"the prompt has {tokens} tokens, the model's window {window}")
        self.tokens = tokens
        self.window = window


class BadPrompt(ModelError):
    """The model cannot take this request as it stands; the message says what to change."""


class LLM(Protocol):
    """A model behind one wire or library. Five methods; all but `card` may suspend."""

    async def start(self) -> None:
        """Acquire: load weights, open connections. Raises ModelMissing."""

    async def stop(self) -> None:
        """Release everything; safe after a failed start."""

    def card(self) -> ModelCard:
        """What this model is; valid after start."""
        ...

    async def complete(self, ask: Complete, emit: Emit, meter: Meter) -> Completion:
        """Answer. Each piece of text goes to `emit` in order; with tools, text only.

        Adds to `meter` as it goes: "llm.prompt_tokens", "llm.cached_tokens",
        "llm.completion_tokens"; what stands there when the call is cut is what was used.
        Cancellation stops generation at once. Raises ModelError.
        """
        ...

    async def count(self, messages: tuple[ChatMessage, ...], tools: tuple[ToolSpec, ...]) -> int:
        """Tokens of the prompt as this model will see it."""
        ...


Report = Callable[[int, int], None]
"""Progress of a download: bytes so far, bytes in all."""


class Weights(Value):
    """A model file that a driver knows how to get. `size` in bytes; `path` when it is here."""

    name: str
    size: int
    sha256: str
    licence: str
    source: str
    note: str
    path: Path | None = None


class Fetchable(Protocol):
    """A driver class whose model files can be listed and fetched (`aosk models`)."""

    def weights(self) -> tuple[Weights, ...]:
        """The model files this driver knows, and where those lie that are here."""
        ...

    async def fetch(self, name: str, *, source: str | None, report: Report) -> Path:
        """Bring a model file here and check its SHA-256; `source` is a URL or a local file.

        Raises ModelMissing when it cannot be had or the checksum differs; nothing stays then.
        """
        ...
