"""What can be wrong with a database or with what is written: told clearly, and nothing is lost."""

import os
import pwd
import random
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import anyio
import asyncpg
import pytest
from postgres import Server, carried, opened, postgres, roomy
from pydantic import SecretStr
from stored import born, put, record
from system import System

from aoskernel import Kernel, Process, program, spawn
from aoskernel.drivers.storage.memory import MemoryStorage
from aoskernel.drivers.storage.postgres import Postgres
from aoskernel.subsystems.processes.messages import Send
from aoskernel.subsystems.storage.driver import (
    AddMemory,
    AddPage,
    AddProcess,
    AddVector,
    ClaimProcesses,
    FindMemories,
    FindProcesses,
    Memory,
    Page,
    Pid,
    PostLetter,
    ReadLetters,
    ReadPages,
    ReadProcess,
    SaveProcess,
    StorageError,
    StorageRefused,
    StorageUnavailable,
)
from aoskernel.subsystems.storage.messages import Commit, Write
from aoskernel.subsystems.storage.service import Storage

HELLO = AddPage(page=Page(role="user", text="hello"))


async def refused(driver: Postgres, error: type[StorageError] = StorageRefused) -> str:
    """What is said when there is no starting."""
    with anyio.fail_after(30), pytest.raises(error) as caught:
        async with opened(driver):
            pass
    return str(caught.value)


async def works(driver: Postgres) -> None:
    async with opened(driver):
        pid = await born(driver)
        await put(driver, pid, HELLO)
        assert len(await driver.read(ReadPages(pid=pid))) == 1


async def role(server: Server, *grants: str) -> str:
    """A new user without any rights but these."""
    name = f"user_{uuid4().hex}"
    await server.ask(f"create role {name} login password 'pässw:rd/@?#%'")
    for grant in grants:
        await server.ask(f"{grant} {name}")
    return name


# The address


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"host": "no-such-host.invalid"}, "there is no host of this name; look at the DSN"),
        ({"port": 1}, "nothing listens there; start the server, or look at the DSN's host"),
    ],
)
async def test_a_server_that_is_not_there(server: Server, wrong: Any, told: str) -> None:
    driver = postgres(server.dsn("postgres", **wrong), patience_s=1)
    assert told in await refused(driver, StorageUnavailable)


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"password": "wrong"}, "does not let us in.*look at the DSN"),
        ({"user": "nobody_of_this_name"}, "does not let us in.*look at the DSN"),
        ({"no_such_setting": "1"}, "cannot be used.*no_such_setting"),
    ],
)
async def test_a_server_that_does_not_let_us_in(server: Server, wrong: Any, told: str) -> None:
    with pytest.raises(StorageRefused, match=told):
        async with opened(postgres(server.dsn("postgres", **wrong))):
            pass


async def test_a_database_that_is_not_there(server: Server) -> None:
    told = await refused(postgres(server.dsn("no_such_database")))
    assert "does not exist; create it, or name another one in the DSN" in told


# What the database lets us do


async def test_a_server_without_pgvector(server: Server, database: str) -> None:
    await server.ask(f"alter database {database} set extension_control_path = '/nowhere'")
    told = await refused(postgres(server.dsn(database)))
    assert "has no pgvector: install pgvector 0.7 or newer on the server" in told
    assert "postgresql-NN-pgvector" in told


async def test_a_pgvector_that_is_too_old(server: Server, database: str) -> None:
    await server.ask("create extension vector", database=database)
    await server.ask("alter type halfvec rename to not_yet", database=database)
    assert "an old pgvector without halfvec" in await refused(postgres(server.dsn(database)))


async def test_a_user_who_may_not_create_a_schema(server: Server, database: str) -> None:
    await server.ask("create extension vector", database=database)
    user = await role(server)
    told = await refused(postgres(server.dsn(database, user=user)))
    assert "permission denied for database" in told
    assert "grant create on database" in told


async def test_a_user_who_may_not_create_the_extension(server: Server, database: str) -> None:
    user = await role(server, f"grant create on database {database} to")
    told = await refused(postgres(server.dsn(database, user=user)))
    assert "let a superuser run `create extension vector schema public`" in told


async def test_a_user_needs_no_right_to_an_extension_that_is_there(
    server: Server, database: str
) -> None:
    await server.ask("create extension vector", database=database)
    user = await role(server, f"grant create on database {database} to")
    await works(postgres(server.dsn(database, user=user)))


async def test_a_user_needs_only_rights_to_the_rows_of_tables_that_are_there(
    server: Server, database: str
) -> None:
    await works(postgres(server.dsn(database)))
    user = await role(server)
    told = await refused(postgres(server.dsn(database, user=user)))
    assert "grant the user usage on the schema" in told
    for grant in (
        "usage on schema aoskernel",
        "select, insert, update, delete on all tables in schema aoskernel",
        "usage on all sequences in schema aoskernel",
    ):
        await server.ask(f"grant {grant} to {user}", database=database)
    await works(postgres(server.dsn(database, user=user)))


async def test_a_database_that_is_read_only(server: Server, database: str) -> None:
    await works(postgres(server.dsn(database)))
    await server.ask(f"alter database {database} set default_transaction_read_only = on")
    told = await refused(postgres(server.dsn(database)))
    assert "cannot be written to" in told
    assert "name the primary in the DSN" in told


async def test_a_database_that_becomes_read_only_can_be_read_and_later_written(
    server: Server, database: str
) -> None:
    driver = postgres(server.dsn(database), patience_s=0.5)
    async with opened(driver):
        pid = await born(driver)
        switch = f"alter database {database} set default_transaction_read_only ="
        await server.ask(f"{switch} on")
        await server.cut()
        with pytest.raises(StorageUnavailable, match="cannot be written to after"):
            await put(driver, pid, HELLO)
        assert await driver.read(ReadPages(pid=pid)) == ()
        await server.ask(f"{switch} off")
        await put(driver, pid, HELLO)
        assert len(await driver.read(ReadPages(pid=pid))) == 1


# Connections


@asynccontextmanager
async def no_connection_left(server: Server, user: str, database: str) -> AsyncIterator[None]:
    """This user has taken all that they may have."""
    async with AsyncExitStack() as stack:
        with pytest.raises(asyncpg.TooManyConnectionsError):
            while True:
                connection = await asyncpg.connect(server.dsn(database, user=user))
                stack.push_async_callback(connection.close)
        yield


async def one_with_three_connections(server: Server, database: str) -> str:
    await server.ask("create extension vector", database=database)
    user = await role(server, f"grant create on database {database} to")
    await server.ask(f"alter role {user} connection limit 3")
    return user


async def test_a_server_without_a_connection_left_at_the_start(
    server: Server, database: str
) -> None:
    user = await one_with_three_connections(server, database)
    async with no_connection_left(server, user, database):
        driver = postgres(server.dsn(database, user=user))
        told = await refused(driver, StorageUnavailable)
    assert "has no connection left" in told


async def test_who_finds_no_connection_waits_for_one_and_then_says_so(
    server: Server, database: str
) -> None:
    user = await one_with_three_connections(server, database)
    driver = postgres(server.dsn(database, user=user), patience_s=0.5)
    async with opened(driver):
        pid = await born(driver)
        killed = "select pg_terminate_backend(pid) from pg_stat_activity where usename = $1"
        await server.ask(killed, user)
        async with no_connection_left(server, user, database):
            with pytest.raises(StorageUnavailable, match="raise the server's max_connections"):
                await put(driver, pid, HELLO)
        await put(driver, pid, HELLO)


# Room


@contextmanager
def small_disk(mib: int) -> Iterator[Path]:
    """A folder that holds so much and no more."""
    if os.geteuid() != 0:
        pytest.skip("only root can make a file system of its own")
    with roomy() as folder:
        owner = pwd.getpwnam("nobody").pw_uid
        options = f"size={mib}m,uid={owner},mode=0755"
        command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
        if subprocess.run(command, capture_output=True, check=False).returncode:
            pytest.skip("this root may not mount a file system")
        try:
            yield folder
        finally:
            subprocess.run(["umount", str(folder)], check=True)


@contextmanager
def server_on(disk: Path, *options: str) -> Iterator[Server]:
    server = Server(carried(), disk, {"max_wal_size": "8MB", "min_wal_size": "4MB"})
    server.make("--wal-segsize=1", *options)
    try:
        server.start()
        yield server
    finally:
        server.stop()


def fill(disk: Path, but_mib: int) -> Path:
    """A file to be deleted later."""
    free, ballast = os.statvfs(disk), disk / "ballast"
    ballast.write_bytes(bytes(free.f_bavail * free.f_bsize - but_mib * 2**20))
    return ballast


async def fill_with_pages(driver: Postgres, pid: Pid, told: str) -> list[str]:
    """Commit until the disk is full; gives what was committed."""
    bytes_of, written = random.Random(1).randbytes, list[str]()
    with pytest.raises(StorageUnavailable, match=told):
        for _ in range(200):
            text = bytes_of(50_000).hex()
            await put(driver, pid, AddPage(page=Page(role="user", text=text)))
            written.append(text)
    assert written
    return written


async def test_on_a_full_disk_commits_fail_reads_go_on_and_later_commits_work() -> None:
    with roomy() as other, small_disk(80) as disk:
        with server_on(disk, f"--waldir={other / 'wal'}") as server:
            driver = postgres(server.dsn("postgres"), patience_s=0.5)
            async with opened(driver):
                pid, ballast = await born(driver), fill(disk, 6)
                written = await fill_with_pages(driver, pid, r"(?s)no room.*free some space")
                assert [page.text for page in await driver.read(ReadPages(pid=pid))] == written
                ballast.unlink()
                await put(driver, pid, HELLO)
                pages = await driver.read(ReadPages(pid=pid))
                assert [page.text for page in pages] == [*written, "hello"]


async def test_a_server_that_a_full_disk_has_ended_goes_on_with_all_that_was_committed() -> None:
    with small_disk(80) as disk, server_on(disk) as server:
        driver = postgres(server.dsn("postgres"), patience_s=0.5)
        async with opened(driver):
            pid, ballast = await born(driver), fill(disk, 6)
            written = await fill_with_pages(driver, pid, "the database is unavailable")
            ballast.unlink()
            server.stop()
            await anyio.to_thread.run_sync(server.start)
            await put(driver, pid, HELLO)
            pages = [page.text for page in await driver.read(ReadPages(pid=pid))]
            assert pages[: len(written)] == written
            assert pages[-1] == "hello"


@program
async def write_down(self: Process, pages: int) -> int:
    for number in range(pages):
        await self.note(random.Random(number).randbytes(50_000).hex())
        await self.remember(f"page {number}")
    return pages


async def test_a_process_waits_for_a_full_disk_and_goes_on_where_it_was(system: System) -> None:
    with roomy() as other, small_disk(80) as disk:
        with server_on(disk, f"--waldir={other / 'wal'}") as server, anyio.fail_after(60):
            dsn = SecretStr(server.dsn("postgres"))
            storage = {"driver": "postgres", "dsn": dsn, "patience_s": 0.5}
            async with system(storage=storage) as kernel:
                ballast = fill(disk, 6)
                agent = await spawn(kernel, write_down(pages=100))
                with pytest.raises(StorageUnavailable, match=r"nothing was written|no room"):
                    while True:
                        await kernel.request(Send(to=agent.pid, body="is there room?"))
                        await anyio.sleep(0.05)
                found = await kernel.request(ReadPages(pid=agent.pid))
                assert 0 < len(found) < 100
                ballast.unlink()
                assert await agent == 100
                texts = [page.text for page in await kernel.request(ReadPages(pid=agent.pid))]
                assert texts == [random.Random(n).randbytes(50_000).hex() for n in range(100)]


# What is written


def memory(**more: Any) -> AddMemory:
    return AddMemory(memory=Memory(**{"tenant": "t", "pid": None, "text": "x", **more}))


BAD_NAMES: dict[str, Write] = {
    "key": AddProcess(record=record(Pid(7), key="a\0b")),
    "name": AddProcess(record=record(Pid(7), name="a\0b")),
    "role": AddProcess(record=record(Pid(7), role="\ud800")),
    "tag": AddProcess(record=record(Pid(7), tags=("a\0b",))),
    "tenant": AddProcess(record=record(Pid(7), tenant="a\0b")),
    "user": AddProcess(record=record(Pid(7), user="\ud800")),
    "tag of a memory": memory(tags=("\udfff",)),
    "term": memory(terms=("a\0b",)),
    "tool call": AddPage(page=Page(role="tool", tool_call_id="a\0b")),
}


@pytest.mark.parametrize("what", sorted(BAD_NAMES))
async def test_a_name_with_nul_or_half_a_sign_is_refused_by_the_service(what: str) -> None:
    driver = MemoryStorage()
    service, pid = Storage(driver), await born(driver)
    commit = Commit(pid=pid, epoch=0, writes=(HELLO, BAD_NAMES[what]))
    with pytest.raises(StorageRefused, match=rf"its {what.split(' of')[0]} .* leave that sign out"):
        await service.commit(commit)
    assert await driver.read(ReadPages(pid=pid)) == ()


@pytest.mark.parametrize("what", sorted(BAD_NAMES))
async def test_a_name_with_nul_or_half_a_sign_is_refused_by_the_database(
    server: Server, what: str
) -> None:
    driver = postgres(server.dsn("postgres"))
    async with opened(driver):
        pid = await born(driver)
        with pytest.raises(StorageRefused, match="the database refuses"):
            await put(driver, pid, HELLO, BAD_NAMES[what])
        assert await driver.read(ReadPages(pid=pid)) == ()
        await put(driver, pid, HELLO)


async def test_a_question_with_nul_is_refused(server: Server) -> None:
    driver = postgres(server.dsn("postgres"), patience_s=5)
    async with opened(driver):
        for query in (ReadProcess(key="a\0b"), FindProcesses(name="\ud800")):
            with pytest.raises(StorageRefused, match="the database refuses"):
                await driver.read(query)


@pytest.mark.parametrize("body", [{1, 2}, b"bytes", object()])
async def test_a_letter_that_is_no_json_is_refused(server: Server, body: Any) -> None:
    driver = postgres(server.dsn("postgres"))
    async with opened(driver):
        pid = await born(driver)
        letter = PostLetter(to=pid, body=body)
        with pytest.raises(StorageRefused, match="not JSON serializable"):
            await put(driver, pid, HELLO, letter)
        with pytest.raises(StorageRefused, match="a letter's body must be JSON data"):
            await Storage(driver).commit(Commit(pid=pid, epoch=0, writes=(letter,)))
        assert await driver.read(ReadPages(pid=pid)) == ()


@pytest.mark.parametrize("vector", [b"abc", b"\x00\x00\xc0\x7f", b"\x00\x00\x80\x7f"])
async def test_a_vector_that_is_none_is_refused(server: Server, vector: bytes) -> None:
    driver = postgres(server.dsn("postgres"))
    async with opened(driver):
        await put(driver, Pid(0), memory())
        (kept,) = await driver.read(FindMemories(tenant="t"))
        with pytest.raises(StorageRefused):
            await put(
                driver, Pid(0), AddVector(memory=kept.number, embedder="e", vector=vector), memory()
            )
        assert await driver.read(FindMemories(tenant="t")) == (kept,)


@pytest.mark.parametrize("state", ["", "{", "not json", "{'a': 1}"])
async def test_a_state_that_is_no_json_is_refused(state: str) -> None:
    driver = MemoryStorage()
    service, pid = Storage(driver), await born(driver)
    broken = SaveProcess(record=record(pid, state_json=state))
    with pytest.raises(StorageRefused, match="its state is no JSON"):
        await service.commit(Commit(pid=pid, epoch=0, writes=(broken,)))
    assert await driver.read(ReadProcess(pid=pid)) == record(pid)


@pytest.mark.parametrize("text", ["x" * (17 << 20), "😀" * (5 << 20)])
async def test_the_limit_of_a_commit_is_in_bytes_and_stated(text: str) -> None:
    driver = MemoryStorage()
    service, pid = Storage(driver), await born(driver)
    large = AddPage(page=Page(role="user", text=text))
    with pytest.raises(StorageRefused, match=r"more than the limit of 16 MiB.*most_mib"):
        await service.commit(Commit(pid=pid, epoch=0, writes=(large,)))
    assert await driver.read(ReadPages(pid=pid)) == ()
    async with Kernel(Storage(driver, most_mib=32)) as kernel:
        await kernel.request(Commit(pid=pid, epoch=0, writes=(large,)))
        assert len(await kernel.request(ReadPages(pid=pid))) == 1


async def test_the_kernel_stays_up_when_a_commit_is_refused(server: Server, database: str) -> None:
    storage = Storage(postgres(server.dsn(database)))
    with anyio.fail_after(30):
        async with Kernel(storage) as kernel:
            birth = AddProcess(record=record(Pid(64)))
            await kernel.request(Commit(pid=Pid(64), epoch=0, writes=(birth,)))
            for write in BAD_NAMES.values():
                with pytest.raises(StorageRefused):
                    await kernel.request(Commit(pid=Pid(64), epoch=0, writes=(write,)))
            await kernel.request(Commit(pid=Pid(64), epoch=0, writes=(HELLO,)))
            assert len(await kernel.request(ReadPages(pid=Pid(64)))) == 1


async def test_a_lease_goes_by_the_databases_clock(
    server: Server, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours = postgres(server.dsn(database), lease_s=0.5, namespace="n")
    other = postgres(server.dsn(database), namespace="n")
    async with opened(ours), opened(other):
        pid, now = await born(ours), time.time
        for jump_s in (-1e8, 1e8):
            monkeypatch.setattr(time, "time", lambda jump_s=jump_s: now() + jump_s)
            await anyio.sleep(0.7)  # past a lease
            assert await other.claim(ClaimProcesses()) == ()
            await put(ours, pid, PostLetter(to=pid, body=jump_s))
        assert len(await ours.read(ReadLetters(pid=pid, limit=9))) == 2
