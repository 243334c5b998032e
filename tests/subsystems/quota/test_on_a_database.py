"""Quotas of kernels that share a real database, of which one is killed."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

import anyio
import quota_app
from one_storage import OneStorage, reached, until
from priced import SERVED

from aoskernel import Kernel, Process, program, spawn
from aoskernel.drivers.storage.embedded import Embedded
from aoskernel.subsystems.processes.messages import Inspect, Kill
from aoskernel.subsystems.quota.messages import Quota, SetQuota
from aoskernel.subsystems.storage.messages import ENDED, Account, Pid, ReadAccounts, ReadSpent

CEILING, AGENTS, TURNS, MAX_TOKENS = 9000, 64, 6, 40


@program
async def worker(self: Process) -> None:
    for turn in range(TURNS):
        await self.think(f"turn {turn}", max_tokens=MAX_TOKENS)


def shared(folder: Path, lease_s: float = 5.0) -> OneStorage:
    namespace = uuid4().hex
    settings = {"fsync": "off"}
    return OneStorage(
        lambda: Embedded(
            folder=str(folder), namespace=namespace, settings=settings, lease_s=lease_s
        )
    )


async def account(kernel: Kernel, scope: str = "all") -> Account:
    found = await kernel.request(ReadAccounts())
    return next(account for account in found if account.scope == scope)


async def test_sixty_four_agents_of_two_kernels_spend_a_shared_ceiling_and_no_more(
    server_folder: Path,
) -> None:
    one, words = shared(server_folder), "word " * 25
    model = {"driver": "priced:Priced", "token_s": 0.0002, "slots": 16}
    SERVED.clear()
    tables = {"llm.default": model, "processes": {"adopt_every_s": 0.3}}
    async with (
        one.kernel(lambda ask: words, **tables) as first,
        one.kernel(lambda ask: words, **tables) as second,
    ):
        with anyio.fail_after(60):
            await first.request(SetQuota(scope="all", quota=Quota(tokens=CEILING)))
            agents = [await spawn((first, second)[n % 2], worker()) for n in range(AGENTS)]
            for agent in agents[:6]:
                await first.request(Kill(pid=agent.pid, signal="KILL"))
            for agent in agents:
                await until(_is_over(second, agent.pid), 60)
            await until(_is_settled(second), 10)
            now, spent = await account(second), await second.request(ReadSpent(by="day"))
    used = sum(one.prompt + one.completion for _, one in spent)
    served = sum(int(m["llm.prompt_tokens"] + m.get("llm.completion_tokens", 0)) for m in SERVED)
    assert now.used == used + now.lost
    assert served <= now.used
    assert 0.9 * CEILING <= now.used <= CEILING
    assert now.overdrawn == 0


def _is_over(kernel: Kernel, pid: Pid) -> Callable[[], object]:
    async def look() -> bool:
        return (await kernel.request(Inspect(pid=pid))).record.state in {*ENDED, "stopped"}

    return look


def _is_settled(kernel: Kernel) -> Callable[[], object]:
    async def look() -> bool:
        return not (await account(kernel)).reserved

    return look


@contextmanager
def killed(*told: str) -> Iterator[None]:
    """The application, which is killed in the end."""
    with subprocess.Popen([sys.executable, quota_app.__file__, *told]) as lost:
        try:
            yield
        finally:
            lost.kill()


async def test_a_call_whose_kernel_was_killed_is_settled_in_full_once(
    server_folder: Path, tmp_path: Path
) -> None:
    told = (str(server_folder), uuid4().hex)
    begun = tmp_path / "reached"
    with killed(*told, str(begun)):
        await until(begun.exists, seconds=30)
    async with quota_app.kernel(*told, lambda ask: "yes") as kernel:
        with anyio.fail_after(20):
            agent = await quota_app.begin(kernel)
            assert await agent == "yes"
            mine, tenant = await kernel.request(ReadAccounts(ended=True))
        assert (await reached(kernel, agent.pid, "exited")).epoch == 1
        ((_, spent),) = await kernel.request(ReadSpent())
    in_full = 8 + quota_app.MAX_TOKENS
    assert (mine.ceiling, tenant.ceiling) == (2000, 10_000)
    assert spent.prompt + spent.completion == 9
    for one in (mine, tenant):
        assert (one.used, one.reserved, one.lost) == (in_full + 9, 0, in_full)


async def test_a_ceiling_that_another_kernel_raises_lets_those_go_on_who_wait(
    server_folder: Path,
) -> None:
    """What one holds, the other waits for; what is given back in one wakes in the other."""
    one, gate = shared(server_folder), anyio.Event()

    async def held(ask: object) -> str:
        await gate.wait()
        return "yes"

    ended: list[str] = []

    @program
    async def once(self: Process, who: str) -> None:
        await self.think("go", max_tokens=50)
        ended.append(who)

    async with one.kernel(held) as first, one.kernel(lambda ask: "yes") as second:
        with anyio.fail_after(20):
            await first.request(SetQuota(scope="all", quota=Quota(tokens=60)))
            ours = await spawn(first, once(who="first"))
            await until(_reserved(first), 10)
            theirs = await spawn(second, once(who="second"))
            await anyio.sleep(0.3)
            assert ended == []
            gate.set()
            await ours
            await theirs
    assert ended == ["first", "second"]


def _reserved(kernel: Kernel) -> Callable[[], object]:
    async def look() -> bool:
        return bool((await account(kernel)).reserved)

    return look
