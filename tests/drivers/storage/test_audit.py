"""The chained log: what a superuser changes is found and named, what is erased stays provable."""

import re
import sys
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import anyio
import asyncpg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from postgres import COMMITTED, Line, Server, opened, postgres
from stored import born, put, record

from aoskernel.drivers.storage.memory import MemoryStorage
from aoskernel.subsystems.storage.driver import (
    AddPage,
    Audited,
    ClaimProcesses,
    CloseQuestion,
    Commit,
    EraseBodies,
    Erased,
    Expiry,
    Fault,
    ForgetExpired,
    Intend,
    Link,
    Page,
    Pid,
    PostCommand,
    ReadCommands,
    ReadLog,
    ReadPages,
    ReadProcess,
    SaveProcess,
    Seal,
    Settle,
    Standing,
    StorageDriver,
    StorageRefused,
    TakeCommand,
    Verifier,
    body_mark,
    linked,
)

PAGE = Path(__file__).parents[3] / "docs" / "reference" / "audit.md"
INSERTED = """
insert into entry
select pid, step, took, epoch, seq + 1, failed, '77', kind, fingerprint, body, rest, hash, erased
from entry where path = '2'"""
SWAPPED = """
update entry set seq = other.seq from entry as other
where (entry.path, other.path) in (('2', '3'), ('3', '2')) and other.pid = entry.pid"""


@dataclass
class Trial:
    """A driver in a schema of its own, and the superuser's connection."""

    driver: Audited
    dsn: str
    schema: str

    @asynccontextmanager
    async def connected(self) -> AsyncIterator[Any]:
        connection = await asyncpg.connect(
            self.dsn, server_settings={"search_path": f"{self.schema}, public"}
        )
        yield connection
        await connection.close()

    async def tamper(self, statement: str) -> None:
        """The superuser switches the triggers off."""
        async with self.connected() as connection:
            await connection.execute("set session_replication_role = replica")
            await connection.execute(statement)

    def another(self, **more: Any) -> StorageDriver:
        """A driver of another kernel."""
        return postgres(self.dsn, schema_name=self.schema, namespace="audit", **more)

    async def verified(self, against: dict[int, bytes] | None = None) -> Verifier:
        verifier = Verifier(against or {})
        with anyio.fail_after(60):
            async with aclosing(self.driver.trail()) as items:
                async for item in items:
                    verifier.take(item)
        verifier.end()
        return verifier

    async def fault(self, against: dict[int, bytes] | None = None) -> Fault:
        (found,) = (await self.verified(against)).faults
        return found

    async def seals(self) -> dict[int, bytes]:
        items = [item async for item in self.driver.trail()]
        return {item.number: item.hash for item in items if isinstance(item, Seal)}

    async def sealed(self) -> dict[int, bytes]:
        """The seals, as soon as everything stands in one."""
        with anyio.fail_after(20):
            while True:
                items = [item async for item in self.driver.trail()]
                leaves = {
                    (leaf.pid, leaf.seq, leaf.head)
                    for item in items
                    if isinstance(item, Seal)
                    for leaf in item.standings()
                }
                standings = [item for item in items if isinstance(item, Standing)]
                if {(one.pid, one.head) for one in standings} <= {(p, h) for p, _, h in leaves}:
                    return {item.number: item.hash for item in items if isinstance(item, Seal)}
                await anyio.sleep(0.05)


def outcome(n: int, body: str | None = None) -> Settle:
    return Settle(key=f"0:{n}", kind="call", fingerprint="ab", body=body or f'"{n}"', took_s=0.1)


async def worked(driver: StorageDriver, turns: int = 5) -> Pid:
    """A process with so many outcomes, each written before the next."""
    pid = await born(driver)
    for n in range(turns):
        await put(driver, pid, outcome(n), AddPage(page=Page(role="tool", entry=f"0:{n}")))
    return pid


@asynccontextmanager
async def trial(server: Server, **more: Any) -> AsyncIterator[Trial]:
    dsn, schema = server.dsn("postgres"), f"audit_{uuid4().hex}"
    driver = postgres(dsn, schema_name=schema, namespace="audit", **more)
    assert isinstance(driver, Audited)
    async with opened(driver):
        yield Trial(driver, dsn, schema)


async def test_what_nobody_has_changed_is_as_it_was_written(server: Server) -> None:
    async with trial(server) as at:
        await worked(at.driver)
        await at.sealed()
        found = await at.verified()
        assert (found.faults, found.links, found.unchained) == ([], 6, 0)
        assert found.seals >= 1


EDITS = {
    "a body": ("update entry set rest = '\"9\"' where path = '2'", "call 0:2"),
    "that it failed": ("update entry set failed = true where path = '2'", "call 0:2"),
    "how long it took": ("update entry set took = 7 where path = '2'", "call 0:2"),
    "a kind": ("update entry set kind = 'nap' where path = '2'", "nap 0:2"),
    "its place": ("update entry set path = '7' where path = '2'", "call 0:7"),
    "its epoch": ("update entry set epoch = 7 where path = '2'", "call 0:2"),
    "a hash": ("update entry set hash = sha256('x') where path = '2'", "call 0:2"),
    "one that lost its hash": ("update entry set hash = null where path = '2'", "call 0:3"),
    "a birth": ("update mark set said = '{}' where kind = '@born'", "@born"),
    "a deleted one": ("delete from entry where path = '2'", "call 0:3"),
    "the last one": ("delete from entry where path = '4'", "the end of the log"),
    "where it stands": ("update lease set head = sha256('x') where true", "the end of the log"),
    "a salt": ("update salt set salt = 'x' where true", "@born"),
    "an inserted one": (INSERTED, "call 0:77"),
    "two that changed places": (SWAPPED, "call 0:3"),
}


def _table(statement: str) -> str:
    """Whose rows it changes, or copies."""
    return next(name for name in ("entry", "mark", "lease", "salt") if f" {name} " in statement)


async def test_what_a_superuser_has_changed_is_found_and_named(server: Server) -> None:
    async with trial(server) as at:
        found: dict[Pid, Fault] = {}
        for what, (statement, place) in EDITS.items():
            pid = await worked(at.driver)
            await at.tamper(f"{statement} and {_table(statement)}.pid = {pid}")
            found = {fault.pid: fault for fault in (await at.verified()).faults}
            assert pid in found, what
            assert (what, found[pid].place) == (what, place)
        assert len(found) == len(EDITS)


async def _forge(at: Trial, pid: Pid, last: int) -> None:
    """As somebody would who knows all this: anew from a changed body on, without what came last."""
    links = [item async for item in at.driver.trail() if isinstance(item, Link)]
    head, statements = bytes(32), [f"delete from entry where seq > {last}"]
    for link in links:
        if link.seq > last:
            break
        assert link.body is not None
        assert link.salt is not None
        body = b'"forged"' if link.key == "0:1" else link.body
        said = (link.kind, link.key, link.fingerprint, link.failed, link.took_s)
        place = (link.pid, link.seq, link.epoch)
        head = linked(head, place, said, body_mark(link.salt, body))
        table, column = ("mark", "said") if link.kind.startswith("@") else ("entry", "rest")
        statements.append(
            f"update {table} set hash = '\\x{head.hex()}', {column} = '\\x{body.hex()}' "
            f"where pid = {pid} and seq = {link.seq}"
        )
    statements.append(f"update lease set head = '\\x{head.hex()}', seq = {last}")
    await at.tamper("; ".join(statements))


async def test_a_chain_that_was_made_anew_is_not_what_was_sealed(server: Server) -> None:
    async with trial(server) as at:
        pid = await worked(at.driver)
        await at.sealed()
        links = [item async for item in at.driver.trail() if isinstance(item, Link)]
        await _forge(at, pid, next(link.seq for link in links if link.key == "0:4"))
        found = await at.fault()
        assert found.pid == pid
        assert "sealed" in found.why


async def test_with_its_seals_gone_too_only_an_exported_one_tells(server: Server) -> None:
    async with trial(server) as at:
        pid = await worked(at.driver)
        exported = await at.sealed()
        links = [item async for item in at.driver.trail() if isinstance(item, Link)]
        await _forge(at, pid, next(link.seq for link in links if link.key == "0:2"))
        await at.tamper("delete from seal; update lease set sealed = true")
        assert (await at.verified()).faults == []
        last = max(exported)
        found = await at.fault({last: exported[last]})
        assert (found.pid, found.place) == (0, f"seal {last}")
        assert "exported" in found.why


async def test_seals_are_made_within_a_second(server: Server) -> None:
    async with trial(server) as at:
        pid = await worked(at.driver, turns=1)
        with anyio.fail_after(1):
            await at.sealed()
        await put(at.driver, pid, outcome(1))
        with anyio.fail_after(1):
            assert len(await at.sealed()) >= 2


SEALS = {
    "update seal set at = at + 1 where number = 1": "seal 1",
    "update seal set leaves = '' where number = 1": "seal 1",
    "update seal set hash = sha256('x') where number = 2": "seal 2",
    "delete from seal where number = 1": "seal 1",
}


async def test_a_changed_seal_is_found(server: Server) -> None:
    async with trial(server) as at:
        pid = await worked(at.driver, turns=1)
        await at.sealed()
        await put(at.driver, pid, outcome(1))
        await at.sealed()
        await at.tamper("create table kept as select * from seal")
        for statement, place in SEALS.items():
            await at.tamper(statement)
            assert (statement, (await at.verified()).faults[0].place) == (statement, place)
            await at.tamper("delete from seal; insert into seal select * from kept")
        assert (await at.verified()).faults == []


REFUSED = (
    "update entry set rest = 'x'",
    "update entry set hash = null",
    "update entry set erased = true, rest = 'x', path = '9'",
    "delete from entry",
    "delete from entry where path = '1'",
    "truncate entry",
    "update mark set said = 'x'",
    "delete from mark",
    "delete from seal",
    "update seal set at = 0",
)


async def test_the_database_refuses_to_change_the_log(server: Server) -> None:
    async with trial(server) as at:
        await worked(at.driver)
        await at.sealed()
        async with at.connected() as connection:
            for statement in REFUSED:
                with pytest.raises(asyncpg.InsufficientPrivilegeError, match="only be added to"):
                    await connection.execute(statement)


async def test_an_erased_body_leaves_the_chain_as_it_was(server: Server) -> None:
    async with trial(server) as at:
        pid = await born(at.driver)
        long = '"a person' + "s name" * 2000 + '"'
        await put(
            at.driver,
            pid,
            outcome(0, long),
            outcome(1),
            AddPage(page=Page(role="tool", entry="0:0")),
            AddPage(page=Page(role="user", text="a person")),
        )
        await at.sealed()
        with pytest.raises(StorageRefused, match="stop it first"):
            await at.driver.erase(EraseBodies(pid=pid))
        await put(at.driver, pid, SaveProcess(record=record(pid, state="parked")))

        assert await at.driver.erase(EraseBodies(pid=pid, key="0:0")) == 1
        first, second = await at.driver.read(ReadLog(pid=pid))
        assert (first.erased, first.body) == (True, "")
        assert (second.erased, second.body) == (False, '"1"')
        with pytest.raises(Erased):
            await at.driver.read(ReadPages(pid=pid))
        assert (await at.verified()).faults == []
        with pytest.raises(StorageRefused, match="no outcome at 0:0"):
            await at.driver.erase(EraseBodies(pid=pid, key="0:0"))

        assert await at.driver.erase(EraseBodies(pid=pid)) == 2  # its birth, and what was left
        found = await at.verified()
        assert (found.faults, found.erased) == ([], 3)
        async with at.connected() as connection:
            for table in ("entry", "page", "process", "mark"):
                rows = await connection.fetch(f"select * from {table}")
                assert not any(b"person" in bytes(str(row), "utf-8") for row in rows)


async def test_what_retention_deletes_is_retired_and_not_missing(server: Server) -> None:
    async with trial(server) as at:
        pid, other = await worked(at.driver), await worked(at.driver)
        kept = await born(at.driver, key="invoice")
        await at.sealed()
        for one in (pid, kept):
            known = await at.driver.read(ReadProcess(pid=one))
            assert known is not None
            await put(at.driver, one, SaveProcess(record=record(one, state="exited", result="1")))
        await at.sealed()
        await at.driver.forget(ForgetExpired(expiry=Expiry(after_s=0)))  # type: ignore[attr-defined]
        found = await at.verified()
        assert (found.faults, found.retired) == ([], 2)

        await at.tamper(
            f"delete from entry where pid = {other}; delete from mark where pid = {other}"
        )
        await at.tamper(f"delete from lease where pid = {other}")
        gone = await at.fault()
        assert (gone.pid, gone.place) == (other, "the whole log")


async def test_calls_that_must_not_be_repeated_decisions_commands_and_ends_are_links(
    server: Server,
) -> None:
    async with trial(server) as at:
        pid = await born(at.driver)
        await put(at.driver, pid, Intend(key="0:0", kind="pay", fingerprint="ab", effect="once"))
        await put(at.driver, pid, Intend(key="0:1", kind="see", fingerprint="ab", effect="none"))
        await put(at.driver, pid, CloseQuestion(key="0:1?ab.0", decision="approve: see"))
        await put(at.driver, pid, CloseQuestion(key="0:1?ab.1"))
        await at.driver.commit(_outside(PostCommand(to=pid, signal="TERM")))
        (command,) = await at.driver.read(ReadCommands(pid=pid))
        obeyed = TakeCommand(number=command.number, signal=command.signal)
        await put(at.driver, pid, obeyed, SaveProcess(record=record(pid, state="killed")))
        kinds = [item.kind async for item in at.driver.trail(pid) if isinstance(item, Link)]
        assert kinds == ["@born", "@meant", "@decided", "@obeyed", "@ended"]
        assert (await at.verified()).faults == []


def _outside(*writes: PostCommand) -> "Commit":
    return Commit(writes=writes)


async def test_a_new_owner_goes_on_with_the_chain(server: Server) -> None:
    async with trial(server) as at:
        pid = await worked(at.driver)
        await put(at.driver, pid, SaveProcess(record=record(pid, state="parked")))
        async with opened(other := at.another()):
            (taken,) = await other.claim(ClaimProcesses(pid=pid, states=("parked",)))
            await put(other, pid, outcome(9), epoch=taken.epoch)
            found = await at.verified()
            assert (found.faults, found.links) == ([], 7)


FEW = settings(
    max_examples=4, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
MOVES = st.lists(
    st.tuples(st.integers(0, 3), st.sampled_from(["settle", "lazy", "bad"])), max_size=40
)


@FEW
@given(moves=MOVES)
async def test_batches_make_one_chain_for_each_process(
    server: Server, moves: list[tuple[int, str]]
) -> None:
    await _batches(server, moves)


@pytest.mark.slow
@settings(FEW, max_examples=100)
@given(moves=MOVES)
async def test_batches_of_many_shapes_do(server: Server, moves: list[tuple[int, str]]) -> None:
    await _batches(server, moves)


async def _batches(server: Server, moves: list[tuple[int, str]]) -> None:
    """Whoever commits together, lazily or not, and whichever commit of a batch is refused."""
    async with opened(driver := postgres(server.dsn("postgres"))):
        pids = [await born(driver) for _ in range(4)]

        async def one(n: int, pid: Pid, how: str) -> None:
            if how == "bad":
                writes = (
                    outcome(n),
                    Settle(key=f"0:{n}", kind="x" * 10, fingerprint="", body="\0"),
                    outcome(n),
                )
                with pytest.raises(StorageRefused):
                    await driver.commit(Commit(pid=pid, writes=writes))
            else:
                await driver.commit(Commit(pid=pid, writes=(outcome(n),), lazy=how == "lazy"))

        with anyio.fail_after(30):
            async with anyio.create_task_group() as tasks:
                for n, (which, how) in enumerate(moves):
                    tasks.start_soon(one, n, pids[which], how)
            for pid in pids:
                await put(driver, pid, outcome(1000))
        assert isinstance(driver, Audited)
        for pid in pids:
            verifier = Verifier({}, only=pid)
            async for item in driver.trail(pid):
                verifier.take(item)
            verifier.end()
            assert verifier.faults == []
            assert verifier.unchained == 0


async def test_a_lost_answer_leaves_one_chain(server: Server) -> None:
    """Whether the statement before was written or not, the next goes on from where the chain ends."""
    async with trial(server) as at, Line(server.port).laid() as line:
        dsn = server.dsn("postgres", port=line.port)
        async with opened(driver := postgres(dsn, schema_name=at.schema)):
            pid = await worked(driver, turns=1)
            line.lose(COMMITTED)
            await put(driver, pid, outcome(1))
            assert line.cuts == 1
            await put(driver, pid, outcome(2))
            found = await at.verified()
            assert (found.faults, found.links) == ([], 4)


async def test_a_chain_that_ends_elsewhere_is_looked_at_before_it_goes_on(server: Server) -> None:
    """As after a statement that was written when nobody waited for it any more."""
    async with trial(server) as at:
        pid = await worked(at.driver, turns=1)
        await at.tamper(f"update lease set head = sha256('x') where pid = {pid}")
        with anyio.fail_after(20):
            await put(at.driver, pid, outcome(1))
        assert len(await at.driver.read(ReadLog(pid=pid))) == 2
        assert (await at.fault()).place == "call 0:1"


async def test_without_audit_nothing_is_chained_and_that_is_told(server: Server) -> None:
    async with trial(server, audit=False) as at:
        pid = await worked(at.driver)
        found = await at.verified()
        assert (found.faults, found.links, found.unchained) == ([], 5, 5)
        await put(at.driver, pid, SaveProcess(record=record(pid, state="parked")))
        async with opened(audited := at.another()):
            (taken,) = await audited.claim(ClaimProcesses(pid=pid, states=("parked",)))
            await put(audited, pid, outcome(9), epoch=taken.epoch)
            found = await at.verified()
            assert (found.faults, found.links, found.unchained) == ([], 6, 5)


async def test_the_program_in_the_documents_finds_it_too(server: Server, tmp_path: Path) -> None:
    (text,) = re.findall(
        r"^```python verify.py\n(.*?)^```$", PAGE.read_text(), re.DOTALL | re.MULTILINE
    )
    (tmp_path / "verify.py").write_text(text)

    async def checked() -> tuple[int, str]:
        command = [sys.executable, str(tmp_path / "verify.py"), at.dsn, at.schema]
        done = await anyio.run_process(command, check=False)
        return done.returncode, done.stdout.decode()

    async with trial(server) as at:
        pid = await worked(at.driver)
        await put(at.driver, pid, SaveProcess(record=record(pid, state="parked")))
        await at.driver.erase(EraseBodies(pid=pid, key="0:3"))
        await at.sealed()
        code, told = await checked()
        assert (code, told.partition(" and ")[0]) == (0, "6 links")
        await at.tamper("update entry set rest = 'x' where path = '1'")
        code, told = await checked()
        assert (code, told.partition(" (")[0]) == (1, f"process {pid}: call 0:1")


def test_what_is_in_memory_keeps_no_audit() -> None:
    assert not isinstance(MemoryStorage(), Audited)
