"""What others may say to long-term memory, and to the embedders that find by meaning."""

from typing import NewType

from pydantic import Field

from ...kernel.message import Event, Request, Value
from ..storage.messages import AddMemory, Memory, Pid

Vector = NewType("Vector", bytes)
"""A text's meaning as a direction: numbers of float32, little-endian, all in all of length 1."""


class Remember(Request[AddMemory], topic="memory.remember", effect="none"):
    """Make the write that remembers this text; whoever asked commits it with its outcome.

    It can be found by its words at once, and by its meaning soon after.
    """

    tenant: str
    pid: Pid | None = None
    text: str
    tags: tuple[str, ...] = ()


class Recall(Request[tuple[Memory, ...]], topic="memory.recall", effect="none"):
    """What the tenant's processes remembered, best match first; without a query the newest.

    All `tags` must be there. A memory is found by words that the query has too and, where an
    embedder is configured, by its meaning, in any language the embedder knows; by both it is
    found first. Raises EmbeddingError when the query cannot be embedded.
    """

    tenant: str
    query: str = ""
    tags: tuple[str, ...] = ()
    limit: int = 10


class MemoriesEmbedded(Event, topic="memory.embedded"):
    """So many memories more can be found by their meaning, with the embedder of this model."""

    model: str
    count: int


class EmbedderCard(Value):
    """What an embedder is. Vectors of other models or dimensions do not compare with its own.

    `dimensions` may be unknown before the first text. `least_similarity` is the cosine below
    which two texts have nothing to do with each other.
    """

    model: str
    driver: str
    dimensions: int | None = Field(default=None, gt=0)
    most_texts: int = Field(gt=0)
    """Texts that it takes at once."""
    most_characters: int = Field(gt=0)
    """How long a text may be."""
    least_similarity: float = Field(default=0, ge=-1, le=1)


class Embed(Request[tuple[Vector, ...]], topic="embedding.embed", effect="none", addressed=True):
    """What do these texts mean? One vector for each, in order.

    Raises EmbeddingError; BadText for one that is empty or longer than the card says.
    """

    texts: tuple[str, ...]


class DescribeEmbedder(
    Request[EmbedderCard], topic="embedding.describe", effect="none", addressed=True
):
    """What is this embedder?"""
