"""One suite for every storage driver: what services keep under keys."""

from contextlib import suppress
from typing import cast

import anyio
import pytest
from one_storage import until
from postgres import Make, opened
from pydantic import JsonValue
from stored import born, put

from aoskernel.drivers.storage.memory import MemoryStorage
from aoskernel.subsystems.storage.driver import (
    ClaimProcesses,
    Commit,
    DropRecord,
    Fenced,
    FindRecords,
    PutRecord,
    ReadRecord,
    StorageDriver,
    StorageRefused,
)
from aoskernel.subsystems.storage.limits import check
from aoskernel.subsystems.storage.messages import OUTSIDE, Write
from aoskernel.subsystems.storage.service import Storage

C = "board.notices"


def kept(key: str, body: JsonValue = 1, lasts_s: float | None = None) -> PutRecord:
    return PutRecord(collection=C, key=key, body=body, lasts_s=lasts_s)


async def keep(driver: StorageDriver, *writes: Write) -> None:
    await driver.commit(Commit(writes=writes))


async def value(driver: StorageDriver, key: str, collection: str = C) -> JsonValue:
    record = await driver.read(ReadRecord(collection=collection, key=key))
    return "nothing" if record is None else record.body


async def keys(driver: StorageDriver, prefix: str = "", after: str = "", limit: int = 9) -> str:
    query = FindRecords(collection=C, prefix=prefix, after=after, limit=limit)
    return " ".join(record.key for record in await driver.read(query))


@pytest.mark.parametrize(
    "body", [None, 1.5, "a\0b", "\ud800", "\U0001f600", {"a": [1, {"b": None}]}, "x" * 65_000]
)
async def test_a_record_is_read_back_as_it_was_kept(driver: StorageDriver, body: JsonValue) -> None:
    async with opened(driver):
        await keep(driver, kept("k é😀'%_\\", body))
        (record,) = await driver.read(FindRecords(collection=C))
        assert (record.collection, record.key, record.body) == (C, "k é😀'%_\\", body)
        assert await driver.read(ReadRecord(collection=C, key=record.key)) == record
        assert record.at > 1.7e9
        assert await value(driver, "k") == "nothing"
        assert await value(driver, record.key, "board") == "nothing"


async def test_a_record_takes_the_place_of_the_one_before(driver: StorageDriver) -> None:
    async with opened(driver):
        await keep(driver, kept("k", 1), kept("other", 1), kept("k", 2))
        assert (await value(driver, "k"), await value(driver, "other")) == (2, 1)
        await keep(driver, kept("k", 3))
        await keep(driver, DropRecord(collection=C, key="other"))
        assert (await value(driver, "k"), await value(driver, "other")) == (3, "nothing")


async def test_of_a_put_and_a_drop_in_one_commit_the_last_counts(driver: StorageDriver) -> None:
    drop = DropRecord(collection=C, key="k")
    async with opened(driver):
        await keep(driver, kept("k"), drop)
        assert await value(driver, "k") == "nothing"
        await keep(driver, drop, kept("k"))
        assert await value(driver, "k") == 1


async def test_records_are_found_by_prefix_in_the_order_of_their_keys(
    driver: StorageDriver,
) -> None:
    async with opened(driver):
        await keep(driver, *map(kept, ("b", "a.2", "a.10", "A", "a_", "é", "a%")))
        assert await keys(driver) == "A a% a.10 a.2 a_ b é"
        assert await keys(driver, prefix="a.") == "a.10 a.2"
        assert await keys(driver, prefix="a", after="a.10", limit=2) == "a.2 a_"
        assert await keys(driver, prefix="a%") == "a%"


async def test_a_record_is_gone_when_its_time_is_over(driver: StorageDriver) -> None:
    async with opened(driver):
        await keep(driver, kept("brief", lasts_s=0.05), kept("long", lasts_s=60), kept("ever"))

        async def is_over() -> bool:
            return await keys(driver) == "ever long"

        await until(is_over)
        assert await value(driver, "brief") == "nothing"
        await keep(driver, kept("brief", 2))
        assert await value(driver, "brief") == 2


async def test_records_commit_with_a_process_or_not_at_all(driver: StorageDriver) -> None:
    async with opened(driver):
        pid = await born(driver)
        await put(driver, pid, kept("k", "its own"))
        with pytest.raises(Fenced):
            await put(driver, pid, kept("k", "a stranger's"), epoch=7)
        assert await value(driver, "k") == "its own"


async def test_who_is_fenced_does_not_take_another_s_record_with_it(make: Make) -> None:
    """Both are in one statement; the last of the two writes is not written."""
    old, new = make(), make()
    async with opened(old):
        stale, pid = await born(old), await born(old)
        await put(old, pid, kept("warm"))
        async with opened(new):
            await old.stop()
            (taken,) = await new.claim(ClaimProcesses(pid=stale))
            assert taken.epoch == 1

            async def write_stale() -> None:
                with suppress(Fenced):
                    await put(new, stale, kept("k", "stale"), epoch=0)

            async with anyio.create_task_group() as tasks:
                tasks.start_soon(keep, new, kept("k", "fresh"))
                tasks.start_soon(write_stale)
            assert await value(new, "k") == "fresh"


async def test_kernels_of_a_namespace_share_records_and_others_have_others(make: Make) -> None:
    async with opened(one := make()), opened(two := make()), opened(other := make(namespace="o")):
        await keep(one, kept("k", 1))
        assert await value(two, "k") == 1
        assert await value(other, "k") == "nothing"


async def test_what_is_over_is_swept_out_of_the_table(server: object, make: Make) -> None:
    async with opened(driver := make(lease_s=0.3)):
        await keep(driver, kept("brief", lasts_s=0.01), kept("long"))
        database = driver._database  # pyright: ignore[reportAttributeAccessIssue]
        count = "select count(*) from record where namespace = $1"

        async def is_swept() -> bool:
            ((left,),) = await database._connections.run(count, database.settings.namespace)
            return left == 1

        await until(is_swept)


def test_nobody_commits_from_outside_by_name() -> None:
    assert Commit(writes=()).pid == OUTSIDE


@pytest.mark.parametrize(
    ("record", "told"),
    [
        (kept("k", "x" * 65_536), "has 64 KiB, and a record has at most 64"),
        (kept("k" * 257), "key has 1 to 256 characters, not 257"),
        (kept(""), "key has 1 to 256 characters, not 0"),
        (kept("a\0"), "holds NUL"),
        (kept("k", cast(JsonValue, object())), "must be JSON data"),
        (kept("k", lasts_s=0), "cannot last 0 seconds"),
        (kept("k", lasts_s=float("inf")), "cannot last inf seconds"),
    ],
)
async def test_what_is_too_much_for_a_record_is_refused_whole(record: PutRecord, told: str) -> None:
    driver = MemoryStorage()
    with pytest.raises(StorageRefused, match=told):
        await Storage(driver).commit(Commit(writes=(kept("beside"), record)))
    assert await value(driver, "beside") == "nothing"


async def test_records_of_the_largest_names_are_kept(driver: StorageDriver) -> None:
    signs = list(map(chr, range(0x20000, 0x20000 + 512)))
    largest = PutRecord(collection="".join(signs[:256]), key="".join(signs[256:]), body=1)
    commit = Commit(writes=(largest,))
    check(commit, 16)
    async with opened(driver):
        await driver.commit(commit)
        assert await value(driver, largest.key, largest.collection) == 1
