"""One suite for every storage driver: memories and what they mean to an embedder."""

from typing import Any

from postgres import opened
from stored import EAST, NORTH, NORTHEAST, WEST, put, vector

from aoskernel.subsystems.storage.driver import (
    AddMemory,
    AddVector,
    FindMemories,
    FindSimilar,
    FindUnembedded,
    Memory,
    Pid,
    StorageDriver,
)


async def remembered(driver: StorageDriver, text: str, *tags: str, tenant: str = "t") -> int:
    memory = Memory(tenant=tenant, pid=None, text=text, tags=tags, terms=(text,))
    await put(driver, Pid(0), AddMemory(memory=memory))
    (found,) = await driver.read(FindMemories(tenant=tenant, terms=(text,)))
    return found.number


async def embed(driver: StorageDriver, memory: int, at: bytes, embedder: str = "e") -> None:
    await put(driver, Pid(0), AddVector(memory=memory, embedder=embedder, vector=at))


async def test_memories_are_found_by_meaning_the_nearest_first(driver: StorageDriver) -> None:
    async with opened(driver):
        for text, at in (("n", NORTH), ("e", EAST), ("w", WEST), ("ne", NORTHEAST)):
            await embed(driver, await remembered(driver, text, "x"), at)
        await embed(driver, await remembered(driver, "tagless"), EAST)
        await embed(driver, await remembered(driver, "other's", "x", tenant="o"), EAST)
        await embed(driver, await remembered(driver, "longer", "x"), vector(1, 0, 0))
        query = FindSimilar(tenant="t", embedder="e", vector=EAST, least=-0.5, tags=("x",))
        assert [m.text for m in await driver.read(query)] == ["e", "ne", "n"]
        other = FindSimilar(tenant="t", embedder="other", vector=EAST)
        assert await driver.read(other) == ()


async def test_of_memories_that_are_as_near_the_newest_comes_first(driver: StorageDriver) -> None:
    async with opened(driver):
        for text in ("a", "b", "c"):
            await embed(driver, await remembered(driver, text), EAST)
        query = FindSimilar(tenant="t", embedder="e", vector=NORTHEAST)
        assert [m.text for m in await driver.read(query)] == ["c", "b", "a"]


async def test_a_vector_takes_the_place_of_the_former(driver: StorageDriver) -> None:
    async with opened(driver):
        number = await remembered(driver, "moved")
        await embed(driver, number, WEST)
        await put(
            driver,
            Pid(0),
            *(AddVector(memory=number, embedder="e", vector=at) for at in (NORTH, EAST)),
        )
        query = FindSimilar(tenant="t", embedder="e", vector=EAST, least=0.9)
        assert [m.number for m in await driver.read(query)] == [number]


async def test_what_has_no_vector_yet_is_found_the_oldest_first(driver: StorageDriver) -> None:
    async with opened(driver):
        await embed(driver, await remembered(driver, "done"), EAST)
        await embed(driver, await remembered(driver, "impossible"), b"")
        await remembered(driver, "first")
        await remembered(driver, "second", tenant="o")

        async def texts(**query: Any) -> list[str]:
            asked = FindUnembedded(**{"embedder": "e", **query})
            return [memory.text for memory in await driver.read(asked)]

        assert await texts() == ["first", "second"]
        assert await texts(limit=1) == ["first"]
        assert await texts(dimensions=3) == ["done", "first", "second"]
        assert await texts(embedder="new") == ["done", "impossible", "first", "second"]


async def test_a_vector_of_a_memory_that_is_gone_is_dropped(driver: StorageDriver) -> None:
    async with opened(driver):
        await embed(driver, 10**9, EAST)
        query = FindSimilar(tenant="t", embedder="e", vector=EAST)
        assert await driver.read(query) == ()
