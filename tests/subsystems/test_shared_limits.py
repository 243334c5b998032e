"""One key, several kernels on one database: together they stay within its limit."""

from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any
from uuid import uuid4

import anyio
import httpx
import pytest
import servers
from limited import ask, most_within, virtually
from one_storage import OneStorage

from aoskernel import Kernel
from aoskernel.subsystems.limiter.messages import Dry, ReadLimits
from aoskernel.subsystems.limiter.pacer import SharedPacer
from aoskernel.subsystems.storage.messages import Drawn, ReadRates


def shared(requests: str, **more: Any) -> dict[str, Any]:
    """The limiter's table."""
    return {"limits": [{"of": "llm.*", "requests": requests, "shared": True, **more}]}


async def demand(kernel: Kernel, callers: int, until_s: float) -> int:
    """So many callers, one call after the other, until then; how many were answered."""
    answered = 0

    async def caller() -> None:
        nonlocal answered
        while kernel.bus.time() < until_s:
            await ask(kernel, "go")
            answered += 1

    with anyio.CancelScope(deadline=until_s):
        async with anyio.create_task_group() as tasks:
            for _ in range(callers):
                tasks.start_soon(caller)
    return answered


async def through(kernels: Sequence[Kernel], work: Callable[[Kernel], Any]) -> None:
    """Open them all, and have each do it at the same time."""
    async with AsyncExitStack() as stack:
        for kernel in kernels:
            await stack.enter_async_context(kernel)
        async with anyio.create_task_group() as tasks:
            for kernel in kernels:
                tasks.start_soon(work, kernel)


@pytest.mark.parametrize("kernels", [1, 2, 5])
def test_however_many_kernels_there_are_the_window_is_kept_and_not_wasted(kernels: int) -> None:
    async def scenario() -> None:
        storage, asked_at = OneStorage(), list[float]()

        def said(ask: Any) -> str:
            asked_at.append(all_of[0].bus.time())
            return "ok"

        table = shared("50/s burst 20")
        all_of = [storage.kernel(said, limiter=table) for _ in range(kernels)]
        await through(all_of, lambda kernel: demand(kernel, 20, 8.0))
        assert most_within(asked_at, 1.0) <= 50 + 20
        assert most_within(asked_at, 5.0) <= 5 * 50 + 20
        assert len(asked_at) >= 0.98 * 8 * 50

    virtually(scenario)


def test_a_kernel_that_asks_for_little_leaves_the_rest_to_the_others() -> None:
    async def scenario() -> None:
        storage = OneStorage()
        table = shared("50/s burst 20")
        busy, idle = (storage.kernel(limiter=table) for _ in range(2))
        answered: list[int] = []

        async def work(kernel: Kernel) -> None:
            if kernel is busy:
                answered.append(await demand(kernel, 20, 8.0))
                return
            while kernel.bus.time() < 7:
                await ask(kernel, "now and then")
                await anyio.sleep(1)

        await through([busy, idle], work)
        assert answered[0] >= 0.95 * 8 * 50

    virtually(scenario)


def test_a_block_saves_the_way_to_the_database() -> None:
    async def scenario() -> None:
        storage = OneStorage()
        async with storage.kernel(limiter=shared("1000/s burst 500")) as kernel:
            draws, inner = 0, storage.memory.draw

            async def counted(draw: Any) -> Any:
                nonlocal draws
                draws += 1
                return await inner(draw)

            storage.memory.draw = counted  # type: ignore[method-assign]
            for _ in range(400):
                await ask(kernel, "go")
        assert 0 < draws < 30

    virtually(scenario)


def test_tokens_that_were_reserved_and_not_used_come_back_to_all() -> None:
    async def scenario() -> None:
        storage = OneStorage()
        limits = [{"of": "llm.*", "output_tokens": "6000/min burst 3000", "shared": True}]
        one, two = (storage.kernel(limiter={"limits": limits}) for _ in range(2))
        async with one, two:
            for _ in range(20):
                await ask(one, "a", tenant="x")
            for _ in range(20):
                await ask(two, "b", tenant="x")
            (rate,) = await two.request(ReadRates())
            assert rate.left > 2000  # of 40 replies of one token each, at most two are out

    virtually(scenario)


def test_what_is_shared_is_seen_by_both() -> None:
    async def scenario() -> None:
        storage = OneStorage()
        table = shared("2/min burst 2")
        routes = {"llm.complete": {"guards": ["limiter"], "off": ["scheduler", "retry"]}}
        one, two = (storage.kernel(limiter=table, routes=routes) for _ in range(2))
        async with one, two:
            await ask(one, "go")
            with pytest.raises(Dry):
                await ask(two, "go")
            (rate,) = await two.request(ReadRates())
            assert rate.name == "llm.* per account llm.default requests"
            bucket = next(b for b in await two.request(ReadLimits()) if b.shared)
            assert bucket.inside == 0

    virtually(scenario)


def test_a_block_that_is_too_old_is_used_no_more_and_given_back() -> None:
    pacer = SharedPacer("x", each_s=0.1, burst=10, in_blocks=True)
    assert pacer.good_s == 0.5
    block = pacer.ask(1, 100.0)
    assert (block.least, block.owed) == (1, 0)
    pacer.drawn(block, Drawn(5), 100.0, 100.01)
    pacer.draw(1, 100.02)
    assert pacer.wait_s(1, 100.49) == 0
    assert pacer.wait_s(1, 100.5) > 0
    assert pacer.ask(1, 100.6).owed == -4


async def _two_kernels(folder: Path, url: str, rate: str, seconds: float) -> list[float]:
    """When the provider counted each call of two kernels that want more than they may have."""
    storage = {
        "driver": "embedded",
        "folder": str(folder),
        "namespace": uuid4().hex,
        "settings": {"fsync": "off"},
    }
    services = {
        "storage": storage,
        "limiter": shared(rate),
        "llm.default": {"driver": "openai", "model": "m", "base_url": f"{url}/v1"},
        "memory": {"use": "memory_by_words"},
    }
    kernels = [Kernel.from_config(services=services) for _ in range(2)]
    with anyio.fail_after(60):
        await through(kernels, lambda k: demand(k, 8, k.bus.time() + seconds))
    async with httpx.AsyncClient() as client:
        counted: list[list[Any]] = (await client.get(f"{url}/counted")).json()
    assert len({key for _, key in counted}) == 1
    return [at for at, _ in counted]


@pytest.mark.parametrize("seconds", [2.0, pytest.param(15.0, marks=pytest.mark.slow)])
async def test_a_provider_that_counts_never_sees_the_window_of_a_key_exceeded(
    server_folder: Path, seconds: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two kernels on one PostgreSQL, one key, a server of its own process and clock."""
    monkeypatch.setenv("OPENAI_API_KEY", "sk-the-same")
    with servers.counting() as url:
        began = await _two_kernels(server_folder, url, "20/s burst 10", seconds)
    assert most_within(began, 1.0) <= 20 + 10
    assert most_within(began, 0.5) <= 10 + 10
    assert len(began) >= 0.9 * 20 * seconds
