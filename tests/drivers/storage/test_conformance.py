"""One suite for every storage driver: what is written is what is read back."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest
from pydantic import JsonValue

from aoskernel.drivers.storage.memory import MemoryStorage
from aoskernel.subsystems.storage.driver import (
    AddMemory,
    AddPage,
    Commit,
    Fenced,
    FindMemories,
    FindProcesses,
    Intend,
    Memory,
    Page,
    Pid,
    PostLetter,
    ProcessRecord,
    ReadLetters,
    ReadLog,
    ReadPages,
    ReadProcess,
    SaveProcess,
    Settle,
    StorageDriver,
    TakeLetter,
)
from aoskernel.subsystems.storage.messages import Write

DRIVERS = {"memory": MemoryStorage}


@asynccontextmanager
async def opened(name: str) -> AsyncIterator[StorageDriver]:
    driver: StorageDriver = DRIVERS[name]()
    await driver.start()
    try:
        yield driver
    finally:
        await driver.stop()


def record(pid: Pid, **more: Any) -> ProcessRecord:
    given = {"program": "p", "version": "1", "state_json": "{}", **more}
    return ProcessRecord(pid=pid, **given)


async def put(driver: StorageDriver, pid: Pid, *writes: Write, epoch: int = 0) -> None:
    await driver.commit(Commit(pid=pid, epoch=epoch, writes=writes))


every_driver = pytest.mark.parametrize("name", sorted(DRIVERS))


@every_driver
async def test_process_numbers_are_never_given_twice(name: str) -> None:
    async with opened(name) as driver:
        numbers = [await driver.new_pid() for _ in range(100)]
    assert len(set(numbers)) == 100
    assert min(numbers) > 0


@every_driver
async def test_a_process_is_read_back_by_number_and_by_key(name: str) -> None:
    async with opened(name) as driver:
        pid = await driver.new_pid()
        saved = record(
            pid, key="k", name="n", tags=("a", "b"), priority=7, state_json='{"x":"\\u0000"}'
        )
        await put(driver, pid, SaveProcess(record=saved))
        assert await driver.read(ReadProcess(pid=pid)) == saved
        assert await driver.read(ReadProcess(key="k")) == saved
        assert await driver.read(ReadProcess(key="other")) is None
        assert await driver.read(ReadProcess(pid=Pid(10**9))) is None


@every_driver
async def test_a_commit_may_save_a_child_beside_its_parent(name: str) -> None:
    async with opened(name) as driver:
        parent, child = await driver.new_pid(), await driver.new_pid()
        await put(driver, parent, SaveProcess(record=record(parent)))
        await put(driver, parent, SaveProcess(record=record(child, parent=parent)))
        found = await driver.read(FindProcesses(parent=parent))
        assert [r.pid for r in found] == [child]
        both = await driver.read(FindProcesses())
        assert [r.pid for r in both] == [parent, child]


@every_driver
async def test_the_ended_are_found_only_when_asked_for(name: str) -> None:
    async with opened(name) as driver:
        pid = await driver.new_pid()
        await put(driver, pid, SaveProcess(record=record(pid, state="exited", result="1")))
        assert await driver.read(FindProcesses()) == ()
        assert len(await driver.read(FindProcesses(ended=True))) == 1
        assert await driver.read(FindProcesses(ended=True, limit=0)) == ()


@every_driver
async def test_an_intent_is_counted_and_an_outcome_settles_it(name: str) -> None:
    async with opened(name) as driver:
        pid = await driver.new_pid()
        intent = Intend(key="0:0", kind="think", fingerprint="f", effect="idempotent")
        await put(driver, pid, intent)
        await put(driver, pid, intent)
        (open_entry,) = await driver.read(ReadLog(pid=pid))
        assert (open_entry.attempts, open_entry.settled) == (2, False)
        await put(driver, pid, Settle(key="0:0", kind="think", fingerprint="f", body='"é😀"'))
        (entry,) = await driver.read(ReadLog(pid=pid))
        assert (entry.attempts, entry.settled, entry.effect) == (2, True, "idempotent")
        assert entry.body == '"é😀"'


@every_driver
async def test_a_log_is_read_by_step(name: str) -> None:
    async with opened(name) as driver:
        pid = await driver.new_pid()
        for key in ("0:0", "1:0", "1:1.0.0", "10:0"):
            await put(driver, pid, Settle(key=key, kind="k", fingerprint="f", body="1"))
        assert [e.key for e in await driver.read(ReadLog(pid=pid, step=1))] == ["1:0", "1:1.0.0"]
        assert len(await driver.read(ReadLog(pid=pid))) == 4
        assert await driver.read(ReadLog(pid=Pid(pid + 1))) == ()


@every_driver
async def test_pages_keep_their_order_and_are_read_from_a_position(name: str) -> None:
    async with opened(name) as driver:
        pid = await driver.new_pid()
        pages = [Page(role="user", text=str(n), pinned=n == 1) for n in range(5)]
        for page in pages:
            await put(driver, pid, AddPage(page=page))
        assert list(await driver.read(ReadPages(pid=pid))) == pages
        assert list(await driver.read(ReadPages(pid=pid, start=4))) == pages[4:]


@every_driver
async def test_a_page_that_points_into_the_log_is_read_with_its_text(name: str) -> None:
    async with opened(name) as driver:
        pid = await driver.new_pid()
        outcome = Settle(key="0:3", kind="call:t", fingerprint="f", body='"sunny"')
        page = Page(role="tool", entry="0:3", tool_call_id="c")
        await put(driver, pid, outcome, AddPage(page=page))
        assert await driver.read(ReadPages(pid=pid)) == (replace(page, text='"sunny"'),)


@every_driver
async def test_letters_are_read_in_order_until_they_are_taken(name: str) -> None:
    async with opened(name) as driver:
        sender, pid = await driver.new_pid(), await driver.new_pid()
        bodies: tuple[JsonValue, ...] = ("a", {"b": [1]}, None)
        for body in bodies:
            await put(driver, sender, PostLetter(to=pid, body=body))
        await put(driver, Pid(0), PostLetter(to=pid, body="from outside"))
        letters = await driver.read(ReadLetters(pid=pid, limit=10))
        assert [letter.body for letter in letters] == ["a", {"b": [1]}, None, "from outside"]
        assert [letter.sender for letter in letters] == [sender, sender, sender, None]
        await put(driver, pid, TakeLetter(number=letters[0].number))
        (first,) = await driver.read(ReadLetters(pid=pid))
        assert first == letters[1]


@every_driver
async def test_an_owner_of_the_past_cannot_write(name: str) -> None:
    async with opened(name) as driver:
        pid = await driver.new_pid()
        await put(driver, pid, SaveProcess(record=record(pid, epoch=2)), epoch=2)
        with pytest.raises(Fenced):
            await put(driver, pid, AddPage(page=Page(role="user", text="stale")), epoch=1)
        assert await driver.read(ReadPages(pid=pid)) == ()


@every_driver
async def test_memories_are_found_by_tenant_tag_and_term(name: str) -> None:
    async with opened(name) as driver:
        pid = await driver.new_pid()

        def memory(text: str, *tags: str, tenant: str = "t") -> AddMemory:
            terms = tuple(text.split())
            return AddMemory(
                memory=Memory(tenant=tenant, pid=pid, text=text, tags=tags, terms=terms)
            )

        await put(driver, pid, memory("red fish", "x"), memory("red red bird", "x", "y"))
        await put(driver, pid, memory("blue fish"), memory("red fish", tenant="other"))

        async def find(*terms: str, tags: tuple[str, ...] = ()) -> list[str]:
            query = FindMemories(tenant="t", terms=terms, tags=tags)
            return [m.text for m in await driver.read(query)]

        assert await find("red", "fish") == ["red fish", "blue fish", "red red bird"]
        assert await find("red", tags=("y",)) == ["red red bird"]
        assert await find(tags=("x",)) == ["red red bird", "red fish"]
        assert await find("cheese") == []
