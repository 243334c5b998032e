"""Lazy commits, and pages that are read before they are on the disk."""

import itertools
import json
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import anyio
import asyncpg
import pytest
from postgres import COMMITTED, Line, Make, Server, opened, postgres
from stored import born, put, record

from aoskernel.drivers.storage._postgres_connections import OURS_PLAN
from aoskernel.drivers.storage._postgres_statement import TABLES, USUAL, filled, statement
from aoskernel.subsystems.storage.driver import (
    AddPage,
    ClaimProcesses,
    Commit,
    Fenced,
    Intend,
    Page,
    Pid,
    ReadLog,
    ReadPages,
    SaveProcess,
    Settle,
    StorageDriver,
    StorageUnavailable,
)
from aoskernel.subsystems.storage.messages import Write

MARK = "00" * 12


def outcome(key: str, body: str = '"said"') -> tuple[Write, ...]:
    settled = Settle(key=key, kind="think", fingerprint=MARK, body=body)
    return settled, AddPage(page=Page(role="assistant", entry=key))


async def lazily(driver: StorageDriver, pid: Pid, *writes: Write, epoch: int = 0) -> None:
    await driver.commit(Commit(pid=pid, epoch=epoch, writes=writes, lazy=True))


async def keys(driver: StorageDriver, pid: Pid) -> list[str]:
    return [entry.key for entry in await driver.read(ReadLog(pid=pid))]


def intent(key: str) -> Intend:
    return Intend(key=key, kind="think", fingerprint=MARK, effect="idempotent")


async def test_a_lazy_commit_is_on_the_disk_when_the_next_one_is(make: Make) -> None:
    driver, other = make(), make()
    async with opened(driver), opened(other):
        pid = await born(driver)
        await lazily(driver, pid, *outcome("0:0"))
        await put(driver, pid, intent("0:1"))
        assert await keys(other, pid) == ["0:0", "0:1"]


async def test_the_commit_of_another_process_takes_it_along(make: Make) -> None:
    driver, other = make(), make()
    async with opened(driver), opened(other):
        one, two = await born(driver), await born(driver)
        await lazily(driver, one, *outcome("0:0"))
        await put(driver, two, intent("0:0"))
        assert await keys(other, one) == ["0:0"]


async def test_a_lazy_commit_is_written_also_when_nothing_follows(make: Make) -> None:
    driver, other = make(), make()
    async with opened(driver), opened(other):
        pid = await born(driver)
        await lazily(driver, pid, *outcome("0:0"))
        while not await keys(other, pid):
            pass


async def test_the_end_of_the_driver_writes_what_is_left(make: Make) -> None:
    driver = make()
    async with opened(driver):
        pid = await born(driver)
        await lazily(driver, pid, *outcome("0:0"))
    other = make()
    async with opened(other):
        assert await keys(other, pid) == ["0:0"]


async def test_its_writer_reads_its_pages_before_they_are_written(make: Make) -> None:
    driver = make()
    async with opened(driver):
        pid = await born(driver)
        await lazily(driver, pid, *outcome("0:0"))
        (page,) = await driver.read(ReadPages(pid=pid))
        assert (page.role, page.text, page.entry) == ("assistant", '"said"', "0:0")
        assert await driver.read(ReadPages(pid=pid, after=page.number)) == ()


async def test_others_read_the_same_pages_as_their_writer(make: Make) -> None:
    driver, other = make(), make()
    async with opened(driver), opened(other):
        pid = await born(driver)
        for size in (0, 1, 1995, 1996, 1997, 3992, 10_000):
            text = ("\0é😀" * size)[:size]
            note = AddPage(page=Page(role="user", text=text, pinned=True))
            await put(driver, pid, note, *outcome(f"0:{size}", f'"{text}"'))
        ours = await driver.read(ReadPages(pid=pid))
        assert len(ours) == 14
        assert await other.read(ReadPages(pid=pid)) == ours


async def test_pages_of_another_owner_are_read_after_a_claim(make: Make) -> None:
    driver, other = make(), make()
    async with opened(driver):
        pid = await born(driver)
        await put(driver, pid, *outcome("0:0"))
        await put(driver, pid, SaveProcess(record=record(pid, state="parked")))
        async with opened(other):
            (theirs,) = await other.claim(ClaimProcesses(pid=pid))
            await put(other, pid, *outcome("0:1"), epoch=theirs.epoch)
        assert [page.entry for page in await driver.read(ReadPages(pid=pid))] == ["0:0", "0:1"]


async def test_parallel_readers_of_one_process_see_the_same_pages(make: Make) -> None:
    driver, other = make(), make()
    async with opened(driver), opened(other):
        pid = await born(driver)
        await put(driver, pid, *outcome("0:0"))
        seen: list[int] = []

        async def read() -> None:
            seen.append(len(await other.read(ReadPages(pid=pid))))

        async with anyio.create_task_group() as readers:
            for _ in range(5):
                readers.start_soon(read)
        assert seen == [1] * 5


async def test_nothing_is_written_behind_a_lazy_commit_that_is_refused(
    server: Server, database: str
) -> None:
    driver = postgres(server.dsn(database))
    async with opened(driver):
        pid = await born(driver)
        await put(driver, pid, *outcome("0:0"))
        await lazily(driver, pid, *outcome("0:0"))  # the same place again
        with pytest.raises(Fenced, match="wrote before was refused"):
            await put(driver, pid, intent("0:1"))
        assert await keys(driver, pid) == ["0:0"]


async def test_a_gap_in_one_log_stops_nobody_else(server: Server, database: str) -> None:
    driver = postgres(server.dsn(database))
    async with opened(driver):
        one, two = await born(driver), await born(driver)
        await put(driver, one, *outcome("0:0"))
        await lazily(driver, one, *outcome("0:0"))
        await put(driver, two, intent("0:0"))
        assert await keys(driver, two) == ["0:0"]


async def test_a_lazy_commit_outlives_a_database_that_is_away(
    server: Server, database: str
) -> None:
    async with Line(server.port).laid() as line:
        driver = postgres(server.dsn(database, port=line.port), patience_s=0.3)
        async with opened(driver):
            pid, other = await born(driver), await born(driver)
            line.die()
            line.hang_up()
            await lazily(driver, pid, *outcome("0:0"))
            with pytest.raises(StorageUnavailable, match="may or may not be written"):
                await put(driver, other, intent("0:0"))
            line.live()
            line.hang_up()
            await until_written(driver, pid, intent("0:1"))
            assert await keys(driver, pid) == ["0:0", "0:1"]


async def test_a_lazy_commit_whose_answer_is_lost_is_not_written_again(
    server: Server, database: str
) -> None:
    async with Line(server.port).laid() as line:
        driver = postgres(server.dsn(database, port=line.port))
        async with opened(driver):
            pid = await born(driver)
            await lazily(driver, pid, *outcome("0:0"))
            line.lose(COMMITTED)
            await put(driver, pid, intent("0:1"))
            await put(driver, pid, intent("0:2"))
            assert await keys(driver, pid) == ["0:0", "0:1", "0:2"]
        assert line.cuts == 1


async def until_written(driver: StorageDriver, pid: Pid, write: Write) -> None:
    while True:
        with suppress(StorageUnavailable):
            await put(driver, pid, write)
            return


def test_a_statement_has_only_what_its_batch_needs() -> None:
    text, values = filled(
        {"claims": [(1, 0, 2, None)], "taken": [(1, 5)]}, 1, outside=0, kernel=7, namespace="n"
    )
    assert "delete from letter" in text
    assert "insert into" not in text
    assert values == (1, 0, 2, None, 1, 5, 7)


async def test_the_database_understands_the_statement_of_every_batch(
    server: Server, database: str
) -> None:
    path = {"search_path": "aoskernel, public"}
    async with opened(postgres(server.dsn(database))):
        connection = await asyncpg.connect(server.dsn(database), server_settings=path)
        for tables in _batches():
            await connection.prepare(statement(tables, frozenset()).text)
            await connection.prepare(statement(tables, tables.intersection(TABLES)).text)
        await connection.close()


def _batches() -> list[frozenset[str]]:
    names = [*TABLES, "outside"]
    pairs = itertools.combinations(names, 2)
    return [frozenset(pair) | {"claims"} for pair in pairs] + [frozenset(names), USUAL]


async def test_pages_of_another_kernel_s_process_are_read_anew_each_time(make: Make) -> None:
    driver, other = make(), make()
    async with opened(driver), opened(other):
        pid = await born(driver)
        after, seen = 0, list[str]()
        for text in ("one", "two", "three"):
            await put(driver, pid, AddPage(page=Page(role="user", text=text)))
            for page in await other.read(ReadPages(pid=pid, after=after)):
                after, seen = page.number, [*seen, page.text]
    assert seen == ["one", "two", "three"]


async def test_who_may_write_is_looked_up_and_not_joined(server: Server, database: str) -> None:
    """A join without an index compares each row of a batch with each of its processes."""
    driver = postgres(server.dsn(database))
    async with opened(driver):
        connection = await asyncpg.connect(
            server.dsn(database), server_settings={"search_path": "aoskernel, public", **OURS_PLAN}
        )
        try:
            made = statement(frozenset(TABLES), frozenset())
            columns = sum(TABLES[table].count(",") + 1 for table in made.tables)
            named = {"outside": 0, "kernel": 7, "namespace": "n"}
            values = (*[()] * columns, *(named[name] for name in made.values))
            plan = await connection.fetchval(f"explain (format json) {made.text}", *values)
        finally:
            await connection.close()
    found = list(looked_up(json.loads(plan)[0]["Plan"], joined=False))
    assert found
    assert not any(found)


def looked_up(node: dict[str, Any], *, joined: bool) -> Iterator[bool]:
    """Of each place where the plan reads who may write: does a join do it?"""
    if node.get("CTE Name") == "fenced":
        yield joined
    for part in node.get("Plans", ()):
        is_sub = part["Parent Relationship"] in ("SubPlan", "InitPlan")
        inside = "Join Type" in node or (joined and not is_sub)
        yield from looked_up(part, joined=inside and not is_sub)
