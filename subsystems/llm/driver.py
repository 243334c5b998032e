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
    Allowance,
    Capabilities,
    ChatMessage,
    Complete,
    Completion,
    DeltaKind,
    Finish,
    JsonObject,
    ModelCard,
    Price,
    Sampling,
    ToolCall,
    ToolSpec,
    Usage,
)
from .vendors import Catalogue, Endpoint, Trouble, Vendor, VendorModel, Wire

__all__ = [
    "LLM",
    "Allowance",
    "BadPrompt",
    "Capabilities",
    "Catalogue",
    "ChatMessage",
    "Complete",
    "Completion",
    "ContentRefused",
    "CutReply",
    "DeltaKind",
    "Emit",
    "Endpoint",
    "Fetchable",
    "Finish",
    "JsonObject",
    "Meter",
    "ModelCard",
    "ModelError",
    "ModelMissing",
    "ModelTimeout",
    "ModelUnavailable",
    "NoApi",
    "OutOfFunds",
    "Price",
    "PromptTooLong",
    "RateLimited",
    "Report",
    "Sampling",
    "ToolCall",
    "ToolSpec",
    "Trouble",
    "Unauthorized",
    "Usage",
    "Vendor",
    "VendorModel",
    "Weights",
    "Wire",
]


class Emit(Protocol):
    """Takes each piece as it is generated; awaiting it is the caller's back-pressure."""

    def __call__(self, text: str, kind: DeltaKind = "text", /) -> Awaitable[None]: ...


class ModelError(KernelError):
    """A model call failed.

    ModelError
     +- ModelMissing           not here, or unknown
     +- Unauthorized           the key is missing, wrong, or may not do this
     +- OutOfFunds             the account cannot pay
     +- NoApi                  what answers there is no model's API
     +- BadPrompt              this request cannot be served as it stands
     |   +- PromptTooLong
     |   +- ContentRefused
     +- ModelUnavailable       it may work later
         +- RateLimited        ... after `retry_after_s`
         +- ModelTimeout
         +- CutReply           the stream ended before the reply did

    """


class ModelMissing(ModelError):
    """The model, its weights or its library is not here; the message names the command."""


class Unauthorized(ModelError):
    """The provider does not accept the key; the message names the variable it came from."""


class OutOfFunds(ModelError):
    """The account behind the key has no money or quota left."""


class NoApi(ModelError):
    """The address does not speak the wire it was configured for, e.g. answers a web page."""


class BadPrompt(ModelError):
    """The model cannot take this request as it stands; the message says what to change."""


class PromptTooLong(BadPrompt):
    """The prompt does not fit the model's window. None where the provider gave no number."""

    def __init__(self, *, tokens: int | None, window: int | None) -> None:
        size, most = (f"{n} tokens" if n else "more tokens" for n in (tokens, window))
        super().__init__(
            f"the prompt has {size}, the model's window {most if window else 'is smaller'}"
        )
        self.tokens = tokens
        self.window = window


class ContentRefused(BadPrompt):
    """The provider's filter refuses the content of the prompt."""


class ModelUnavailable(ModelError):
    """The model cannot be reached or failed inside; a later call may work."""

    retryable = True


class RateLimited(ModelUnavailable):
    """The provider takes no more calls for now.

    `retry_after_s` is how long, in seconds, where it said so; `allowances` its rate headers.
    """

    def __init__(
        self,
        reason: str,
        *,
        retry_after_s: float | None = None,
        allowances: tuple[Allowance, ...] = (),
    ) -> None:
        super().__init__(reason)
        self.retry_after_s = retry_after_s
        self.allowances = allowances


class ModelTimeout(ModelUnavailable):
    """The provider was silent for too long; `phase` is "connect", "first_byte" or "stream"."""

    def __init__(self, reason: str, *, phase: str) -> None:
        super().__init__(reason)
        self.phase = phase


class CutReply(ModelUnavailable):
    """The stream ended before the reply did; `text` is what had come."""

    def __init__(self, reason: str, *, text: str = "") -> None:
        super().__init__(reason)
        self.text = text


class LLM(Protocol):
    """A model behind one wire or library. Six methods; all but two may suspend."""

    async def start(self) -> None:
        """Acquire: load weights, open connections. Raises ModelMissing."""

    async def stop(self) -> None:
        """Release everything; safe after a failed start."""

    def card(self) -> ModelCard:
        """What this model is; valid after start."""
        ...

    async def complete(self, ask: Complete, emit: Emit, meter: Meter) -> Completion:
        """Answer. Each piece of text, and of reasoning, goes to `emit` in order.

        Adds to `meter` as it goes: "llm.prompt_tokens", "llm.cached_tokens",
        "llm.completion_tokens", "llm.cache_written_tokens", "llm.reasoning_tokens"; what
        stands there when the call is cut is what was used.
        Cancellation stops generation at once. Raises ModelError.
        """
        ...

    async def count(self, messages: tuple[ChatMessage, ...], tools: tuple[ToolSpec, ...]) -> int:
        """Tokens of the prompt as this model will see it; the card says how well it knows."""
        ...

    def allowances(self) -> tuple[Allowance, ...]:
        """The provider's limits as it last told them; empty where it tells none."""
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
