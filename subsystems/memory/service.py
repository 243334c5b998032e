"""Long-term memory: composes what is to be remembered, and finds it again."""

import anyio

from ...kernel.errors import KernelError
from ...kernel.log import log
from ...kernel.message import Event
from ...kernel.service import Service, handles, subscribes
from ..storage.messages import (
    AddMemory,
    AddVector,
    Commit,
    FindMemories,
    FindSimilar,
    FindUnembedded,
    MemoriesAdded,
    Memory,
)
from .driver import BadText, EmbeddingError
from .fusion import fused
from .messages import DescribeEmbedder, Embed, EmbedderCard, MemoriesEmbedded, Recall, Remember
from .terms import terms

CANDIDATES = 50
"""How many memories each way of finding proposes, at least."""
FIRST_PAUSE_S, LAST_PAUSE_S = 1.0, 300.0
"""How long it waits to try again when an embedder fails; each time twice as long."""


class WordMemory(Service, name="memory", needs=[FindMemories]):
    """Memory without an embedder: by tag and word."""

    @handles(Remember)
    async def remember(self, request: Remember) -> AddMemory:
        return composed(request)

    @handles(Recall)
    async def recall(self, request: Recall) -> tuple[Memory, ...]:
        return await self.request(by_words(request, request.limit))


class LongTermMemory(
    Service,
    name="memory",
    needs=[FindMemories, FindSimilar, Commit, Embed],
    needs_at_start=[DescribeEmbedder, FindUnembedded],
):
    """By tag, by word and by meaning. `embedder` is the address of an embedding service.

    A text is committed without waiting for its vector. That follows: whenever memories were
    added, and at start, those without a vector are embedded, the beginning of a text that is
    too long. What fails is tried again; the text is found by its words meanwhile.
    """

    def __init__(self, embedder: str | None = None) -> None:
        self._embedder = embedder
        self._news = anyio.Event()
        self._told = ""

    async def start(self) -> None:
        """Raises Unroutable when there is no such embedder."""
        await self._card()

    @handles(Remember)
    async def remember(self, request: Remember) -> AddMemory:
        return composed(request)

    @handles(Recall)
    async def recall(self, request: Recall) -> tuple[Memory, ...]:
        if not request.query.strip():
            return await self.request(by_words(request, request.limit))
        candidates = max(request.limit, CANDIDATES)
        rankings = [await self._similar(request, candidates)]
        if terms(request.query):
            rankings.append(await self.request(by_words(request, candidates)))
        return tuple(fused(rankings)[: request.limit])

    async def _similar(self, request: Recall, limit: int) -> tuple[Memory, ...]:
        before = await self._card()
        query = request.query[: before.most_characters]
        (vector,) = await self.request(Embed(texts=(query,)), to=self._embedder)
        if before.dimensions is None:
            self._news.set()  # now they are known, and vectors of others show
        return await self.request(
            FindSimilar(
                tenant=request.tenant,
                embedder=before.model,
                vector=vector,
                least=before.least_similarity,
                tags=request.tags,
                limit=limit,
            )
        )

    # Vectors follow their texts

    @subscribes(MemoriesAdded)
    async def on_memories(self, event: MemoriesAdded) -> None:
        self._news.set()

    @subscribes("service.*")
    async def on_service(self, event: Event) -> None:
        """The embedder may be another one now, or work again."""
        self._news.set()

    async def run(self) -> None:
        pause_s = FIRST_PAUSE_S
        while True:
            self._news = news = anyio.Event()
            try:
                await self._catch_up()
            except KernelError as error:
                self._tell(error)
                if getattr(error, "retryable", not isinstance(error, EmbeddingError)):
                    await anyio.sleep(getattr(error, "retry_after_s", None) or pause_s)
                    pause_s = min(2 * pause_s, LAST_PAUSE_S)
                    continue
            else:
                pause_s, self._told = FIRST_PAUSE_S, ""
            await news.wait()

    async def _catch_up(self) -> None:
        """Embed what has no vector of the embedder that is configured now."""
        last: tuple[Memory, ...] = ()
        while memories := await self._unembedded():
            if memories == last:
                raise EmbeddingError("storage does not keep the vectors that it was given")
            last, card = memories, await self._card()
            writes = await self._embedded(memories, card)
            await self.request(Commit(writes=writes))
            count = sum(1 for write in writes if write.vector)
            await self.publish(MemoriesEmbedded(model=card.model, count=count))
            await anyio.lowlevel.checkpoint()  # nothing above need suspend

    async def _unembedded(self) -> tuple[Memory, ...]:
        card = await self._card()
        return await self.request(
            FindUnembedded(embedder=card.model, dimensions=card.dimensions, limit=card.most_texts)
        )

    async def _embedded(
        self, memories: tuple[Memory, ...], card: EmbedderCard
    ) -> tuple[AddVector, ...]:
        texts = tuple(memory.text[: card.most_characters] for memory in memories)
        try:
            vectors: tuple[bytes, ...] = await self.request(Embed(texts=texts), to=self._embedder)
        except BadText as error:
            if len(memories) > 1:
                alone = [await self._embedded((memory,), card) for memory in memories]
                return tuple(write for writes in alone for write in writes)
            log.warning("memory.not_embeddable", memory=memories[0].number, error=str(error))
            vectors = (b"",)
        return tuple(
            AddVector(memory=memory.number, embedder=card.model, vector=vector)
            for memory, vector in zip(memories, vectors, strict=True)
        )

    async def _card(self) -> EmbedderCard:
        return await self.request(DescribeEmbedder(), to=self._embedder)

    def _tell(self, error: KernelError) -> None:
        """Once for each reason: memories wait to be found by meaning."""
        if str(error) != self._told:
            self._told = str(error)
            log.warning("memory.embedding_failed", error=self._told)


def composed(request: Remember) -> AddMemory:
    """The write that remembers a text."""
    return AddMemory(
        memory=Memory(
            tenant=request.tenant,
            pid=request.pid,
            text=request.text,
            tags=request.tags,
            terms=terms(request.text),
        )
    )


def by_words(request: Recall, limit: int) -> FindMemories:
    """The search for the words of a query."""
    return FindMemories(
        tenant=request.tenant, terms=terms(request.query), tags=request.tags, limit=limit
    )
