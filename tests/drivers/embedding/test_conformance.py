"""What every embedder must do; the same suite runs on each."""

import struct
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from operator import mul

import anyio
import backends
import pytest

from aoskernel.drivers.embedding.ollama import Ollama
from aoskernel.drivers.embedding.openai import OpenAI
from aoskernel.drivers.embedding.sentence_encoder import SentenceEncoder
from aoskernel.subsystems.memory.driver import Embedder, Meter, Vector

pytestmark = pytest.mark.model

PATIENCE_S = 60
Make = Callable[..., Embedder]
TEXTS = ("The meeting is on Friday.", "星期五开会。", "🎉 Ünïcödé", "Cheese is yellow.")


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """llama.cpp's own, with a real model."""
    with backends.embeddings() as url:
        yield url


@pytest.fixture(scope="module")
def proxy(server: str) -> Iterator[str]:
    with backends.ollama(server) as url:
        yield url


@pytest.fixture(params=["sentence_encoder", "openai", "openai_base64", "ollama"])
def make(request: pytest.FixtureRequest) -> Make:
    if request.param == "sentence_encoder":
        return SentenceEncoder
    if request.param == "ollama":
        url = request.getfixturevalue("proxy")
        return lambda **config: Ollama(model="local/any", base_url=url, **config)
    url = f"{request.getfixturevalue('server')}/v1"
    coding = "base64" if request.param == "openai_base64" else "float"
    return lambda **config: OpenAI(
        model="any", vendor="llamacpp", base_url=url, encoding_format=coding, **config
    )


@asynccontextmanager
async def started(embedder: Embedder) -> AsyncIterator[Embedder]:
    with anyio.fail_after(PATIENCE_S):
        try:
            await embedder.start()
            yield embedder
        finally:
            await embedder.stop()


def numbers(vector: Vector) -> tuple[float, ...]:
    return struct.unpack(f"<{len(vector) // 4}f", vector)


def cosine(one: Vector, other: Vector) -> float:
    return sum(map(mul, numbers(one), numbers(other)))


async def test_each_text_has_a_vector_of_length_1_in_the_cards_dimensions(make: Make) -> None:
    async with started(make()) as embedder:
        vectors = await embedder.embed(TEXTS, Meter())
        card = embedder.card()
    assert len(vectors) == len(TEXTS) <= card.most_texts
    assert {len(numbers(vector)) for vector in vectors} == {card.dimensions}
    assert all(abs(cosine(vector, vector) - 1) < 1e-5 for vector in vectors)


async def test_vectors_come_in_the_order_of_the_texts(make: Make) -> None:
    async with started(make()) as embedder:
        together = await embedder.embed(TEXTS, Meter())
        alone = [(await embedder.embed((text,), Meter()))[0] for text in TEXTS]
    for one, same in zip(together, alone, strict=True):
        nearest = max(alone, key=lambda vector: cosine(one, vector))
        assert nearest == same
        assert cosine(one, same) > 0.99


async def test_the_same_text_has_the_same_vector(make: Make) -> None:
    async with started(make()) as embedder:
        one, same, other = await embedder.embed((TEXTS[0], TEXTS[0], TEXTS[3]), Meter())
    assert cosine(one, same) > 0.999
    assert cosine(one, other) < 0.999


async def test_a_text_as_long_as_the_card_says_is_taken(make: Make) -> None:
    async with started(make(most_characters=1000)) as embedder:
        text = ("The meeting is on Friday. " * 100)[: embedder.card().most_characters]
        assert len(await embedder.embed((text,), Meter())) == 1


async def test_what_was_embedded_is_metered(make: Make) -> None:
    meter = Meter()
    async with started(make()) as embedder:
        await embedder.embed(TEXTS, meter)
    assert meter["embedding.texts"] == len(TEXTS)


async def test_many_may_ask_at_once(make: Make) -> None:
    found: dict[str, Vector] = {}
    async with started(make()) as embedder, anyio.create_task_group() as tasks:

        async def one(text: str) -> None:
            (found[text],) = await embedder.embed((text,), Meter())

        for text in TEXTS:
            tasks.start_soon(one, text)
    assert len(set(found.values())) == len(TEXTS)


async def test_a_cancelled_call_leaves_the_embedder_in_order(make: Make) -> None:
    async with started(make()) as embedder:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(embedder.embed, TEXTS, Meter())
            await anyio.lowlevel.checkpoint()
            tasks.cancel_scope.cancel()
        assert len(await embedder.embed(TEXTS[:1], Meter())) == 1


async def test_an_embedder_stops_twice_and_without_a_start(make: Make) -> None:
    embedder = make()
    await embedder.stop()
    async with started(embedder):
        await embedder.stop()
