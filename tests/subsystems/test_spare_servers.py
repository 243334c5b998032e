"""Two of llama.cpp's servers behind one alias; one is killed under load and started again."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import anyio
import pytest
from anyio import to_thread
from moody import asking
from servers import Mortal
from system import scripted_kernel

from aoskernel import Kernel
from aoskernel.subsystems.llm.messages import Completed, Sampling

CALLERS = 3
ROOM_S = 60
"""A busy machine takes its time; what is measured is printed."""


def remote(server: Mortal) -> dict[str, Any]:
    return {
        "driver": "openai",
        "vendor": "llamacpp",
        "model": "smollm2",
        "base_url": f"{server.url}/v1",
        "context_window": 4096,
        "slots": 2,
    }


def kernel_of(first: Mortal, second: Mortal) -> Kernel:
    tables: dict[str, Any] = {
        "llm.first": remote(first),
        "llm.second": remote(second),
        "llm.smart": {"use": "alias", "models": ["llm.first", "llm.second"]},
    }
    return scripted_kernel(**tables)


@dataclass
class Load:
    """Callers that ask one question after another, and what they saw."""

    kernel: Kernel
    done: bool = False
    answers: list[tuple[float, float]] = field(default_factory=list)
    lost: list[Exception] = field(default_factory=list)
    answered_by: dict[str, list[float]] = field(default_factory=dict)

    async def call(self) -> None:
        ask = asking("Say hello.", sampling=Sampling(temperature=0, max_tokens=2))
        while not self.done:
            began = self.kernel.bus.time()
            try:
                await self.kernel.request(ask, to="llm.smart")
            except Exception as error:
                self.lost.append(error)
                raise
            self.answers.append((began, self.kernel.bus.time()))

    async def listen(self) -> None:
        async with self.kernel.listen("llm.completed") as told:
            async for event in told:
                assert isinstance(event, Completed)
                self.answered_by.setdefault(event.address, []).append(self.kernel.bus.time())

    async def until(self, address: str, since: float, more: int = 1) -> float:
        """When that one has answered so often since then."""
        while True:
            times = [at for at in self.answered_by.get(address, ()) if at > since]
            if len(times) >= more:
                return times[more - 1]
            await anyio.sleep(0.01)

    def longest_s(self, since: float) -> float:
        return max(end - began for began, end in self.answers if end > since)


async def killed_and_restarted(first: Mortal, second: Mortal, times: int, calls: int) -> None:
    """Kill the first so many times, with so many calls before, while it is away and after."""
    with anyio.fail_after(ROOM_S * times):
        async with kernel_of(first, second) as kernel, anyio.create_task_group() as listening:
            load = Load(kernel)
            listening.start_soon(load.listen)
            async with anyio.create_task_group() as callers:
                for _ in range(CALLERS):
                    callers.start_soon(load.call)
                for number in range(1, times + 1):
                    print(f"\nkill {number}: {await killed_once(first, load, calls)}")
                load.done = True
            listening.cancel_scope.cancel()
            print(f"{len(load.answers)} calls answered, {len(load.lost)} lost")
            assert load.lost == []


async def killed_once(first: Mortal, load: Load, calls: int) -> str:
    now = load.kernel.bus.time
    await load.until("llm.first", now(), calls)
    killed = now()
    await to_thread.run_sync(first.kill)
    moved_s = await load.until("llm.second", killed, CALLERS) - killed
    await load.until("llm.second", killed, calls)
    first.start()
    await to_thread.run_sync(first.listen)
    up = now()
    back_s = await load.until("llm.first", up) - up
    return (
        f"{moved_s:.2f} s until the second had answered {CALLERS} calls, the longest call took "
        f"{load.longest_s(killed):.2f} s; {back_s:.2f} s from the start to the first's next answer"
    )


@pytest.fixture
def servers() -> Iterator[tuple[Mortal, Mortal]]:
    both = Mortal(), Mortal()
    try:
        for server in both:
            server.start()
        for server in both:
            server.listen()
        yield both
    finally:
        for server in both:
            server.kill()


@pytest.mark.model
async def test_a_server_killed_under_load_costs_no_call(servers: tuple[Mortal, Mortal]) -> None:
    await killed_and_restarted(*servers, times=1, calls=2)


@pytest.mark.slow
@pytest.mark.model
async def test_a_server_killed_again_and_again_costs_no_call(
    servers: tuple[Mortal, Mortal],
) -> None:
    await killed_and_restarted(*servers, times=5, calls=20)
