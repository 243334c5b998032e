"""Commits in groups: few statements, each commit's own answer, and each carried out once."""

import os
import random
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress

import anyio
import asyncpg
import pytest
from postgres import COMMITTED, Line, Server, carried, opened, postgres, roomy, serving
from stored import born, put, record

from aoskernel.drivers.storage.embedded import Embedded
from aoskernel.drivers.storage.postgres import Postgres
from aoskernel.subsystems.storage.driver import (
    AddMemory,
    AddPage,
    AddProcess,
    ClaimProcesses,
    Fenced,
    FindMemories,
    Intend,
    KeyTaken,
    Memory,
    Page,
    Pid,
    PostLetter,
    ReadLetters,
    ReadLog,
    ReadPages,
    ReadProcess,
    SaveProcess,
    StorageDriver,
    StorageError,
    StorageUnavailable,
)

COUNTED = """
select sum(calls)::int, sum(rows)::int
from pg_stat_statements join pg_database on pg_database.oid = dbid
where datname = $1 and query like '%owned as (%'
"""
OUTSIDE = Pid(0)


@pytest.fixture(scope="module")
def mortal() -> Iterator[Server]:
    """A server that may be stopped."""
    with serving(carried()) as server:
        yield server


@pytest.fixture
async def line(server: Server) -> AsyncIterator[Line]:
    async with Line(server.port).laid() as line:
        yield line


def through(line: Line, server: Server, database: str, **more: float) -> Postgres:
    return postgres(server.dsn(database, port=line.port), **more)


async def letters(driver: StorageDriver, pid: Pid) -> list[object]:
    return [letter.body for letter in await driver.read(ReadLetters(pid=pid, limit=10_000))]


@asynccontextmanager
async def locked(server: Server, database: str, rows: str) -> AsyncIterator[None]:
    """Rows that nobody else can change for as long."""
    connection = await asyncpg.connect(server.dsn(database))
    try:
        async with connection.transaction():
            await connection.execute(f"select from aoskernel.{rows} for update")
            yield
    finally:
        await connection.close()


async def until_locked_out(server: Server, database: str, many: int = 1) -> None:
    """Until so many sessions wait for a lock."""
    told = "select count(*) from pg_stat_activity where wait_event_type = 'Lock' and datname = $1"
    while (await server.ask(told, database))[0][0] < many:
        await anyio.sleep(0.01)


async def test_many_commits_at_once_take_few_statements(server: Server, database: str) -> None:
    driver = postgres(server.dsn(database))
    await server.ask("create extension if not exists pg_stat_statements")
    async with opened(driver):
        pids = [await born(driver) for _ in range(100)]
        (before,) = await server.ask(COUNTED, database)
        async with anyio.create_task_group() as tasks:
            for n in range(500):
                intent = Intend(key=f"0:{n}", kind="k", fingerprint="ab", effect="once")
                tasks.start_soon(put, driver, pids[n % 100], intent)
        (after,) = await server.ask(COUNTED, database)
        for pid in pids:
            assert len(await driver.read(ReadLog(pid=pid))) == 5
    assert after[0] - before[0] <= 5


async def test_commits_one_after_another_take_one_statement_each(
    server: Server, database: str
) -> None:
    driver = postgres(server.dsn(database))
    await server.ask("create extension if not exists pg_stat_statements")
    async with opened(driver):
        pid = await born(driver)
        (before,) = await server.ask(COUNTED, database)
        for n in range(20):
            await put(driver, pid, PostLetter(to=pid, body=n))
        (after,) = await server.ask(COUNTED, database)
    assert after[0] - before[0] == 20


async def test_a_bad_commit_among_good_ones_fails_alone(server: Server, database: str) -> None:
    driver = postgres(server.dsn(database))
    failed = dict[int, StorageError]()
    async with opened(driver):
        pids = [await born(driver) for _ in range(30)]
        await put(driver, pids[0], AddProcess(record=record(Pid(10**6), key="k")))

        async def commit(n: int, pid: Pid) -> None:
            bad = AddProcess(record=record(Pid(2 * 10**6 + n), key="k"))
            try:
                await put(driver, pid, PostLetter(to=pid, body=n), *[bad] * (n in (7, 20)))
            except StorageError as error:
                failed[n] = error

        async with anyio.create_task_group() as tasks:
            for n, pid in enumerate(pids):
                tasks.start_soon(commit, n, pid)
        assert {n: type(error) for n, error in failed.items()} == {7: KeyTaken, 20: KeyTaken}
        for n, pid in enumerate(pids):
            assert await letters(driver, pid) == ([] if n in failed else [n])


async def test_a_stale_commit_among_good_ones_is_fenced_alone(
    server: Server, database: str
) -> None:
    driver = postgres(server.dsn(database))
    fenced = list[int]()
    async with opened(driver):
        pids = [await born(driver) for _ in range(20)]
        await put(driver, pids[5], SaveProcess(record=record(pids[5], state="parked")))
        await driver.claim(ClaimProcesses(pid=pids[5]))

        async def commit(n: int, pid: Pid) -> None:
            try:
                await put(driver, pid, PostLetter(to=pid, body=n))
            except Fenced:
                fenced.append(n)

        async with anyio.create_task_group() as tasks:
            for n, pid in enumerate(pids):
                tasks.start_soon(commit, n, pid)
        assert fenced == [5]
        for n, pid in enumerate(pids):
            assert await letters(driver, pid) == ([] if n == 5 else [n])


async def busy(driver: StorageDriver, pids: list[Pid], to: Pid, turn: int) -> None:
    """Four commits of each process at once, and some from outside."""
    async with anyio.create_task_group() as tasks:
        for n in range(4):
            for pid in pids:
                intent = Intend(key=f"{turn}:{n}", kind="k", fingerprint="ab", effect="once")
                page = AddPage(page=Page(role="user", text=f"{turn}.{n}"))
                letter = PostLetter(to=to, body=f"{turn}.{pid}.{n}")
                tasks.start_soon(put, driver, pid, intent, page, letter)
            tasks.start_soon(put, driver, OUTSIDE, PostLetter(to=to, body=f"{turn}.0.{n}"))


async def all_is_there_once(driver: StorageDriver, pids: list[Pid], to: Pid, turns: int) -> None:
    expected = {
        f"{turn}.{pid}.{n}" for turn in range(turns) for pid in [0, *pids] for n in range(4)
    }
    found = await letters(driver, to)
    assert len(found) == len(expected)
    assert set(found) == expected
    for pid in pids:
        log = await driver.read(ReadLog(pid=pid))
        assert {entry.attempts for entry in log} == {1}
        pages = await driver.read(ReadPages(pid=pid))
        assert [page.text for page in pages] == [f"{t}.{n}" for t in range(turns) for n in range(4)]


async def test_each_commit_is_written_once_however_often_its_connection_is_killed(
    server: Server, database: str
) -> None:
    driver, chance, turns, cut = postgres(server.dsn(database)), random.Random(4), 50, 0
    told = (
        "select count(pg_terminate_backend(pid))::int from pg_stat_activity "
        "where application_name = 'aoskernel' and datname = current_database()"
    )
    async with opened(driver):
        killer = await asyncpg.connect(server.dsn(database))
        pids, to = [await born(driver) for _ in range(6)], await born(driver)
        for turn in range(turns):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(busy, driver, pids, to, turn)
                for _ in range(2):
                    await anyio.sleep(chance.uniform(0, 0.006))
                    cut += await killer.fetchval(told)
        await killer.close()
        await all_is_there_once(driver, pids, to, turns)
    assert cut > turns / 2


async def test_a_commit_whose_answer_is_lost_is_not_written_again(
    server: Server, database: str, line: Line
) -> None:
    driver = through(line, server, database)
    async with opened(driver):
        pids, to = [await born(driver) for _ in range(3)], await born(driver)
        for turn in range(3):
            line.lose(COMMITTED)
            await busy(driver, pids, to, turn)
        await all_is_there_once(driver, pids, to, 3)
    assert line.cuts == 3


async def test_a_leaving_whose_answer_is_lost_is_a_leaving(
    server: Server, database: str, line: Line
) -> None:
    driver = through(line, server, database)
    async with opened(driver):
        pid = await born(driver)
        line.lose(COMMITTED)
        await put(driver, pid, SaveProcess(record=record(pid, state="parked")))
        (taken,) = await driver.claim(ClaimProcesses())
        assert (taken.pid, taken.epoch) == (pid, 1)
    assert line.cuts == 1


async def test_a_birth_whose_answer_is_lost_is_a_birth(
    server: Server, database: str, line: Line
) -> None:
    driver = through(line, server, database)
    async with opened(driver):
        await born(driver)
        parent, child = await driver.new_pid(), await driver.new_pid()
        pages = [AddPage(page=Page(role="user", text=str(n))) for n in range(3)]
        line.lose(COMMITTED)
        await put(driver, parent, AddProcess(record=record(parent, key="k")), *pages)
        line.lose(COMMITTED)
        await put(driver, parent, AddProcess(record=record(child)), *pages)
        assert await driver.read(ReadProcess(key="k")) == record(parent, key="k")
        assert await driver.read(ReadProcess(pid=child)) == record(child)
        assert len(await driver.read(ReadPages(pid=parent))) == 6
        await put(driver, child, pages[0])
    assert line.cuts == 2


async def test_what_comes_from_outside_is_not_doubled_when_its_answer_is_lost(
    server: Server, database: str, line: Line
) -> None:
    driver = through(line, server, database)
    async with opened(driver):
        pid = await born(driver)
        line.lose(COMMITTED)
        memory = Memory(tenant="t", pid=None, text="x")
        await put(driver, OUTSIDE, PostLetter(to=pid, body="hello"), AddMemory(memory=memory))
        await put(driver, OUTSIDE, PostLetter(to=pid, body="again"))
        assert await letters(driver, pid) == ["hello", "again"]
        assert len(await driver.read(FindMemories(tenant="t"))) == 1
    assert line.cuts == 1


@pytest.mark.parametrize("answer", [b"COMMIT\x00", b"UPDATE 3\x00"])
async def test_a_claim_whose_answer_is_lost_is_made_once_and_told(
    server: Server, database: str, line: Line, answer: bytes
) -> None:
    driver = through(line, server, database)
    async with opened(driver):
        for _ in range(3):
            pid = await born(driver)
            await put(driver, pid, SaveProcess(record=record(pid, state="parked")))
        line.lose(answer)
        taken = await driver.claim(ClaimProcesses())
        assert [one.epoch for one in taken] == [1, 1, 1]
        assert await driver.claim(ClaimProcesses()) == ()
        await put(driver, taken[0].pid, PostLetter(to=taken[0].pid, body=1), epoch=1)
    assert line.cuts == 1


async def test_what_a_claim_took_whose_caller_has_gone_is_given_back(
    server: Server, database: str, line: Line
) -> None:
    driver = through(line, server, database, lease_s=0.6)
    async with opened(driver):
        pid = await born(driver)
        await put(driver, pid, SaveProcess(record=record(pid, state="parked")))
        async with anyio.create_task_group() as tasks:
            line.lose(b"COMMIT\x00")
            tasks.start_soon(driver.claim, ClaimProcesses())
            while not line.cuts:
                await anyio.sleep(0.001)
            tasks.cancel_scope.cancel()
        while not (taken := await driver.claim(ClaimProcesses())):
            await anyio.sleep(0.02)
        assert [(one.pid, one.epoch) for one in taken] == [(pid, 2)]


async def test_a_claim_that_is_cut_short_takes_nothing(server: Server, database: str) -> None:
    driver = postgres(server.dsn(database))
    async with opened(driver):
        pid = await born(driver)
        await put(driver, pid, SaveProcess(record=record(pid, state="parked")))
        async with locked(server, database, "process"):
            with anyio.move_on_after(0.1):
                await driver.claim(ClaimProcesses())
        while not (taken := await driver.claim(ClaimProcesses())):
            await anyio.sleep(0.02)
        assert [(one.pid, one.epoch) for one in taken] == [(pid, 1)]


async def test_commits_outlast_a_server_that_starts_again(mortal: Server) -> None:
    database = await mortal.new_database()
    driver = postgres(mortal.dsn(database))
    async with opened(driver):
        pids, to = [await born(driver) for _ in range(4)], await born(driver)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(busy, driver, pids, to, 0)
            await anyio.sleep(0.002)
            mortal.stop()
            tasks.start_soon(busy, driver, pids, to, 1)
            await anyio.to_thread.run_sync(mortal.start)
        await all_is_there_once(driver, pids, to, 2)


async def test_commits_outlast_the_death_of_the_embedded_server() -> None:
    with roomy() as folder:
        driver = Embedded(folder=str(folder / "data"), settings={"fsync": "off"})
        async with opened(driver):
            pids, to = [await born(driver) for _ in range(4)], await born(driver)
            for turn in range(2):
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(busy, driver, pids, to, turn)
                    await anyio.sleep(0.002)
                    told = (folder / "data" / "cluster" / "postmaster.pid").read_text()
                    os.kill(int(told.split()[0]), signal.SIGKILL)
                    for pid in pids:  # readers find out at the same time
                        tasks.start_soon(letters, driver, pid)
            await all_is_there_once(driver, pids, to, 2)
        with anyio.fail_after(20):
            while (folder / "data" / "cluster" / "postmaster.pid").exists():
                await anyio.sleep(0.02)  # whoever used it has left, so it stops


async def test_a_commit_that_nobody_can_write_says_so_and_later_ones_work(mortal: Server) -> None:
    database = await mortal.new_database()
    driver = postgres(mortal.dsn(database), patience_s=0.5)
    async with opened(driver):
        pid = await born(driver)
        mortal.stop()
        try:
            with pytest.raises(StorageUnavailable, match=r"after 0\.5 s.*may or may not"):
                await put(driver, pid, PostLetter(to=pid, body="never"))
            with pytest.raises(StorageUnavailable, match=r"nothing listens"):
                await driver.read(ReadLetters(pid=pid))
        finally:
            await anyio.to_thread.run_sync(mortal.start)
        await put(driver, pid, PostLetter(to=pid, body="later"))
        assert await letters(driver, pid) == ["later"]


async def test_a_line_that_has_gone_dead_is_given_up_in_time(
    server: Server, database: str, line: Line
) -> None:
    driver = through(line, server, database, patience_s=0.5)
    async with opened(driver):
        pid = await born(driver)
        line.die()
        with anyio.fail_after(20):
            with pytest.raises(StorageUnavailable, match="no answer"):
                await put(driver, pid, PostLetter(to=pid, body="perhaps"))
            with pytest.raises(StorageUnavailable, match="no answer"):
                await driver.read(ReadLetters(pid=pid))
        line.live()
        line.hang_up()
        await put(driver, pid, PostLetter(to=pid, body="later"))
        assert (await letters(driver, pid))[-1] == "later"


async def test_who_stops_waiting_neither_loses_nor_doubles_the_commit(
    server: Server, database: str
) -> None:
    driver = postgres(server.dsn(database))
    async with opened(driver):
        pid = await born(driver)
        for n in range(20):
            with anyio.move_on_after(0.0005 * (n % 4)):
                await put(driver, pid, PostLetter(to=pid, body=n))
        await put(driver, pid, PostLetter(to=pid, body=20))
        assert await letters(driver, pid) == list(range(21))


async def test_what_was_asked_for_before_the_end_is_written(server: Server, database: str) -> None:
    driver, other = postgres(server.dsn(database)), postgres(server.dsn(database))
    async with opened(other):
        async with opened(driver):
            pid = await born(driver)
            async with anyio.create_task_group() as tasks:
                for n in range(5):
                    tasks.start_soon(put, driver, pid, PostLetter(to=pid, body=n))
                await anyio.lowlevel.checkpoint()
                tasks.cancel_scope.cancel()
        assert await letters(other, pid) == list(range(5))
        with anyio.fail_after(20), pytest.raises(StorageUnavailable, match="ended"):
            await put(driver, pid, PostLetter(to=pid, body="late"))


async def test_commits_and_the_lease_do_not_wait_for_those_who_read(
    server: Server, database: str
) -> None:
    driver = postgres(server.dsn(database), connections=2, lease_s=0.3, namespace="n")
    other = postgres(server.dsn(database), namespace="n")
    async with opened(driver), opened(other):
        pid = await born(driver)
        stuck = [await born(driver) for _ in range(2)]
        for one in stuck:
            await put(driver, one, SaveProcess(record=record(one, state="parked")))

        async def wait_for(one: Pid) -> None:
            with suppress(StorageUnavailable):
                await driver.claim(ClaimProcesses(pid=one))

        async with locked(server, database, "process"), anyio.create_task_group() as tasks:
            for one in stuck:
                tasks.start_soon(wait_for, one)
            await until_locked_out(server, database, len(stuck))
            await put(driver, pid, PostLetter(to=pid, body="through"))
            await anyio.sleep(0.5)  # past the lease
            assert await other.claim(ClaimProcesses(pid=pid)) == ()
            with anyio.fail_after(0.5):
                await put(driver, pid, PostLetter(to=pid, body="again"))
            tasks.cancel_scope.cancel()
        assert await letters(driver, pid) == ["through", "again"]


async def test_who_reads_while_all_connections_are_taken_waits_for_one(
    server: Server, database: str
) -> None:
    driver = postgres(server.dsn(database), connections=1)
    async with opened(driver):
        pid = await born(driver)
        await put(driver, pid, SaveProcess(record=record(pid, state="parked")))
        async with anyio.create_task_group() as tasks:
            async with locked(server, database, "process"):
                tasks.start_soon(driver.claim, ClaimProcesses(pid=pid))
                await until_locked_out(server, database)
                with anyio.move_on_after(0.2) as waiting:
                    await driver.read(ReadLetters(pid=pid))
                assert waiting.cancelled_caught
            assert await letters(driver, pid) == []


async def test_a_kernel_that_the_database_has_forgotten_takes_a_place_with_its_processes(
    server: Server, database: str
) -> None:
    driver = postgres(server.dsn(database), lease_s=0.6, namespace="n")
    other = postgres(server.dsn(database), namespace="n")
    async with opened(other), opened(driver):
        pid = await born(driver)
        (one,) = await server.ask(
            "select owner from aoskernel.lease where pid = $1", pid, database=database
        )
        forget = "delete from aoskernel.kernel where id = $1"
        await server.ask(forget, one["owner"], database=database)
        with pytest.raises(StorageUnavailable, match="the database has forgotten it"):
            await put(driver, OUTSIDE, PostLetter(to=pid, body="perhaps"))
        place = "select count(*) from aoskernel.kernel join aoskernel.lease on owner = id"
        while not (await server.ask(place, database=database))[0][0]:
            await anyio.sleep(0.02)
        assert await other.claim(ClaimProcesses()) == ()
        await put(driver, pid, PostLetter(to=pid, body="mine"))
        await put(driver, OUTSIDE, PostLetter(to=pid, body="outside"))
        assert await letters(driver, pid) == ["mine", "outside"]


async def test_what_is_committed_while_a_kernel_takes_another_place_is_written(
    server: Server, database: str
) -> None:
    """Its processes get the new number in the same moment as its commits do."""
    driver = postgres(server.dsn(database), lease_s=0.3)
    async with opened(driver), anyio.create_task_group() as tasks:
        pid = await born(driver)
        async with locked(server, database, "lease"):
            await server.ask("delete from aoskernel.kernel", database=database)
            await until_locked_out(server, database)
            tasks.start_soon(put, driver, pid, PostLetter(to=pid, body="meanwhile"))
            with anyio.move_on_after(0.3):  # it may have to wait before it is sent
                await until_locked_out(server, database, 2)
        with anyio.fail_after(20):
            while not await letters(driver, pid):
                await anyio.sleep(0.01)


async def test_a_batch_is_no_larger_than_the_server_takes(server: Server, database: str) -> None:
    driver = postgres(server.dsn(database))
    await server.ask("create extension if not exists pg_stat_statements")
    async with opened(driver):
        pid = await born(driver)
        (before,) = await server.ask(COUNTED, database)
        async with anyio.create_task_group() as tasks:
            for _ in range(10):
                page = AddPage(page=Page(role="user", text="x" * (3 << 20)))
                tasks.start_soon(put, driver, pid, page)
        (after,) = await server.ask(COUNTED, database)
        assert len(await driver.read(ReadPages(pid=pid))) == 10
    assert after[0] - before[0] == 5
