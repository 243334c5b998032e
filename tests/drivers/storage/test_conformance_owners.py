"""One suite for every storage driver: who owns a process, and who may take it over."""

from dataclasses import replace
from typing import Any

import anyio
import pytest
from postgres import Make, opened, running
from stored import born, put, record

from aoskernel.drivers.storage._postgres_sql import SEALING, sql
from aoskernel.subsystems.storage.driver import (
    AddMemory,
    AddPage,
    AddProcess,
    ClaimProcesses,
    Fenced,
    FindMemories,
    Memory,
    Page,
    Pid,
    ReadPages,
    ReadProcess,
    SaveProcess,
    StorageDriver,
)


def connections_of(driver: Any) -> Any:
    running = driver._running() if hasattr(driver, "_running") else driver._database
    return running._connections


async def parked(driver: StorageDriver, **more: Any) -> Pid:
    pid = await driver.new_pid()
    await put(driver, pid, AddProcess(record=record(pid, **more)))
    await put(driver, pid, SaveProcess(record=record(pid, **{**more, "state": "parked"})))
    return pid


async def test_a_parked_process_is_claimed_once_in_a_new_epoch(driver: StorageDriver) -> None:
    async with opened(driver):
        pid = await parked(driver)
        (taken,) = await driver.claim(ClaimProcesses())
        assert (taken.pid, taken.epoch, taken.state) == (pid, 1, "running")
        assert await driver.claim(ClaimProcesses()) == ()
        assert await driver.read(ReadProcess(pid=pid)) == taken


async def test_each_claim_begins_another_epoch(driver: StorageDriver) -> None:
    async with opened(driver):
        pid = await parked(driver)
        for epoch in (1, 2, 3):
            (taken,) = await driver.claim(ClaimProcesses(pid=pid))
            assert taken.epoch == epoch
            await put(driver, pid, SaveProcess(record=replace(taken, state="parked")), epoch=epoch)


async def test_a_running_process_of_a_living_kernel_cannot_be_claimed(
    driver: StorageDriver,
) -> None:
    async with opened(driver):
        pid = await born(driver)
        assert await driver.claim(ClaimProcesses()) == ()
        assert await driver.claim(ClaimProcesses(pid=pid)) == ()


async def test_the_ended_and_the_stopped_are_not_claimed(driver: StorageDriver) -> None:
    async with opened(driver):
        for state in ("exited", "failed", "killed", "stopped"):
            pid = await born(driver)
            await put(driver, pid, SaveProcess(record=record(pid, state=state)))
        assert await driver.claim(ClaimProcesses()) == ()
        (stopped,) = await driver.claim(ClaimProcesses(states=("stopped",)))
        assert stopped.state == "running"


async def test_a_claim_is_for_states_programs_and_a_number_of_them(driver: StorageDriver) -> None:
    async with opened(driver):
        a, b = await parked(driver, program="a"), await parked(driver, program="b")
        newer = await parked(driver, program="b", version="2")
        assert await driver.claim(ClaimProcesses(states=("running",))) == ()
        assert await driver.claim(ClaimProcesses(programs=(("c", "1"),))) == ()
        assert await driver.claim(ClaimProcesses(programs=())) == ()
        (found,) = await driver.claim(ClaimProcesses(programs=(("b", "2"), ("c", "1"))))
        assert found.pid == newer
        (first,) = await driver.claim(ClaimProcesses(limit=1))
        assert first.pid == a
        (last,) = await driver.claim(ClaimProcesses(pid=b))
        assert last.pid == b


async def test_a_process_that_ends_up_with_nobody_is_claimed_while_running(make: Make) -> None:
    first, second = make(), make()
    async with opened(second):
        async with opened(first):
            pid = await born(first)
            assert await second.claim(ClaimProcesses()) == ()
        (taken,) = await second.claim(ClaimProcesses(states=("running",)))
        assert (taken.pid, taken.epoch) == (pid, 1)


async def test_kernels_that_claim_at_once_get_different_processes(make: Make) -> None:
    first, second = make(), make()
    claimed = list[Pid]()
    async with opened(first), opened(second):
        pids = [await parked(first) for _ in range(60)]

        async def claim(driver: StorageDriver) -> None:
            while some := await driver.claim(ClaimProcesses(limit=2)):
                claimed.extend(taken.pid for taken in some)

        async with anyio.create_task_group() as tasks:
            for driver in (first, second) * 4:
                tasks.start_soon(claim, driver)
        assert sorted(claimed) == sorted(pids)


async def test_who_has_left_a_process_writes_nothing_more_for_it(driver: StorageDriver) -> None:
    """Nobody has claimed it, so its epoch is still the same."""
    async with opened(driver):
        for state in ("parked", "stopped", "exited"):
            pid = await born(driver)
            await put(driver, pid, SaveProcess(record=record(pid, state=state)))
            late = AddPage(page=Page(role="user", text="late")), SaveProcess(record=record(pid))
            for write in late:
                with pytest.raises(Fenced):
                    await put(driver, pid, write)
            found = await driver.read(ReadProcess(pid=pid))
            assert found is not None
            assert (found.state, await driver.read(ReadPages(pid=pid))) == (state, ())


async def test_what_is_said_right_behind_the_leaving_is_not_written(driver: StorageDriver) -> None:
    """Both wait for the same statement."""
    async with opened(driver):
        pid = await born(driver)
        fenced = list[int]()

        async def leave() -> None:
            await put(driver, pid, SaveProcess(record=record(pid, state="parked")))

        async def write(number: int) -> None:
            try:
                await put(driver, pid, AddPage(page=Page(role="user", text=str(number))))
            except Fenced:
                fenced.append(number)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(write, 1)
            tasks.start_soon(leave)
            tasks.start_soon(write, 2)
        pages = [page.text for page in await driver.read(ReadPages(pid=pid))]
        assert (pages, fenced) == (["1"], [2])


async def test_a_kernel_that_knows_the_epoch_of_a_process_does_not_own_it(make: Make) -> None:
    owner, other = make(), make()
    async with opened(owner), opened(other):
        pid = await born(owner)
        child = record(await other.new_pid())
        for write in (
            AddPage(page=Page(role="user", text="not mine")),
            SaveProcess(record=record(pid)),
            SaveProcess(record=record(pid, state="parked")),
            AddProcess(record=child),
        ):
            with pytest.raises(Fenced):
                await put(other, pid, write)
        await put(owner, pid, AddPage(page=Page(role="user", text="mine")))
        assert [page.text for page in await other.read(ReadPages(pid=pid))] == ["mine"]
        assert await other.read(ReadProcess(pid=child.pid)) is None


async def test_who_was_never_born_writes_nothing(driver: StorageDriver) -> None:
    async with opened(driver):
        with pytest.raises(Fenced):
            pid = await driver.new_pid()
            await put(driver, pid, AddPage(page=Page(role="user", text="a ghost")))


async def test_a_kernel_whose_lease_has_run_out_loses_its_processes(make: Make) -> None:
    frozen, other = make(lease_s=0.2), make()
    with anyio.fail_after(30):
        await frozen.start()
        async with opened(other):
            async with running(frozen):
                pid = await born(frozen)
                await put(frozen, pid, AddPage(page=Page(role="user", text="before")))
            while not (claimed := await other.claim(ClaimProcesses())):
                await anyio.sleep(0.02)
            assert [(taken.pid, taken.epoch) for taken in claimed] == [(pid, 1)]
            async with running(frozen):
                with pytest.raises(Fenced):
                    await put(frozen, pid, AddPage(page=Page(role="user", text="after")))
            assert len(await other.read(ReadPages(pid=pid))) == 1
        await frozen.stop()


async def test_a_kernel_that_is_frozen_in_a_transaction_keeps_nobody_from_a_claim(
    make: Make,
) -> None:
    """Stopped while it seals, or claims itself: who takes over waits for locks of these."""
    frozen, other = make(lease_s=0.3), make()
    stopped, thawed, locks = anyio.Event(), anyio.Event(), 0

    async def freeze(connection: Any) -> None:
        nonlocal locks
        async with connection.transaction():
            locks += await connection.fetchval(sql("lock_seals"), SEALING)
            stopped.set()
            await thawed.wait()
            await connection.fetch("select 1")

    async with opened(frozen), opened(other), anyio.create_task_group() as tasks:
        pid = await parked(other)
        tasks.start_soon(connections_of(frozen).use, freeze)
        await stopped.wait()
        with anyio.fail_after(20):
            assert [taken.pid for taken in await other.claim(ClaimProcesses())] == [pid]
        thawed.set()
    assert locks == 2, "what it lost it does anew"


async def test_a_kernel_that_thaws_before_anybody_claims_goes_on(make: Make) -> None:
    frozen, other = make(lease_s=0.2), make()
    with anyio.fail_after(30):
        await frozen.start()
        async with opened(other):
            async with running(frozen):
                pid = await born(frozen)
            await anyio.sleep(0.3)  # past the lease
            async with running(frozen):
                await put(frozen, pid, AddPage(page=Page(role="user", text="after")))
                await anyio.sleep(0.2)  # past a renewal
                assert await other.claim(ClaimProcesses()) == ()
        await frozen.stop()


async def test_a_kernel_whose_lease_has_run_out_does_not_claim_from_itself(make: Make) -> None:
    late = make(lease_s=0.2)
    with anyio.fail_after(30):
        await late.start()
        async with running(late):
            pid = await born(late)
        await anyio.sleep(0.3)  # past the lease
        assert await late.claim(ClaimProcesses()) == ()
        async with running(late):
            await put(late, pid, AddPage(page=Page(role="user", text="still")))
        await late.stop()


async def test_a_process_goes_on_with_another_kernel_where_it_was(make: Make) -> None:
    first, second = make(), make()
    async with opened(second):
        async with opened(first):
            pid = await born(first)
            for n in range(3):
                await put(first, pid, AddPage(page=Page(role="user", text=str(n))))
        (taken,) = await second.claim(ClaimProcesses())
        for n in range(3, 6):
            page = AddPage(page=Page(role="user", text=str(n)))
            await put(second, pid, page, epoch=taken.epoch)
        pages = await second.read(ReadPages(pid=pid))
        assert [page.text for page in pages] == [str(n) for n in range(6)]


async def test_kernels_of_two_namespaces_see_nothing_of_each_other(make: Make) -> None:
    ours, theirs = make(), make(namespace="other")
    async with opened(ours), opened(theirs):
        pid = await ours.new_pid()
        await put(ours, pid, AddProcess(record=record(pid, key="theirs too")))
        await put(ours, pid, AddMemory(memory=Memory(tenant="t", pid=pid, text="ours")))
        await put(ours, pid, SaveProcess(record=record(pid, state="parked")))
        assert await theirs.claim(ClaimProcesses(pid=pid)) == ()
        assert await theirs.read(ReadProcess(key="theirs too")) is None
        assert await theirs.read(FindMemories(tenant="t")) == ()
