"""Retention, as a service: what it has forgotten, how often, and what of it is refused."""

from typing import Any

import anyio
import pytest
from system import System

from aoskernel import ConfigError, Process, program, spawn
from aoskernel.kernel.config import build
from aoskernel.kernel.testing import Bench, run_virtual
from aoskernel.subsystems.processes.messages import Inspect, ListProcesses, NoSuchProcess
from aoskernel.subsystems.storage.driver import Expired, Pid
from aoskernel.subsystems.storage.messages import Expiry, ForgetExpired, StorageUnavailable
from aoskernel.subsystems.storage.retention import Retention

DAY_S = 86_400


def some(number: int) -> tuple[Expired, ...]:
    one = Expired(
        pid=Pid(1), program="p", state="exited", tenant="t", key=None, ended_at=0, whole=True
    )
    return (one,) * number


def test_it_looks_once_an_hour_and_goes_on_while_there_is_more() -> None:
    batches = [some(3), some(3), some(1), some(0)]
    asked: list[tuple[float, int]] = []

    def forget(request: ForgetExpired) -> tuple[Expired, ...]:
        asked.append((anyio.current_time(), request.limit))
        return batches.pop(0) if batches else ()

    async def main() -> None:
        bench = Bench(Retention(ended_after_days=30, batch=3))
        bench.answer(ForgetExpired, forget)
        async with bench:
            await anyio.sleep(7300)

    run_virtual(main)
    assert asked == [(0, 3), (0, 3), (0, 3), (3600, 3), (7200, 3)]


def test_a_database_that_is_away_is_asked_again_the_next_time() -> None:
    asked: list[float] = []

    def forget(request: ForgetExpired) -> tuple[Expired, ...]:
        asked.append(anyio.current_time())
        raise StorageUnavailable("away")

    async def main() -> None:
        bench = Bench(Retention(ended_after_days=30))
        bench.answer(ForgetExpired, forget)
        async with bench:
            await anyio.sleep(4000)

    run_virtual(main)
    assert asked == [0, 3600]


def expiries(**config: Any) -> dict[tuple[str | None, tuple[str, ...]], Expiry]:
    found = Retention(**config).expiries
    return {(one.tenant, one.states): one for one in found}


def test_states_and_tenants_have_numbers_of_their_own() -> None:
    found = expiries(ended_after_days=30, states={"failed": 90}, tenants={"acme": 7})
    assert {which: one.after_s / DAY_S for which, one in found.items()} == {
        ("acme", ("exited", "failed", "killed")): 7,
        (None, ("failed",)): 90,
        (None, ("exited", "killed")): 30,
    }
    assert {one.but_tenants for one in found.values() if one.tenant is None} == {("acme",)}
    assert {one.keys_after_s for one in found.values()} == {None}


def test_what_nothing_is_said_of_is_kept() -> None:
    assert list(expiries(states={"killed": 1})) == [(None, ("killed",))]
    assert list(expiries(tenants={"acme": 1})) == [("acme", ("exited", "failed", "killed"))]


def test_keys_are_free_again_only_if_somebody_says_so() -> None:
    (found,) = expiries(ended_after_days=30, keys_after_days=365).values()
    assert found.keys_after_s == 365 * DAY_S


@pytest.mark.parametrize(
    ("config", "told"),
    [
        ({}, "nothing is ever over: set ended_after_days, states or tenants"),
        ({"ended_after_days": -1}, "0 days or more"),
        ({"tenants": {"acme": -1}}, "0 days or more"),
        ({"states": {"parked": 1}}, "'exited', 'failed' or 'killed'"),
        ({"ended_after": 1}, "unknown key"),
    ],
)
def test_a_wrong_policy_is_refused_at_boot(config: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        build("retention", config)


@program
async def answer(self: Process, what: str) -> str:
    return (await self.think(what)).text


async def test_in_a_kernel_it_forgets_what_ended_but_not_what_a_key_stands_for(
    system: System,
) -> None:
    now = {"ended_after_days": 0, "every_s": 0.01}
    async with system(retention=now) as kernel:
        with anyio.fail_after(10):
            plain = await spawn(kernel, answer(what="plain"))
            keyed = await spawn(kernel, answer(what="paid"), key="invoice-42")
            assert (await plain, await keyed) == ("plain", "paid")
            while len(await kernel.request(ListProcesses(ended=True))) > 1:
                await anyio.sleep(0.01)
            with pytest.raises(NoSuchProcess):
                await kernel.request(Inspect(pid=plain.pid))
            while not (await keyed.status()).record.bare:
                await anyio.sleep(0.01)
            again = await spawn(kernel, answer(what="paid"), key="invoice-42")
            assert (again.pid, await again) == (keyed.pid, "paid")


async def test_nothing_is_forgotten_unless_somebody_says_so(system: System) -> None:
    async with system() as kernel:
        assert "retention" not in {seat.address for seat in kernel.services()}
