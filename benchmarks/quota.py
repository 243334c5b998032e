"""What quotas cost a model's call: nobody counts, it is only counted, and it is within two.

The model takes no time and the log is in memory. The floor is the same call on a route without
the guard `quota`. On the disk the same commits take turns without, and with what quotas add.
"""

import itertools
from typing import Any, Self

from aoskernel import Kernel
from aoskernel.drivers.storage.embedded import Embedded
from aoskernel.subsystems.llm.messages import ChatMessage, Complete, Sampling
from aoskernel.subsystems.processes.messages import Origin
from aoskernel.subsystems.storage.messages import (
    AddProcess,
    Charge,
    Commit,
    Intend,
    NewPid,
    Pid,
    ProcessRecord,
    PutAccount,
    Reserve,
    Settle,
    Spend,
    Spent,
    Write,
)
from aoskernel.subsystems.storage.service import Storage

from .case import Effort, Figures, Goal, case, cpu_us
from .composition import default_kernel
from .durable import Beside, database

BATCH = 500
ASK = Complete(
    messages=(ChatMessage(role="user", text="What is 1 + 2?"),), sampling=Sampling(max_tokens=100)
)
CALLER = Origin(program="p", key="0:0", kind="think", fingerprint="00" * 12, tenant="acme")
PLENTY = {"tokens": 10**15}


async def _call_us(effort: Effort, routes: dict[str, Any], quota: dict[str, Any]) -> Figures:
    async with default_kernel(routes=routes, quota=quota) as kernel:
        pid = await kernel.request(NewPid())
        record = ProcessRecord(pid=pid, program="p", version="1", state_json="{}")
        await kernel.request(Commit(pid=pid, writes=(AddProcess(record=record),)))
        caller = CALLER._replace(pid=pid)

        async def calls(times: int) -> None:
            for _ in range(times):
                await kernel.bus.request(ASK, origin=caller)

        return {"call_us": await cpu_us(calls, effort, batch=BATCH)}


@case("quota", "floor: without the guard", floor=True)
async def without(effort: Effort) -> Figures:
    return await _call_us(effort, {"llm.complete": {"off": ["quota"]}}, {})


@case("quota", "no quota is set", goals=[Goal("call_us", above=30)])
async def counted(effort: Effort) -> Figures:
    return await _call_us(effort, {}, {})


@case("quota", "of everybody and of the tenant", goals=[Goal("call_us", above=100)])
async def bounded(effort: Effort) -> Figures:
    return await _call_us(effort, {}, {"namespace": PLENTY, "tenants": {"acme": PLENTY}})


CHARGES = tuple(Charge(scope=scope, what="tokens", amount=50) for scope in ("all", "tenant:acme"))
SPENT = Spent(prompt=30, completion=20, calls=1)


@case(
    "quota",
    "on the disk: an intent and an outcome",
    goals=[Goal("counted_x", value=1.15), Goal("bounded_x", value=1.5)],
)
async def durable(effort: Effort) -> Figures:
    """The same two commits as they are, with what was spent, and with reservations of two."""
    async with database() as at, Kernel(Storage(Embedded(folder=at.folder))) as kernel:
        commits = await _Commits.begin(kernel)
        steps = range(20) if effort.seconds == 0 else range(600)
        beside = Beside(await at.connect(), "plain", "counted", "bounded")
        await beside.run(
            steps, plain=commits.plain, counted=commits.counted, bounded=commits.bounded
        )
    plain = beside.ms("plain")
    return {
        "plain_ms": plain,
        "counted_x": beside.ms("counted") / plain,
        "bounded_x": beside.ms("bounded") / plain,
    }


class _Commits:
    """Of one process, whose calls have a number each."""

    def __init__(self, kernel: Kernel, pid: Pid) -> None:
        self._kernel, self._pid, self._calls = kernel, pid, itertools.count(1)

    @classmethod
    async def begin(cls, kernel: Kernel) -> Self:
        ours = cls(kernel, await kernel.request(NewPid()))
        record = ProcessRecord(pid=ours._pid, program="p", version="1", state_json="{}")
        accounts = [PutAccount(scope=c.scope, what=c.what, ceiling=10**15) for c in CHARGES]
        await ours._put(AddProcess(record=record), *accounts)
        return ours

    async def plain(self, step: int) -> None:
        await self._call((), ())

    async def counted(self, step: int) -> None:
        await self._call((), (_spend(0, ()),))

    async def bounded(self, step: int) -> None:
        ticket = next(self._calls)
        reserve = Reserve(ticket=ticket, charges=CHARGES)
        await self._call((reserve,), (_spend(ticket, CHARGES),))

    async def _call(self, before: tuple[Write, ...], after: tuple[Write, ...]) -> None:
        key, mark = f"0:{next(self._calls)}", "00" * 12
        intent = Intend(key=key, kind="think", fingerprint=mark, effect="idempotent")
        outcome = Settle(key=key, kind="think", fingerprint=mark, body='{"text":"yes"}')
        await self._put(intent, *before)
        await self._put(outcome, *after)

    async def _put(self, *writes: Write) -> None:
        await self._kernel.request(Commit(pid=self._pid, epoch=0, writes=writes))


def _spend(ticket: int, charges: tuple[Charge, ...]) -> Spend:
    return Spend(
        tenant="acme", model="m", day="2026-11-27", spent=SPENT, ticket=ticket, charges=charges
    )
