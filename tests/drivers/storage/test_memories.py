"""What every storage driver must do with memories and their vectors."""

import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from aoskernel.drivers.storage.memory import MemoryStorage
from aoskernel.subsystems.storage.driver import (
    AddMemory,
    AddVector,
    Commit,
    FindMemories,
    FindSimilar,
    FindUnembedded,
    Memory,
    Pid,
    StorageDriver,
)
from aoskernel.subsystems.storage.messages import Write

DRIVERS = {"memory": MemoryStorage}
every_driver = pytest.mark.parametrize("name", sorted(DRIVERS))


def vector(*numbers: float) -> bytes:
    return struct.pack(f"<{len(numbers)}f", *numbers)


EAST, NORTH, NORTHEAST, WEST = (
    vector(1, 0), vector(0, 1), vector(0.6, 0.8), vector(-1, 0)
)  # fmt: skip


class Shelf:
    """A started driver with some memories."""

    def __init__(self, driver: StorageDriver) -> None:
        self.driver = driver

    async def put(self, *writes: Write) -> None:
        await self.driver.commit(Commit(pid=Pid(0), epoch=0, writes=writes))

    async def remember(self, text: str, *tags: str, tenant: str = "t") -> int:
        memory = Memory(tenant=tenant, pid=None, text=text, tags=tags, terms=(text,))
        await self.put(AddMemory(memory=memory))
        (found,) = await self.driver.read(FindMemories(tenant=tenant, terms=(text,)))
        return found.number

    async def embed(self, number: int, at: bytes, embedder: str = "e") -> None:
        await self.put(AddVector(memory=number, embedder=embedder, vector=at))

    async def similar(self, to: bytes, embedder: str = "e", **more: object) -> list[str]:
        query = {"tenant": "t", "embedder": embedder, "vector": to, **more}
        found = await self.driver.read(FindSimilar.model_validate(query))
        return [memory.text for memory in found]

    async def unembedded(self, **query: object) -> list[str]:
        query = {"embedder": "e", **query}
        return [m.text for m in await self.driver.read(FindUnembedded.model_validate(query))]


@asynccontextmanager
async def opened(name: str) -> AsyncIterator[Shelf]:
    driver: StorageDriver = DRIVERS[name]()
    await driver.start()
    try:
        yield Shelf(driver)
    finally:
        await driver.stop()


@every_driver
async def test_memories_are_found_by_their_vectors_the_nearest_first(name: str) -> None:
    async with opened(name) as shelf:
        for text, at in (("north", NORTH), ("east", EAST), ("northeast", NORTHEAST)):
            await shelf.embed(await shelf.remember(text), at)
        assert await shelf.similar(EAST) == ["east", "northeast", "north"]
        assert await shelf.similar(EAST, limit=1) == ["east"]


@every_driver
async def test_what_is_too_far_away_is_left_out(name: str) -> None:
    async with opened(name) as shelf:
        for text, at in (("west", WEST), ("east", EAST), ("northeast", NORTHEAST)):
            await shelf.embed(await shelf.remember(text), at)
        assert await shelf.similar(EAST, least=0.5) == ["east", "northeast"]


@every_driver
async def test_only_the_tenants_memories_with_all_the_tags_are_near(name: str) -> None:
    async with opened(name) as shelf:
        await shelf.embed(await shelf.remember("both", "x", "y"), EAST)
        await shelf.embed(await shelf.remember("one", "x"), EAST)
        await shelf.embed(await shelf.remember("theirs", "x", "y", tenant="other"), EAST)
        assert await shelf.similar(EAST, tags=("x", "y")) == ["both"]


@every_driver
async def test_vectors_of_two_embedders_do_not_mix(name: str) -> None:
    async with opened(name) as shelf:
        mine, theirs = await shelf.remember("mine"), await shelf.remember("theirs")
        longer = await shelf.remember("of three dimensions")
        await shelf.embed(mine, EAST)
        await shelf.embed(theirs, EAST, "other")
        await shelf.embed(longer, vector(1, 0, 0))
        assert await shelf.similar(EAST) == ["mine"]
        assert await shelf.similar(EAST, "other") == ["theirs"]


@every_driver
async def test_a_later_vector_takes_the_place_of_the_first(name: str) -> None:
    async with opened(name) as shelf:
        number = await shelf.remember("moved")
        await shelf.embed(number, EAST)
        await shelf.embed(number, WEST)
        assert await shelf.similar(EAST, least=0.5) == []
        assert await shelf.similar(WEST, least=0.5) == ["moved"]


@every_driver
async def test_memories_without_a_vector_are_found_the_oldest_first(name: str) -> None:
    async with opened(name) as shelf:
        await shelf.embed(await shelf.remember("done"), EAST)
        await shelf.remember("first")
        await shelf.remember("second", tenant="other")
        assert await shelf.unembedded() == ["first", "second"]
        assert await shelf.unembedded(limit=1) == ["first"]
        assert await shelf.unembedded(embedder="other") == ["done", "first", "second"]


@every_driver
async def test_a_vector_of_other_dimensions_is_none(name: str) -> None:
    async with opened(name) as shelf:
        await shelf.embed(await shelf.remember("flat"), EAST)
        assert await shelf.unembedded(dimensions=2) == []
        assert await shelf.unembedded(dimensions=3) == ["flat"]


@every_driver
async def test_an_empty_vector_is_not_looked_for_again_and_near_to_nothing(name: str) -> None:
    async with opened(name) as shelf:
        await shelf.embed(await shelf.remember("blank"), b"")
        assert await shelf.unembedded(dimensions=2) == []
        assert await shelf.similar(EAST) == []
