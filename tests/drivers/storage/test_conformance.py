"""One suite for every storage driver: what is written is what is read back."""

import itertools
import time
from dataclasses import replace
from typing import Any

import anyio
import pytest
from postgres import opened
from pydantic import JsonValue
from stored import EAST, born, put, record

from aoskernel.subsystems.storage.driver import (
    AddMemory,
    AddPage,
    AddProcess,
    AddVector,
    ClaimProcesses,
    Fenced,
    FindMemories,
    FindProcesses,
    FindSimilar,
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
    Settle,
    StorageDriver,
    TakeLetter,
)
from aoskernel.subsystems.storage.messages import Write

ODD = {
    "empty": "",
    "NUL": "a\0b",
    "lone surrogates": "\ud800 \udfff",
    "an emoji": "\U0001f600",
    "quotes and braces": "'\"\\{},%$1:pages\n\r\t",
    "a megabyte": "0123456789abcdef" * 65536,
}
NAMES = ("", "'\"\\", "{a,b}", "NULL", "null", "é😀", " x ", "[1]")
"""For what stands in columns of text."""


async def test_process_numbers_are_never_given_twice(driver: StorageDriver) -> None:
    async with opened(driver):
        numbers = [await driver.new_pid() for _ in range(100)]
    assert len(set(numbers)) == 100
    assert min(numbers) > 0


async def test_a_process_is_read_back_by_number_and_by_key(driver: StorageDriver) -> None:
    async with opened(driver):
        pid = await driver.new_pid()
        saved = record(
            pid, key="k", name="n", tags=("a", "b"), priority=7, state_json='{"x":"\\u0000"}'
        )
        await put(driver, pid, AddProcess(record=saved))
        assert await driver.read(ReadProcess(pid=pid)) == saved
        assert await driver.read(ReadProcess(key="k")) == saved
        assert await driver.read(ReadProcess(key="other")) is None
        assert await driver.read(ReadProcess(pid=Pid(10**9))) is None


async def test_a_commit_may_save_a_child_beside_its_parent(driver: StorageDriver) -> None:
    async with opened(driver):
        parent, child = await driver.new_pid(), await driver.new_pid()
        await put(driver, parent, AddProcess(record=record(parent)))
        await put(driver, parent, AddProcess(record=record(child, parent=parent)))
        found = await driver.read(FindProcesses(parent=parent))
        assert [r.pid for r in found] == [child]
        both = await driver.read(FindProcesses())
        assert [r.pid for r in both] == [parent, child]


async def test_the_ended_are_found_only_when_asked_for(driver: StorageDriver) -> None:
    async with opened(driver):
        pid = await driver.new_pid()
        await put(driver, pid, AddProcess(record=record(pid)))
        await put(driver, pid, SaveProcess(record=record(pid, state="exited", result="1")))
        assert await driver.read(FindProcesses()) == ()
        assert len(await driver.read(FindProcesses(ended=True))) == 1
        assert await driver.read(FindProcesses(ended=True, limit=0)) == ()


async def test_an_intent_is_counted_and_an_outcome_settles_it(driver: StorageDriver) -> None:
    async with opened(driver):
        pid = await born(driver)
        intent = Intend(key="0:0", kind="think", fingerprint="ab", effect="idempotent")
        await put(driver, pid, intent)
        await put(driver, pid, intent)
        (open_entry,) = await driver.read(ReadLog(pid=pid))
        assert (open_entry.attempts, open_entry.settled) == (2, False)
        await put(driver, pid, Settle(key="0:0", kind="think", fingerprint="ab", body='"é😀"'))
        (entry,) = await driver.read(ReadLog(pid=pid))
        assert (entry.attempts, entry.settled, entry.effect) == (2, True, "idempotent")
        assert entry.body == '"é😀"'


async def test_a_log_says_when_an_attempt_began_and_how_long_it_took(
    driver: StorageDriver,
) -> None:
    async with opened(driver):
        pid = await born(driver)
        intent = Intend(key="0:0", kind="think", fingerprint="ab", effect="idempotent")
        await put(driver, pid, intent)
        (first,) = await driver.read(ReadLog(pid=pid))
        await put(driver, pid, intent)
        (second,) = await driver.read(ReadLog(pid=pid))
        assert first.began_at == pytest.approx(time.time(), abs=60)
        assert (second.began_at or 0) > (first.began_at or 0)
        assert second.took_s is None
        outcome = Settle(key="0:0", kind="think", fingerprint="ab", body="1", took_s=1.5)
        unknown = Settle(key="0:1", kind="race", fingerprint="ab", body="1")
        await put(driver, pid, outcome, unknown)
        timed, untimed = await driver.read(ReadLog(pid=pid))
        assert (timed.began_at, timed.took_s) == (second.began_at, 1.5)
        assert (untimed.began_at, untimed.took_s) == (None, None)


async def test_a_log_is_read_by_step(driver: StorageDriver) -> None:
    async with opened(driver):
        pid = await born(driver)
        for key in ("0:0", "1:0", "1:1.0.0", "10:0"):
            await put(driver, pid, Settle(key=key, kind="k", fingerprint="ab", body="1"))
        assert [e.key for e in await driver.read(ReadLog(pid=pid, step=1))] == ["1:0", "1:1.0.0"]
        assert len(await driver.read(ReadLog(pid=pid))) == 4
        assert await driver.read(ReadLog(pid=Pid(pid + 1))) == ()


async def test_pages_keep_their_order_and_are_read_from_a_position(driver: StorageDriver) -> None:
    async with opened(driver):
        pid = await born(driver)
        pages = [Page(role="user", text=str(n), pinned=n == 1) for n in range(5)]
        for page in pages:
            await put(driver, pid, AddPage(page=page))
        found = await driver.read(ReadPages(pid=pid))
        assert [replace(page, number=0) for page in found] == pages
        assert await driver.read(ReadPages(pid=pid, after=found[3].number)) == found[4:]


async def test_a_page_that_points_into_the_log_is_read_with_its_text(driver: StorageDriver) -> None:
    async with opened(driver):
        pid = await born(driver)
        outcome = Settle(key="0:3", kind="call:t", fingerprint="ab", body='"sunny"')
        page = Page(role="tool", entry="0:3", tool_call_id="c")
        await put(driver, pid, outcome, AddPage(page=page))
        (found,) = await driver.read(ReadPages(pid=pid))
        assert found == replace(page, text='"sunny"', number=found.number)


async def test_letters_are_read_in_order_until_they_are_taken(driver: StorageDriver) -> None:
    async with opened(driver):
        sender, pid = await born(driver), await born(driver)
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


async def test_an_owner_of_the_past_cannot_write(driver: StorageDriver) -> None:
    async with opened(driver):
        pid = await driver.new_pid()
        await put(driver, pid, AddProcess(record=record(pid)))
        await put(driver, pid, SaveProcess(record=record(pid, state="parked")))
        (taken,) = await driver.claim(ClaimProcesses(pid=pid))
        with pytest.raises(Fenced):
            await put(driver, pid, AddPage(page=Page(role="user", text="stale")))
        await put(driver, pid, SaveProcess(record=taken), epoch=taken.epoch)
        assert await driver.read(ReadPages(pid=pid)) == ()


async def test_memories_are_found_by_tenant_tag_and_term(driver: StorageDriver) -> None:
    async with opened(driver):
        pid = await born(driver)

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


@pytest.mark.parametrize("what", sorted(ODD))
async def test_every_text_comes_back_as_it_was(driver: StorageDriver, what: str) -> None:
    text = ODD[what]
    async with opened(driver):
        pid = await born(driver)
        await put(
            driver,
            pid,
            SaveProcess(record=record(pid, state_json=text, error=text, result=text)),
            Settle(key="0:0", kind="k", fingerprint="ab", body=text),
            AddPage(page=Page(role="user", text=text)),
            AddPage(page=Page(role="tool", entry="0:0")),
            PostLetter(to=pid, body={"text": text, text: [text]}),
            AddMemory(memory=Memory(tenant="t", pid=pid, text=text, terms=(str(pid),))),
        )
        saved = await driver.read(ReadProcess(pid=pid))
        assert saved is not None
        assert (saved.state_json, saved.error, saved.result) == (text, text, text)
        assert [e.body for e in await driver.read(ReadLog(pid=pid))] == [text]
        assert [p.text for p in await driver.read(ReadPages(pid=pid))] == [text, text]
        (letter,) = await driver.read(ReadLetters(pid=pid))
        assert letter.body == {"text": text, text: [text]}
        (memory,) = await driver.read(FindMemories(tenant="t", terms=(str(pid),)))
        assert (memory.text, memory.pid) == (text, pid)


async def test_names_and_tags_may_hold_any_sign(driver: StorageDriver) -> None:
    async with opened(driver):
        for name in NAMES:
            pid = await driver.new_pid()
            named = record(
                pid, key=name, name=name, role=name, tags=(name, "other"), tenant=name, user=name
            )
            await put(driver, pid, AddProcess(record=named))
            assert await driver.read(ReadProcess(key=name)) == named
            assert await driver.read(FindProcesses(tag=name, name=name, role=name)) == (named,)
            told = Memory(tenant=name, pid=pid, text="x", tags=(name,), terms=(name,))
            await put(driver, pid, AddMemory(memory=told))
            (found,) = await driver.read(FindMemories(tenant=name, tags=(name,), terms=(name,)))
            assert replace(found, number=0) == told


async def test_every_field_of_a_process_is_read_back(driver: StorageDriver) -> None:
    async with opened(driver):
        pid = await driver.new_pid()
        whose = {"parent": Pid(7), "tenant": "acme", "user": "u-1"}
        first = record(pid, process_class="batch", priority=0, **whose)
        await put(driver, pid, AddProcess(record=first))
        last = replace(
            first, state="failed", step=3, state_json="[3]", error="no", error_kind="ToolFailed"
        )
        await put(driver, pid, SaveProcess(record=last))
        assert await driver.read(ReadProcess(pid=pid)) == last


async def test_a_failed_outcome_and_every_effect_are_read_back(driver: StorageDriver) -> None:
    async with opened(driver):
        pid = await born(driver)
        for place, effect in enumerate(("none", "idempotent", "once")):
            key, kind = f"7:{place}.1", "call:x"
            given: dict[str, Any] = {"key": key, "kind": kind, "fingerprint": "00ff"}
            await put(driver, pid, Intend(effect=effect, **given))  # type: ignore[arg-type]
            await put(driver, pid, Settle(failed=True, body="{}", **given))
            (entry,) = (e for e in await driver.read(ReadLog(pid=pid, step=7)) if e.key == key)
            assert (entry.kind, entry.fingerprint, entry.effect) == (kind, "00ff", effect)
            assert (entry.failed, entry.settled, entry.attempts) == (True, True, 1)


async def test_the_log_is_in_the_order_of_the_first_intents(driver: StorageDriver) -> None:
    async with opened(driver):
        pid = await born(driver)

        def intent(key: str) -> Intend:
            return Intend(key=key, kind="k", fingerprint="ab", effect="once")

        def outcome(key: str) -> Settle:
            return Settle(key=key, kind="k", fingerprint="ab", body="1")

        await put(driver, pid, intent("0:9"), intent("0:2"), intent("0:5"))
        await put(driver, pid, outcome("0:1"), outcome("0:5"))
        await put(driver, pid, intent("0:9"))
        found = [e.key for e in await driver.read(ReadLog(pid=pid))]
        assert found == ["0:9", "0:2", "0:5", "0:1"]


async def test_letters_and_memories_of_one_commit_keep_their_order(driver: StorageDriver) -> None:
    async with opened(driver):
        pid = await born(driver)
        texts = [f"{n * 7919 % 1000}" for n in range(50)]
        letters = (PostLetter(to=pid, body=text) for text in texts)
        memories = (AddMemory(memory=Memory(tenant="t", pid=pid, text=text)) for text in texts)
        mixed = itertools.chain.from_iterable(zip(letters, memories, strict=True))
        await put(driver, pid, *mixed)
        found = await driver.read(ReadLetters(pid=pid, limit=100))
        assert [letter.body for letter in found] == texts
        remembered = await driver.read(FindMemories(tenant="t", limit=100))
        assert [memory.text for memory in reversed(remembered)] == texts


async def test_pages_of_one_commit_keep_their_order(driver: StorageDriver) -> None:
    async with opened(driver):
        pid = await born(driver)
        pages = [AddPage(page=Page(role="user", text=str(n))) for n in range(20)]
        await put(driver, pid, *pages[:10])
        await put(driver, pid, *pages[10:])
        found = await driver.read(ReadPages(pid=pid))
        assert [page.text for page in found] == [str(n) for n in range(20)]
        assert await driver.read(ReadPages(pid=pid, after=found[11].number)) == found[12:]
        assert await driver.read(ReadPages(pid=pid, after=found[-1].number)) == ()


async def test_two_commits_of_a_process_in_flight_keep_their_order(driver: StorageDriver) -> None:
    async with opened(driver):
        pid = await driver.new_pid()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(put, driver, pid, AddProcess(record=record(pid)))
            for n in range(30):
                saved = SaveProcess(record=record(pid, state_json=str(n), step=n))
                tasks.start_soon(put, driver, pid, saved, PostLetter(to=pid, body=n))
        last = await driver.read(ReadProcess(pid=pid))
        assert last is not None
        assert (last.step, last.state_json) == (29, "29")
        letters = await driver.read(ReadLetters(pid=pid, limit=100))
        assert [letter.body for letter in letters] == list(range(30))


async def test_a_child_may_be_born_before_its_parents_birth_is_known(
    driver: StorageDriver,
) -> None:
    async with opened(driver):
        parent, child = await driver.new_pid(), await driver.new_pid()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(put, driver, parent, AddProcess(record=record(parent)))
            tasks.start_soon(put, driver, parent, AddProcess(record=record(child)))
            tasks.start_soon(put, driver, child, AddPage(page=Page(role="user", text="hello")))
        assert len(await driver.read(FindProcesses())) == 2
        assert [page.text for page in await driver.read(ReadPages(pid=child))] == ["hello"]


async def test_a_second_process_with_a_key_is_refused(driver: StorageDriver) -> None:
    async with opened(driver):
        first, second = await driver.new_pid(), await driver.new_pid()
        kept = record(first, key="invoice-42")
        await put(driver, first, AddProcess(record=kept))
        with pytest.raises(KeyTaken):
            await put(
                driver,
                second,
                AddProcess(record=record(second, key="invoice-42")),
                PostLetter(to=first, body="never"),
            )
        assert await driver.read(ReadProcess(key="invoice-42")) == kept
        assert await driver.read(ReadProcess(pid=second)) is None
        assert await driver.read(ReadLetters(pid=first)) == ()


async def test_of_a_child_whose_key_is_taken_the_parents_other_writes_are_not_written(
    driver: StorageDriver,
) -> None:
    async with opened(driver):
        parent, child = await driver.new_pid(), await driver.new_pid()
        await put(driver, parent, AddProcess(record=record(parent, key="k")))
        outcome = Settle(key="0:0", kind="spawn", fingerprint="ab", body="1")
        with pytest.raises(KeyTaken):
            await put(driver, parent, AddProcess(record=record(child, key="k")), outcome)
        assert await driver.read(ReadLog(pid=parent)) == ()
        await put(driver, parent, outcome)
        assert len(await driver.read(ReadLog(pid=parent))) == 1


def everything(pid: Pid, child: Pid, to: Pid, memory: int) -> tuple[Write, ...]:
    """One of each kind of write, of a process that may not write."""
    return (
        AddProcess(record=record(child, name="stale")),
        SaveProcess(record=record(pid, state_json='"stale"')),
        Intend(key="9:0", kind="k", fingerprint="ab", effect="once"),
        Settle(key="9:1", kind="k", fingerprint="ab", body="1"),
        AddPage(page=Page(role="user", text="stale")),
        PostLetter(to=to, body="stale"),
        AddMemory(memory=Memory(tenant="t", pid=pid, text="stale")),
        AddVector(memory=memory, embedder="stale", vector=EAST),
    )


async def test_of_a_fenced_commit_nothing_is_written(driver: StorageDriver) -> None:
    async with opened(driver):
        pid, to, child = await born(driver), await born(driver), await driver.new_pid()
        await put(driver, pid, PostLetter(to=pid, body="kept"))
        await put(driver, pid, AddMemory(memory=Memory(tenant="t", pid=pid, text="kept")))
        (memory,) = await driver.read(FindMemories(tenant="t"))
        (letter,) = await driver.read(ReadLetters(pid=pid))
        await put(driver, pid, SaveProcess(record=record(pid, state="parked")))
        (taken,) = await driver.claim(ClaimProcesses(pid=pid))
        taking = TakeLetter(number=letter.number)
        with pytest.raises(Fenced):
            await put(driver, pid, *everything(pid, child, to, memory.number), taking)
        assert await driver.read(ReadProcess(pid=pid)) == taken
        assert await driver.read(ReadProcess(pid=child)) is None
        assert await driver.read(ReadLog(pid=pid)) == ()
        assert await driver.read(ReadPages(pid=pid)) == ()
        assert await driver.read(ReadLetters(pid=to)) == ()
        assert await driver.read(ReadLetters(pid=pid)) == (letter,)
        assert await driver.read(FindMemories(tenant="t")) == (memory,)
        similar = FindSimilar(tenant="t", embedder="stale", vector=EAST)
        assert await driver.read(similar) == ()


async def test_an_epoch_that_has_not_begun_cannot_write(driver: StorageDriver) -> None:
    async with opened(driver):
        pid = await born(driver)
        with pytest.raises(Fenced):
            await put(driver, pid, AddPage(page=Page(role="user", text="early")), epoch=1)
        assert await driver.read(ReadPages(pid=pid)) == ()


async def test_a_process_in_two_epochs_at_once_is_fenced_in_the_former_alone(
    driver: StorageDriver,
) -> None:
    async with opened(driver):
        pid = await born(driver)
        await put(driver, pid, SaveProcess(record=record(pid, state="parked")))
        (taken,) = await driver.claim(ClaimProcesses(pid=pid))
        fenced = list[int]()

        async def add(n: int) -> None:
            try:
                page = AddPage(page=Page(role="user", text=str(n)))
                await put(driver, pid, page, epoch=taken.epoch if n % 2 else 0)
            except Fenced:
                fenced.append(n)

        async with anyio.create_task_group() as tasks:
            for n in range(6):
                tasks.start_soon(add, n)
        assert sorted(fenced) == [0, 2, 4]
        assert [p.text for p in await driver.read(ReadPages(pid=pid))] == ["1", "3", "5"]
