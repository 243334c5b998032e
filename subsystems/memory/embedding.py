"""Embedders: each configured one is a service of its own, named embedding.NAME."""

from ...kernel.call import Call, here
from ...kernel.message import Meter
from ...kernel.service import Service, handles
from .driver import BadText, Embedder, EmbedderCard, EmbeddingError, Vector
from .messages import DescribeEmbedder, Embed

FLOAT = 4
"""Bytes of a number in a vector."""


class Embedding(Service, name="embedding", driver="embedding"):
    """One embedder behind one driver: turns texts into vectors."""

    def __init__(self, driver: Embedder) -> None:
        self._driver = driver

    async def start(self) -> None:
        await self._driver.start()

    async def stop(self) -> None:
        await self._driver.stop()

    @handles(DescribeEmbedder)
    async def describe(self, request: DescribeEmbedder) -> EmbedderCard:
        return self._driver.card()

    @handles(Embed)
    async def embed(self, ask: Embed) -> tuple[Vector, ...]:
        call, most = here(), self._driver.card().most_texts
        assert isinstance(call, Call)
        self._check(ask.texts)
        vectors: list[Vector] = []
        for start in range(0, len(ask.texts), most):
            vectors += await self._some(ask.texts[start : start + most], call.meter)
        return tuple(vectors)

    def _check(self, texts: tuple[str, ...]) -> None:
        most = self._driver.card().most_characters
        for text in texts:
            if not text.strip():
                raise BadText("a text without a word has no meaning: leave it out")
            if len(text) > most:
                raise BadText(f"a text has {len(text)} characters; the embedder takes {most}")

    async def _some(self, texts: tuple[str, ...], meter: Meter) -> tuple[Vector, ...]:
        vectors = await self._driver.embed(texts, meter)
        card = self._driver.card()
        sizes = {len(vector) // FLOAT for vector in vectors}
        if len(vectors) != len(texts) or sizes != {card.dimensions}:
            raise EmbeddingError(
                f"{card.model} gave {len(vectors)} vectors of {sorted(sizes)} dimensions for "
                f"{len(texts)} texts; it should have {card.dimensions}"
            )
        return vectors
