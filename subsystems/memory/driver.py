"""What an embedder's driver must implement.

A driver is a dataclass whose fields are its config. It translates its vendor's errors into
the ones below, `from` the original, and never makes a vector up.
"""

import math
import struct
from collections.abc import Iterable
from typing import Protocol

from ...kernel.errors import KernelError
from ...kernel.message import Meter
from .messages import EmbedderCard, Vector

__all__ = [
    "BadText",
    "Embedder",
    "EmbedderCard",
    "EmbedderMissing",
    "EmbedderUnavailable",
    "EmbeddingError",
    "Meter",
    "Vector",
    "vector_of",
]


class EmbeddingError(KernelError):
    """A text could not be embedded.

    EmbeddingError
     +- EmbedderMissing      its library or model is not here
     +- BadText              it cannot take this text
     +- EmbedderUnavailable  it may work later

    `retryable` says whether the same call may work later.
    """

    retryable = False


class EmbedderMissing(EmbeddingError):
    """The embedder's library or model is not here; the message names the command."""


class BadText(EmbeddingError):
    """The embedder cannot take one of the texts: it is empty, too long or refused."""


class EmbedderUnavailable(EmbeddingError):
    """The embedder cannot be reached or takes no more calls for now.

    `retry_after_s` is how long, in seconds, where it said so.
    """

    retryable = True

    def __init__(self, reason: str, *, retry_after_s: float | None = None) -> None:
        super().__init__(reason)
        self.retry_after_s = retry_after_s


class Embedder(Protocol):
    """Makes vectors of texts. Four methods."""

    async def start(self) -> None:
        """Acquire what is cheap; what costs memory may wait for the first text."""

    async def stop(self) -> None:
        """Release everything; safe after a failed start."""

    def card(self) -> EmbedderCard:
        """What this embedder is; valid after start."""
        ...

    async def embed(self, texts: tuple[str, ...], meter: Meter) -> tuple[Vector, ...]:
        """One vector for each text, in order; at most as many texts as the card says.

        Adds to `meter` "embedding.texts" and, where it is known, "embedding.tokens".
        Raises EmbeddingError.
        """
        ...


def vector_of(numbers: Iterable[float]) -> Vector:
    """The numbers as a vector of length 1.

    Raises BadText when all are 0, for then the text means nothing to the embedder, and
    EmbeddingError when they are no numbers.
    """
    values = tuple(numbers)
    length = math.hypot(*values)
    if values and length == 0:
        raise BadText("a text means nothing to the embedder: all its numbers are 0")
    if not 0 < length < math.inf:
        raise EmbeddingError(f"the embedder gave {len(values)} numbers that have no direction")
    return Vector(struct.pack(f"<{len(values)}f", *(value / length for value in values)))
