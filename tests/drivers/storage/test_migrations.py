"""The schema and its numbered files."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import anyio
import asyncpg
import pytest
from postgres import Server, opened, postgres
from stored import born

from aoskernel.drivers.storage._postgres_migrations import (
    LOCK,
    Migration,
    known,
    migrate,
    status,
)
from aoskernel.subsystems.storage.driver import ReadProcess, SchemaMismatch

SCHEMA = "aoskernel"
FIRST = Migration(1, "log", "create table one (x integer); insert into one values (1);")
SECOND = Migration(2, "more", "create table two (x integer); insert into one values (2);")
BROKEN = Migration(3, "broken", "create table three (x integer); select 1/0;")


@asynccontextmanager
async def session(server: Server, database: str) -> AsyncIterator[Any]:
    connection = await asyncpg.connect(server.dsn(database))
    try:
        with anyio.fail_after(20):
            yield connection
    finally:
        await connection.close()


def test_the_files_are_numbered_without_a_gap() -> None:
    files = known()
    assert [file.number for file in files] == list(range(1, len(files) + 1))


def test_no_file_does_what_a_transaction_cannot() -> None:
    for file in known():
        assert "concurrently" not in file.text.lower()


def test_only_numbered_files_are_migrations(tmp_path: Path) -> None:
    for name in ("0002_b.sql", "0001_a.sql", "README.md", "3_c.sql", "0004_d.sql.bak"):
        (tmp_path / name).write_text("-- breaking\nselect 1")
    assert [(file.number, file.name) for file in known(tmp_path)] == [(1, "a"), (2, "b")]


def test_a_checksum_does_not_depend_on_how_lines_end(tmp_path: Path) -> None:
    (tmp_path / "0001_a.sql").write_bytes(b"select 1;\r\nselect 2;\r\n")
    (tmp_path / "0002_b.sql").write_bytes(b"select 1;\nselect 2;\n")
    windows, unix = known(tmp_path)
    assert windows.checksum == unix.checksum


async def test_what_is_missing_is_applied_once_and_in_order(server: Server, database: str) -> None:
    async with session(server, database) as connection:
        await migrate(connection, SCHEMA, [FIRST])
        await migrate(connection, SCHEMA, [FIRST, SECOND])
        await migrate(connection, SCHEMA, [FIRST, SECOND])
        rows = await connection.fetch("select x from aoskernel.one order by x")
        assert [row["x"] for row in rows] == [1, 2]


async def test_status_tells_what_is_applied_and_what_is_missing(
    server: Server, database: str
) -> None:
    async with session(server, database) as connection:
        empty = await status(connection, SCHEMA, [FIRST])
        assert (empty.applied, empty.missing, empty.fault) == ((), (FIRST,), None)
        await migrate(connection, SCHEMA, [FIRST])
        found = await status(connection, SCHEMA, [FIRST, SECOND])
        assert [one.number for one in found.applied] == [1]
        assert (found.missing, found.unknown, found.fault) == ((SECOND,), (), None)
        older = await status(connection, SCHEMA, [])
        assert [one.name for one in older.unknown] == ["log"]


async def test_two_that_start_at_once_migrate_once(server: Server, database: str) -> None:
    drivers = [postgres(server.dsn(database), namespace="n") for _ in range(6)]
    async with anyio.create_task_group() as tasks:
        for driver in drivers:
            tasks.start_soon(_in_and_out, driver)
    rows = await server.ask("select number from aoskernel.migration", database=database)
    assert len(rows) == len(known())


async def _in_and_out(driver: Any) -> None:
    async with opened(driver):
        pid = await born(driver)
        assert await driver.read(ReadProcess(pid=pid)) is not None


async def test_who_comes_second_waits_for_the_first(server: Server, database: str) -> None:
    async with session(server, database) as first, session(server, database) as second:
        await first.execute("select pg_advisory_lock($1)", LOCK)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(migrate, second, SCHEMA, [FIRST])
            waiting = "select count(*) from pg_locks where locktype = 'advisory' and not granted"
            while not await first.fetchval(waiting):
                await anyio.sleep(0.01)
            assert not await first.fetchval("select to_regclass('aoskernel.one') is not null")
            await first.execute("select pg_advisory_unlock($1)", LOCK)
        assert await first.fetchval("select count(*) from aoskernel.one") == 1


async def test_a_file_that_has_changed_is_refused(server: Server, database: str) -> None:
    async with session(server, database) as connection:
        await migrate(connection, SCHEMA, [FIRST])
        changed = replace(FIRST, text=FIRST.text + " ")
        with pytest.raises(SchemaMismatch, match=r"migration 1 \(log\) from another text"):
            await migrate(connection, SCHEMA, [changed, SECOND])
        found = await status(connection, SCHEMA, [changed, SECOND])
        assert found.fault is not None
        assert not await connection.fetchval("select to_regclass('aoskernel.two') is not null")


async def test_a_newer_database_is_used_as_it_is(server: Server, database: str) -> None:
    async with session(server, database) as connection:
        newer = Migration(9999, "newer", "create table newer (x integer)")
        async with opened(postgres(server.dsn(database))):
            pass
        await migrate(connection, SCHEMA, [*known(), newer])
        await _in_and_out(postgres(server.dsn(database)))


async def test_a_newer_database_that_breaks_older_code_is_refused(
    server: Server, database: str
) -> None:
    async with session(server, database) as connection:
        newer = Migration(9999, "newer", "-- breaking\ncreate table newer (x integer)")
        await migrate(connection, SCHEMA, [*known(), newer])
        with pytest.raises(SchemaMismatch, match=r"9999 \(newer\).*install the version that made"):
            async with opened(postgres(server.dsn(database))):
                pass


async def test_a_migration_that_fails_leaves_nothing_behind(server: Server, database: str) -> None:
    async with session(server, database) as connection:
        with pytest.raises(asyncpg.DivisionByZeroError):
            await migrate(connection, SCHEMA, [FIRST, SECOND, BROKEN])
        rows = await connection.fetch("select nspname from pg_namespace where nspname = $1", SCHEMA)
        assert rows == []
        await migrate(connection, SCHEMA, [FIRST])
        with pytest.raises(asyncpg.DivisionByZeroError):
            await migrate(connection, SCHEMA, [FIRST, SECOND, BROKEN])
        found = await status(connection, SCHEMA, [FIRST, SECOND, BROKEN])
        assert found.missing == (SECOND, BROKEN)
        assert await connection.fetchval("select count(*) from aoskernel.one") == 1


async def test_a_kernel_that_runs_outlives_a_migration_beside_it(
    server: Server, database: str
) -> None:
    driver = postgres(server.dsn(database))
    async with session(server, database) as connection, opened(driver):
        pid = await born(driver)
        assert await driver.read(ReadProcess(pid=pid)) is not None
        wider = Migration(
            9999, "wider", "alter table process add column colour text; alter table page add x int;"
        )
        await migrate(connection, SCHEMA, [*known(), wider])
        assert await driver.read(ReadProcess(pid=pid)) is not None
        await born(driver)


async def test_an_index_may_be_there_before_its_migration(server: Server, database: str) -> None:
    async with session(server, database) as connection:
        await migrate(connection, SCHEMA, [FIRST])
        await connection.execute("create index concurrently one_x on aoskernel.one (x)")
        index = Migration(2, "index", "create index if not exists one_x on one (x)")
        await migrate(connection, SCHEMA, [FIRST, index])
        assert (await status(connection, SCHEMA, [FIRST, index])).missing == ()
