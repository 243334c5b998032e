"""What is over is forgotten, whole; what lives, and what it needs, is kept. On every driver."""

from collections.abc import Iterable
from dataclasses import replace
from typing import Any, NamedTuple
from uuid import uuid4

import anyio
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from postgres import Make, opened
from stored import born, put, record

from aoskernel.drivers.storage.memory import MemoryStorage
from aoskernel.subsystems.storage.driver import (
    ENDED,
    AddMemory,
    AddPage,
    AddProcess,
    Charge,
    ClaimProcesses,
    Expired,
    Expiry,
    FindExpired,
    FindMemories,
    FindProcesses,
    ForgetExpired,
    Forgetful,
    Intend,
    KeyTaken,
    Memory,
    Page,
    Pid,
    PostCommand,
    PostLetter,
    PutAccount,
    PutQuestion,
    ReadAccounts,
    ReadCommands,
    ReadLetters,
    ReadLog,
    ReadPages,
    ReadProcess,
    ReadQuestions,
    ReadSpent,
    Reserve,
    SaveProcess,
    Settle,
    Spend,
    Spent,
    State,
    StorageDriver,
)

NOW = Expiry(after_s=0)
HOUR = Expiry(after_s=3600)


async def process(driver: StorageDriver, state: State = "exited", **more: Any) -> Pid:
    """One that was born and has come into this state."""
    pid = await driver.new_pid()
    first = record(pid, **more)
    await put(driver, pid, AddProcess(record=replace(first, waits_for=())))
    if state != "running":
        await put(driver, pid, SaveProcess(record=replace(first, state=state, result="1")))
    return pid


async def end(driver: StorageDriver, pid: Pid) -> None:
    """By its owner, who takes it over where it has none."""
    known = await driver.read(ReadProcess(pid=pid))
    assert known is not None
    if known.state != "running":
        (known,) = await driver.claim(ClaimProcesses(pid=pid, states=(known.state,)))
    await put(driver, pid, SaveProcess(record=replace(known, state="exited")), epoch=known.epoch)


async def forget(driver: StorageDriver, expiry: Expiry = NOW, limit: int = 100) -> list[Pid]:
    """The dry run says what is done, and what is done stays done."""
    assert isinstance(driver, Forgetful)
    announced = await driver.read(FindExpired(expiry=expiry, limit=limit))
    gone = await driver.forget(ForgetExpired(expiry=expiry, limit=limit))
    assert set(map(str, gone)) == set(map(str, announced))
    return [one.pid for one in gone]


async def test_of_a_process_that_is_over_nothing_stays_but_what_it_remembered(
    driver: StorageDriver,
) -> None:
    async with opened(driver):
        pid, other = await process(driver, "running"), await process(driver, "running")
        for one in (pid, other):
            await put(
                driver,
                one,
                Intend(key="0:0", kind="call", fingerprint="ab", effect="once"),
                Settle(key="0:0", kind="call", fingerprint="ab", body='"x"' * 3000),
                AddPage(page=Page(role="tool", entry="0:0")),
                PostLetter(to=one, body="hello"),
                PostCommand(to=one, signal="TERM"),
                PutQuestion(key="0:1", text="why?"),
                AddMemory(memory=Memory(tenant="t", pid=one, text="kept", terms=(str(one),))),
            )
        (question,) = await driver.read(ReadQuestions(pid=pid, key="0:1"))
        await end(driver, pid)

        assert await forget(driver) == [pid]

        assert await driver.read(ReadProcess(pid=pid)) is None
        assert [one.pid for one in await driver.read(FindProcesses(ended=True))] == [other]
        assert await driver.read(ReadQuestions(number=question.number)) == ()
        for query in (ReadLog, ReadPages, ReadLetters, ReadCommands):
            assert await driver.read(query(pid=pid)) == ()
            assert len(await driver.read(query(pid=other))) == 1
        assert len(await driver.read(ReadQuestions(pid=other, key="0:1"))) == 1
        (memory,) = await driver.read(FindMemories(tenant="t", terms=(str(pid),)))
        assert (memory.text, memory.pid) == ("kept", pid)
        assert await forget(driver) == []


@pytest.mark.parametrize("state", ["running", "parked", "stopped"])
async def test_what_has_not_ended_is_never_forgotten(driver: StorageDriver, state: State) -> None:
    async with opened(driver):
        await process(driver, state)
        everything = NOW.model_copy(update={"states": ("running", "parked", "stopped", "exited")})
        assert await forget(driver, everything) == []


async def test_a_child_is_kept_while_its_parent_lives(driver: StorageDriver) -> None:
    async with opened(driver):
        parent = await process(driver, "parked")
        child = await process(driver, parent=parent)
        assert await forget(driver) == []
        await end(driver, parent)
        assert sorted(await forget(driver)) == [parent, child]


async def test_a_process_is_kept_while_a_living_one_waits_for_it(driver: StorageDriver) -> None:
    async with opened(driver):
        awaited = await process(driver)
        waiter = await process(driver, "parked", waits_in=("wait",), waits_for=(awaited,))
        assert await forget(driver) == []
        await end(driver, waiter)
        assert sorted(await forget(driver)) == [awaited, waiter]


async def test_a_process_is_kept_while_descendants_of_it_live(driver: StorageDriver) -> None:
    async with opened(driver):
        above = await process(driver)
        between = await process(driver, parent=above)
        below = await process(driver, "stopped", parent=between)
        assert await forget(driver) == []
        await end(driver, below)
        assert sorted(await forget(driver)) == [above, between, below]


async def test_a_key_stays_taken_and_its_record_can_be_read(driver: StorageDriver) -> None:
    async with opened(driver):
        pid = await process(driver, "running", key="invoice-42", state_json='{"a": 1}')
        await put(driver, pid, AddPage(page=Page(role="user", text="pay it")))
        await end(driver, pid)
        before = await driver.read(ReadProcess(pid=pid))
        assert before is not None

        assert await forget(driver) == [pid]

        kept = replace(before, bare=True, state_json="null")
        assert await driver.read(ReadProcess(key="invoice-42")) == kept
        assert await driver.read(ReadProcess(pid=pid)) == kept
        assert await driver.read(ReadPages(pid=pid)) == ()
        second = await driver.new_pid()
        with pytest.raises(KeyTaken):
            await put(driver, second, AddProcess(record=record(second, key="invoice-42")))
        assert await forget(driver) == []


async def test_a_key_is_free_again_when_that_was_asked_for(driver: StorageDriver) -> None:
    async with opened(driver):
        pid = await process(driver, key="k")
        assert await forget(driver) == [pid]
        later = NOW.model_copy(update={"keys_after_s": 3600})
        assert await forget(driver, later) == []
        (gone,) = await driver.read(FindExpired(expiry=NOW.model_copy(update={"keys_after_s": 0})))
        assert (gone.pid, gone.key, gone.whole) == (pid, "k", True)
        assert await forget(driver, NOW.model_copy(update={"keys_after_s": 0})) == [pid]
        assert await driver.read(ReadProcess(key="k")) is None
        await process(driver, key="k")


async def test_only_what_is_old_enough_and_meant_is_forgotten(driver: StorageDriver) -> None:
    async with opened(driver):
        ours = await process(driver, tenant="ours")
        failed = await process(driver, "failed", tenant="theirs")
        killed = await process(driver, "killed", tenant="theirs")
        for expiry in (
            HOUR,
            Expiry(after_s=0, tenant="nobody"),
            Expiry(after_s=0, but_tenants=("ours", "theirs")),
            Expiry(after_s=0, states=("exited",), tenant="theirs"),
        ):
            assert await forget(driver, expiry) == []
        assert await forget(driver, Expiry(after_s=0, states=("failed",))) == [failed]
        assert await forget(driver, Expiry(after_s=0, but_tenants=("ours",))) == [killed]
        assert await forget(driver, Expiry(after_s=0, tenant="ours")) == [ours]


async def test_the_longest_ended_go_first_and_no_more_than_the_limit(driver: StorageDriver) -> None:
    async with opened(driver):
        first, last = await process(driver, "running"), await process(driver, "running")
        await end(driver, last)
        await end(driver, first)
        assert await forget(driver, limit=1) == [last]
        assert await forget(driver, limit=1) == [first]


async def test_other_namespaces_are_left_alone(make: Make) -> None:
    ours, other = make(), make(namespace="of somebody else")
    async with opened(ours), opened(other):
        await process(other)
        pid = await process(ours)
        assert await forget(ours) == [pid]


async def test_several_kernels_that_forget_at_once_share_the_work(make: Make) -> None:
    drivers: list[Any] = [make() for _ in range(3)]
    async with opened(drivers[0]), opened(drivers[1]), opened(drivers[2]):
        pids = [await process(drivers[0]) for _ in range(30)]
        gone: list[Expired] = []

        async def work(driver: Forgetful) -> None:
            while found := await driver.forget(ForgetExpired(expiry=NOW, limit=2)):
                gone.extend(found)

        async with anyio.create_task_group() as tasks:
            for driver in drivers:
                tasks.start_soon(work, driver)
        assert sorted(one.pid for one in gone) == pids


async def test_commits_go_on_beside_it(make: Make) -> None:
    driver: Any = make()
    async with opened(driver):
        pid = await born(driver)
        for _ in range(20):
            await process(driver)

        async def work() -> None:
            for n in range(20):
                await put(driver, pid, AddPage(page=Page(role="user", text=str(n))))

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(work)
            while await driver.forget(ForgetExpired(expiry=NOW, limit=3)):
                pass
        pages = await driver.read(ReadPages(pid=pid))
        assert [page.text for page in pages] == [str(n) for n in range(20)]


async def test_what_was_reserved_is_settled_first_and_what_was_spent_stays(
    driver: StorageDriver,
) -> None:
    async with opened(driver):
        pid = await process(driver, "running")
        own = f"process:{pid}"
        given: dict[str, Any] = {"what": "tokens", "ceiling": 100}
        charges = tuple(Charge(scope=s, what="tokens", amount=7) for s in ("all", own))
        spent = Spent(currency="EUR", prompt=3, money=1, calls=1)
        first = {"tenant": "t", "model": "m", "day": "2026-11-27", "charges": charges}
        await put(driver, Pid(0), PutAccount(scope="all", **given), PutAccount(scope=own, **given))
        await put(driver, pid, Reserve(ticket=1, charges=charges))
        await put(driver, pid, Spend(ticket=1, spent=spent, **first))
        await put(driver, pid, Reserve(ticket=2, charges=charges[:1]))
        child = await process(driver, "running", parent=pid)
        await put(driver, child, Reserve(ticket=3, charges=charges))
        await end(driver, child)
        await end(driver, pid)

        assert await forget(driver) == []
        await driver.claim(ClaimProcesses())
        assert sorted(await forget(driver)) == [pid, child]

        (account,) = await driver.read(ReadAccounts(ended=True))
        assert (account.scope, account.used, account.reserved) == ("all", 21, 0)
        assert await driver.read(ReadSpent(by="agent")) == ((str(pid), spent),)


# Any family


class Member(NamedTuple):
    """Parent and awaited are places in the family, of those before it; -1 for none."""

    parent: int
    awaited: int
    state: State


STATES: list[State] = ["running", "parked", "stopped", "exited", "failed", "killed"]
FAMILIES = st.lists(
    st.builds(
        Member,
        st.integers(-1, 6),
        st.integers(-1, 6),
        st.sampled_from([*STATES, "exited", "exited"]),
    ),
    min_size=1,
    max_size=8,
)


def kept(family: list[Member]) -> set[int]:
    """By the words of the rule, one after another."""

    def above(place: int) -> Iterable[int]:
        parent = family[place].parent
        return () if not 0 <= parent < place else (parent, *above(parent))

    living = {n for n, one in enumerate(family) if one.state not in ENDED}
    children = {n for n, one in enumerate(family) if 0 <= one.parent < n and one.parent in living}
    awaited = {family[n].awaited for n in living if 0 <= family[n].awaited < n}
    ancestors = {up for n in living for up in above(n)}
    return living | children | awaited | ancestors


async def left_of(driver: StorageDriver, family: list[Member]) -> set[int]:
    pids: list[Pid] = []
    for place, (parent, awaited, state) in enumerate(family):
        mother = pids[parent] if 0 <= parent < place else None
        whom = (pids[awaited],) if 0 <= awaited < place and state not in ENDED else ()
        pids.append(await process(driver, state, parent=mother, waits_for=whom))
    for _ in range(3):
        await forget(driver)
    found = await driver.read(FindProcesses(ended=True))
    return {pids.index(one.pid) for one in found}


def in_state(family: list[Member]) -> list[Member]:
    """A running one is not recorded as waiting."""
    return [m if m.state != "running" else m._replace(awaited=-1) for m in family]


@given(family=FAMILIES)
def test_of_any_family_the_living_and_what_they_need_stay(family: list[Member]) -> None:
    family = in_state(family)
    assert anyio.run(left_of, MemoryStorage(), family) == kept(family)


@settings(
    max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(family=FAMILIES)
def test_the_database_keeps_the_same(make: Make, family: list[Member]) -> None:
    family = in_state(family)

    async def main() -> set[int]:
        driver = make(namespace=uuid4().hex)
        async with opened(driver):
            return await left_of(driver, family)

    assert anyio.run(main) == kept(family)
