"""What embedders send over a network, and what they make of what comes back."""

import base64
import json
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest
from ollama import _types as ollama_types
from openai.types import CreateEmbeddingResponse, EmbeddingCreateParams
from pydantic import SecretStr, TypeAdapter
from wire import Play, WireServer, always, document, playing

from aoskernel.drivers.embedding._remote import Remote
from aoskernel.drivers.embedding.ollama import Ollama
from aoskernel.drivers.embedding.openai import OpenAI
from aoskernel.subsystems.memory.driver import (
    BadText,
    EmbedderMissing,
    EmbedderUnavailable,
    EmbeddingError,
    Meter,
    Vector,
)

VECTORS = [[3.0, 4.0], [0.0, 2.0]]
OPENAI_REPLY = {
    "object": "list",
    "model": "e",
    "data": [
        {"object": "embedding", "index": n, "embedding": vector}
        for n, vector in reversed(list(enumerate(VECTORS)))
    ],
    "usage": {"prompt_tokens": 7, "total_tokens": 7},
}
OLLAMA_REPLY = {"model": "e", "embeddings": VECTORS, "prompt_eval_count": 7}
WIRES = pytest.mark.parametrize("wire", ["openai", "ollama"])


def make(wire: str, url: str, **config: Any) -> Remote:
    known = {"model": "e", "base_url": url, **config}
    return Ollama(**known) if wire == "ollama" else OpenAI(vendor="llamacpp", **known)


@asynccontextmanager
async def asking(wire: str, play: Play, **config: Any) -> AsyncIterator[tuple[Remote, WireServer]]:
    async with playing(play) as server:
        embedder = make(wire, server.url, **config)
        with anyio.fail_after(20):
            try:
                await embedder.start()
                yield embedder, server
            finally:
                await embedder.stop()


def unpacked(vectors: tuple[Vector, ...]) -> list[list[float]]:
    return [
        [round(n, 6) for n in struct.unpack(f"<{len(vector) // 4}f", vector)] for vector in vectors
    ]


def reply_of(wire: str) -> bytes:
    return document(OLLAMA_REPLY if wire == "ollama" else OPENAI_REPLY)


@WIRES
async def test_vectors_have_length_1_and_the_order_of_the_texts(wire: str) -> None:
    meter = Meter()
    async with asking(wire, always(reply_of(wire))) as (embedder, _):
        assert embedder.card().dimensions is None
        vectors = await embedder.embed(("a", "b"), meter)
        assert embedder.card().dimensions == 2
    assert unpacked(vectors) == [[0.6, 0.8], [0.0, 1.0]]
    assert meter == {"embedding.texts": 2, "embedding.tokens": 7}


async def test_base64_is_float32() -> None:
    packed = base64.b64encode(struct.pack("<2f", 3, 4)).decode()
    reply = OPENAI_REPLY | {"data": [{"object": "embedding", "index": 0, "embedding": packed}]}
    async with asking("openai", always(document(reply)), encoding_format="base64") as (driver, to):
        assert unpacked(await driver.embed(("a",), Meter())) == [[0.6, 0.8]]
        assert to.asked[0].body["encoding_format"] == "base64"


async def test_openais_requests_and_replies_are_those_of_its_client() -> None:
    play = always(reply_of("openai"))
    async with asking("openai", play, dimensions=2) as (embedder, server):
        await embedder.embed(("a", "b"), Meter())
        (asked,) = server.asked
    assert asked.path == "/embeddings"
    known = TypeAdapter(EmbeddingCreateParams).validate_python(asked.body)
    assert set(known) == {"model", "input", "encoding_format", "dimensions"}
    CreateEmbeddingResponse.model_validate(OPENAI_REPLY)


async def test_ollamas_requests_and_replies_are_those_of_its_client() -> None:
    play = always(reply_of("ollama"))
    async with asking("ollama", play, dimensions=2, keep_alive="5m") as (embedder, server):
        await embedder.embed(("a", "b"), Meter())
        (asked,) = server.asked
    assert asked.path == "/api/embed"
    known = ollama_types.EmbedRequest.model_validate(asked.body).model_dump(exclude_none=True)
    assert known == json.loads(asked.raw) == asked.body
    assert known["truncate"] is False
    ollama_types.EmbedResponse.model_validate(OLLAMA_REPLY)


async def test_the_key_is_sent() -> None:
    play = always(reply_of("openai"))
    async with asking("openai", play, api_key=SecretStr("sk-1")) as (embedder, server):
        await embedder.embed(("a", "b"), Meter())
        assert server.asked[0].headers["authorization"] == "Bearer sk-1"


REFUSALS: list[tuple[int, Any, type[EmbeddingError], str]] = [
    (400, {"error": {"message": "input is empty"}}, BadText, "input is empty"),
    (500, {"error": {"message": "input (5001 tokens) is too large"}}, BadText, "5001"),
    (401, {"error": {"message": "wrong key"}}, EmbeddingError, "api_key"),
    (404, {"error": "model 'e' not found"}, EmbedderMissing, "'e'"),
    (429, {"error": {"message": "slow down"}}, EmbedderUnavailable, "slow down"),
    (503, "no healthy upstream", EmbedderUnavailable, "upstream"),
]


@WIRES
@pytest.mark.parametrize(("status", "told", "error", "match"), REFUSALS)
async def test_a_refusal_says_what_it_is(
    wire: str, status: int, told: Any, error: type[EmbeddingError], match: str
) -> None:
    play = always(document(told, status=status))
    async with asking(wire, play) as (embedder, _):
        with pytest.raises(EmbeddingError, match=match) as refused:
            await embedder.embed(("a",), Meter())
    assert type(refused.value) is error


async def test_a_provider_says_when_to_come_again() -> None:
    play = always(document({}, status=429, headers={"Retry-After": "7"}))
    async with asking("openai", play) as (embedder, _):
        with pytest.raises(EmbedderUnavailable) as refused:
            await embedder.embed(("a",), Meter())
    assert refused.value.retry_after_s == 7


async def test_a_missing_model_of_ollama_names_the_command() -> None:
    play = always(document({"error": "model 'e' not found"}, status=404))
    async with asking("ollama", play) as (embedder, _):
        with pytest.raises(EmbedderMissing, match="ollama pull e"):
            await embedder.embed(("a",), Meter())


@WIRES
async def test_a_server_that_is_gone_may_come_back(wire: str) -> None:
    async with asking(wire, always()) as (embedder, server):
        pass
    embedder = make(wire, server.url)
    await embedder.start()
    with anyio.fail_after(20), pytest.raises(EmbedderUnavailable):
        await embedder.embed(("a",), Meter())
    await embedder.stop()


@WIRES
@pytest.mark.parametrize(
    "told",
    [
        {},
        {"data": [{"index": 0}], "embeddings": [None]},
        {"data": [{"index": 0, "embedding": [0.0, 0.0]}], "embeddings": [[0.0, 0.0]]},
        {"data": [{"index": 0, "embedding": ["x"]}], "embeddings": [["x"]]},
        [],
    ],
)
async def test_what_is_no_vector_is_an_error_and_never_one_made_up(wire: str, told: Any) -> None:
    async with asking(wire, always(document(told))) as (embedder, _):
        with pytest.raises(EmbeddingError):
            await embedder.embed(("a",), Meter())


@WIRES
async def test_a_web_page_is_no_embedder(wire: str) -> None:
    play = always(document(b"<html>Hello</html>", kind="text/html"))
    async with asking(wire, play) as (embedder, _):
        with pytest.raises(EmbeddingError, match="base_url"):
            await embedder.embed(("a",), Meter())


def test_an_unknown_vendor_is_named_with_those_that_are_known() -> None:
    with pytest.raises(ValueError, match="llamacpp"):
        OpenAI(model="e", vendor="lamacpp")


async def test_a_missing_key_names_its_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DEEPSEEK_API_KEY", raising=False)
    with pytest.raises(EmbeddingError, match="DEEPSEEK_API_KEY"):
        await OpenAI(model="e", vendor="deepseek").start()
