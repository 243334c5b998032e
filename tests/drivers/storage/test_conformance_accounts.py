"""Accounts on every storage driver: what is reserved fits, and what is spent is counted once."""

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import anyio
import pytest
from postgres import Make, opened
from stored import born, put, record

from aoskernel.subsystems.storage.driver import (
    Account,
    AddProcess,
    Charge,
    ClaimProcesses,
    Fenced,
    Intend,
    Overdrawn,
    Pid,
    PutAccount,
    RaiseCeiling,
    ReadAccounts,
    ReadLog,
    ReadProcess,
    ReadSpent,
    Reserve,
    SaveProcess,
    Spend,
    Spent,
    StorageDriver,
)
from aoskernel.subsystems.storage.messages import SpentBy

OUTSIDE = Pid(0)


def bounded(ceiling: int | None, scope: str = "all", what: str = "tokens") -> PutAccount:
    return PutAccount(scope=scope, what=what, ceiling=ceiling)


def held(ticket: int, amount: int, *scopes: str) -> Reserve:
    return Reserve(ticket=ticket, charges=charges(amount, *scopes))


def charges(amount: int, *scopes: str) -> tuple[Charge, ...]:
    return tuple(Charge(scope=s, what="tokens", amount=amount) for s in scopes or ("all",))


def used(ticket: int, amount: int, *scopes: str, **more: Any) -> Spend:
    given = {"tenant": "acme", "model": "m", "day": "2026-11-27", **more}
    spent = given.pop("spent", Spent(currency="EUR", prompt=amount, money=amount * 10, calls=1))
    return Spend(ticket=ticket, charges=charges(amount, *scopes), spent=spent, **given)


async def accounts(driver: StorageDriver) -> dict[str, Account]:
    return {account.scope: account for account in await driver.read(ReadAccounts())}


async def test_a_reservation_is_kept_until_it_is_spent(driver: StorageDriver) -> None:
    async with opened(driver):
        pid = await born(driver)
        await put(driver, OUTSIDE, bounded(100))
        await put(driver, pid, held(1, 70))
        (account,) = await driver.read(ReadAccounts())
        assert account == Account(scope="all", what="tokens", ceiling=100, reserved=70)
        await put(driver, pid, used(1, 30))
        (account,) = await driver.read(ReadAccounts())
        assert account == Account(scope="all", what="tokens", ceiling=100, used=30)


async def test_what_does_not_fit_one_account_is_not_written_at_all(driver: StorageDriver) -> None:
    intent = Intend(key="0:0", kind="think", fingerprint="00" * 12, effect="idempotent")
    async with opened(driver):
        pid = await born(driver)
        await put(driver, OUTSIDE, bounded(100), bounded(50, "tenant:acme"))
        with pytest.raises(Overdrawn):
            await put(driver, pid, intent, held(1, 51, "all", "tenant:acme"))
        assert [a.reserved for a in await driver.read(ReadAccounts())] == [0, 0]
        assert await driver.read(ReadLog(pid=pid)) == ()
        await put(driver, pid, intent, held(1, 50, "all", "tenant:acme"))


async def test_of_many_at_once_exactly_those_that_fit_are_admitted(driver: StorageDriver) -> None:
    async with opened(driver):
        pids = [await born(driver) for _ in range(30)]
        await put(driver, OUTSIDE, bounded(100))
        refused: list[int] = []

        async def reserve(ticket: int, pid: Pid) -> None:
            try:
                await put(driver, pid, held(ticket, 10))
            except Overdrawn:
                refused.append(ticket)

        with anyio.fail_after(20):
            async with anyio.create_task_group() as tasks:
                for ticket, pid in enumerate(pids, 1):
                    tasks.start_soon(reserve, ticket, pid)
        assert len(refused) == 20
        assert (await accounts(driver))["all"].reserved == 100


async def test_who_spends_more_than_reserved_overdraws_and_that_is_told(
    driver: StorageDriver,
) -> None:
    async with opened(driver):
        pid = await born(driver)
        await put(driver, OUTSIDE, bounded(100))
        await put(driver, pid, held(1, 90))
        await put(driver, pid, used(1, 120))
        (account,) = await driver.read(ReadAccounts())
        assert (account.used, account.overdrawn) == (120, 20)
        with pytest.raises(Overdrawn):
            await put(driver, pid, held(2, 1))
        await put(driver, OUTSIDE, RaiseCeiling(scope="all", what="tokens", by=30))
        (account,) = await driver.read(ReadAccounts())
        assert (account.ceiling, account.overdrawn) == (130, 0)
        await put(driver, pid, held(2, 10))


async def test_without_a_ceiling_an_account_only_counts(driver: StorageDriver) -> None:
    async with opened(driver):
        pid = await born(driver)
        await put(driver, OUTSIDE, bounded(10))
        await put(driver, OUTSIDE, bounded(None))
        await put(driver, pid, held(1, 1000))
        await put(driver, pid, used(1, 900))
        (account,) = await driver.read(ReadAccounts())
        assert (account.ceiling, account.used, account.reserved) == (None, 900, 0)


async def test_a_configured_ceiling_leaves_what_was_set_since_the_last_time(
    driver: StorageDriver,
) -> None:
    configured = PutAccount(scope="all", what="tokens", ceiling=100, configured=True)
    async with opened(driver):
        await put(driver, OUTSIDE, configured)
        await put(driver, OUTSIDE, bounded(500))
        await put(driver, OUTSIDE, configured)
        assert (await accounts(driver))["all"].ceiling == 500
        await put(driver, OUTSIDE, replace(configured, ceiling=200))
        assert (await accounts(driver))["all"].ceiling == 200


async def test_an_account_made_in_the_middle_of_a_call_counts_what_it_spends(
    driver: StorageDriver,
) -> None:
    async with opened(driver):
        pid = await born(driver)
        await put(driver, pid, held(1, 70))
        await put(driver, OUTSIDE, bounded(100))
        await put(driver, pid, used(1, 30))
        (account,) = await driver.read(ReadAccounts())
        assert (account.used, account.reserved) == (30, 0)


async def test_what_a_lost_owner_had_reserved_is_used_at_the_take_over_once(
    make: Make,
) -> None:
    """Only drivers whose store others see: the owner leaves without a word."""
    first, second = make(), make()
    async with opened(second):
        async with opened(first):
            pid = await born(first)
            await put(first, OUTSIDE, bounded(100))
            await put(first, pid, held(1, 40))
        for _ in range(2):
            (taken,) = await second.claim(ClaimProcesses(pid=pid)) or (None,)
            assert taken is not None
            (account,) = await second.read(ReadAccounts())
            assert (account.used, account.reserved, account.lost) == (40, 0, 40)
            await put(
                second,
                pid,
                SaveProcess(record=replace(taken, state="parked")),
                epoch=taken.epoch,
            )
        with pytest.raises(Fenced):
            await put(second, pid, used(1, 7))
        (account,) = await second.read(ReadAccounts())
        assert (account.used, account.lost) == (40, 40)


async def test_what_one_that_has_ended_had_reserved_is_used(driver: StorageDriver) -> None:
    async with opened(driver):
        pid = await born(driver)
        await put(driver, OUTSIDE, bounded(100))
        await put(driver, pid, held(1, 40))
        await put(driver, pid, SaveProcess(record=record(pid, state="killed")))
        await driver.claim(ClaimProcesses(programs=(("p", "1"),)))
        (account,) = await driver.read(ReadAccounts())
        assert (account.used, account.reserved, account.lost) == (40, 0, 40)


@pytest.mark.parametrize(
    ("by", "whose"),
    [
        ("agent", ["0", "pid"]),
        ("tenant", ["acme", "zeta"]),
        ("model", ["m", "n"]),
        ("day", ["2026-11-26", "2026-11-27"]),
    ],
)
async def test_what_was_spent_is_summed_as_asked(
    driver: StorageDriver, by: SpentBy, whose: list[str]
) -> None:
    async with opened(driver):
        pid = await born(driver)
        names = [str(pid) if name == "pid" else name for name in whose]
        await put(driver, pid, used(0, 1), used(0, 2))
        await put(driver, pid, used(0, 3, spent=Spent(prompt=3, tool_calls=1)))
        await put(driver, OUTSIDE, used(0, 4, tenant="zeta", model="n", day="2026-11-26"))
        found = await driver.read(ReadSpent(by=by))
        recent = await driver.read(ReadSpent(by=by, since="2026-11-27"))
    two = Spent(currency="EUR", prompt=3, money=30, calls=2)
    free, other = Spent(prompt=3, tool_calls=1), Spent(currency="EUR", prompt=4, money=40, calls=1)
    ours, theirs = (names[0], names[1]) if by in ("tenant", "model") else (names[1], names[0])
    assert sorted(found, key=str) == sorted([(ours, free), (ours, two), (theirs, other)], key=str)
    assert [name for name, _ in found] == sorted([ours, ours, theirs], key=names.index)
    assert recent == ((ours, free), (ours, two))


async def test_the_quotas_it_was_born_under_stay_with_a_process(driver: StorageDriver) -> None:
    async with opened(driver):
        pid = await driver.new_pid()
        await put(driver, pid, AddProcess(record=record(pid, quotas=(3, pid))))
        await put(driver, pid, SaveProcess(record=record(pid, state="parked", quotas=(3, pid))))
        found = await driver.read(ReadProcess(pid=pid))
        (claimed,) = await driver.claim(ClaimProcesses(pid=pid))
    assert found is not None
    assert found.quotas == claimed.quotas == (3, pid)


async def test_a_ceiling_that_is_set_rings_for_all_kernels(make: Make) -> None:
    """By number 0, also where it was set."""
    rung, heard = set[Pid](), anyio.Event()

    def ring(pids: Iterable[Pid] | None) -> None:
        rung.update(pids or ())
        if rung:
            heard.set()

    driver = make()
    async with opened(driver, ring=ring):
        while not heard.is_set():  # it may not listen yet
            await put(driver, OUTSIDE, bounded(5))
            with anyio.move_on_after(0.1):
                await heard.wait()
    assert rung == {OUTSIDE}


async def test_accounts_of_what_has_ended_are_read_only_if_asked_for(driver: StorageDriver) -> None:
    async with opened(driver):
        pid = await born(driver)
        scope = f"process:{pid}"
        await put(driver, pid, bounded(5, scope), bounded(7, "tenant:process:1"))
        assert set(await accounts(driver)) == {scope, "tenant:process:1"}
        await put(driver, pid, SaveProcess(record=record(pid, state="exited")))
        assert set(await accounts(driver)) == {"tenant:process:1"}
        every = await driver.read(ReadAccounts(ended=True))
        assert [account.scope for account in every] == [scope, "tenant:process:1"]
