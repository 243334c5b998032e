"""A kernel that is lost at any commit: the next one ends the work as if nothing had happened.

All places are enumerated, before and after the commit; and lost several times in a row.
"""

import asyncio
import threading
from collections import Counter
from dataclasses import dataclass, field
from typing import Any, Literal

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from one_storage import OneStorage, until

from aoskernel import Kernel, Process, assistant, program, spawn, tool
from aoskernel.drivers.llm.scripted import call
from aoskernel.drivers.storage.memory import MemoryStorage
from aoskernel.subsystems.processes.messages import Inspect, ListDoubts, Resolve
from aoskernel.subsystems.storage.driver import Ring
from aoskernel.subsystems.storage.messages import (
    ClaimProcesses,
    Commit,
    FindMemories,
    FindProcesses,
    Pid,
    ProcessRecord,
    ReadPages,
)
from aoskernel.subsystems.tools.tool import IdempotencyKey

PYTHON = "aoskernel.drivers.tools.python:PythonTools"
WIDTH = 3
"""Calls that are in flight at once, at most."""
_ABANDONED: list[Any] = []
"""Tasks of lost kernels: never run again, and never cleaned up either."""


@dataclass
class World:
    """What is outside of all kernels, and counts."""

    asked: Counter[str] = field(default_factory=Counter)
    orders: Counter[str] = field(default_factory=Counter)
    sold: dict[str, str] = field(default_factory=dict)
    receipts: Counter[str] = field(default_factory=Counter)
    invalid: list[Any] = field(default_factory=list)

    def model(self, ask: Any) -> Any:
        self._check(ask.messages)
        last = ask.messages[-1]
        self.asked[f"{len(ask.messages)} {last.role} {last.text}"] += 1
        if last.text == "buy milk":
            return call("buy", what="milk")
        return f"re: {last.text}"

    def _check(self, messages: Any) -> None:
        """Every provider wants a result for each call, right behind it."""
        open_calls: list[str] = []
        for message in messages:
            if message.role == "tool":
                if message.tool_call_id not in open_calls:
                    self.invalid.append(messages)
                    return
                open_calls.remove(message.tool_call_id)
            elif open_calls:
                self.invalid.append(messages)
                return
            open_calls += [called.id for called in message.tool_calls]

    @property
    def tools(self) -> list[Any]:
        @tool
        async def buy(what: str, key: IdempotencyKey) -> str:
            self.orders[key] += 1
            self.sold[key] = f"bought {what}"
            return self.sold[key]

        @tool(effect="idempotent")
        async def file_receipt(what: str, key: IdempotencyKey) -> str:
            self.receipts[key] = 1
            return f"filed {what}"

        return [buy, file_receipt]


@program
async def helper(self: Process, text: str) -> str:
    await self.remember(f"helped {text}", tags=["help"])
    letter = await self.receive()
    return f"{(await self.think(text)).text} {letter}"


@program
async def job(self: Process) -> list[Any]:
    told: list[Any] = [(await self.think("one")).text]
    await self.note("by the way")
    told += await self.parallel(
        _text(self, "left"),
        self.call("buy", what="tea"),
        self.call("file_receipt", what="tea"),
    )
    child = await self.spawn(helper(text="hand"))
    await self.send(child, "letter")
    told.append(await child)
    await self.sleep(0.001)
    told.append(await self.timeout(60, self.call("buy", what="cake")))
    told.append(await (await self.spawn(assistant(task="buy milk"))))
    told.append(await self.race(_text(self, "race")))
    return told


async def _text(self: Process, prompt: str) -> str:
    return (await self.think(prompt)).text


class Mortal:
    """A storage driver whose kernel is lost at its n-th commit, with it or without."""

    def __init__(self, driver: MemoryStorage, at: int, *, written: bool) -> None:
        self._driver, self._at, self._written = driver, at, written
        self.commits = 0
        self.lost = False

    async def start(self) -> None:
        await self._driver.start()

    async def run(self, ring: Ring) -> None:
        await self._driver.run(lambda pids: None if self.lost else ring(pids))

    async def stop(self) -> None:
        await self._driver.stop()

    async def new_pid(self) -> Pid:
        return await self._alive(self._driver.new_pid())

    async def claim(self, claim: ClaimProcesses) -> tuple[ProcessRecord, ...]:
        return await self._alive(self._driver.claim(claim))

    async def read(self, query: Any) -> Any:
        return await self._alive(self._driver.read(query))

    async def commit(self, commit: Commit) -> None:
        self.commits += not self.lost
        if self.commits == self._at and not self.lost:
            if self._written:
                await self._driver.commit(commit)
            self.lost = True
            asyncio.get_running_loop().stop()
        await self._alive(self._driver.commit(commit))

    async def _alive(self, work: Any) -> Any:
        """A lost kernel gets no answer any more."""
        if self.lost:
            work.close()
            await asyncio.get_running_loop().create_future()
        return await work


def live(storage: MemoryStorage, world: World, at: int = 0, *, written: bool = False) -> Any:
    """One life of the application: to its end, or until it is lost at that commit (None)."""
    driver = Mortal(storage, at, written=written)
    loop = asyncio.new_event_loop()
    main = loop.create_task(_application(OneStorage(lambda: driver), world))
    try:
        return loop.run_until_complete(main), driver.commits
    except RuntimeError:
        assert driver.lost
        _abandon(loop)
        storage.lapse()
        return None, driver.commits
    finally:
        loop.close()


def _abandon(loop: asyncio.AbstractEventLoop) -> None:
    """No code of the lost kernel runs any more, not even to clean up."""
    for task in asyncio.all_tasks(loop):
        task._log_destroy_pending = False  # type: ignore[attr-defined]
        _ABANDONED.append(task)
    for thread in threading.enumerate():
        if getattr(thread, "loop", None) is loop:  # anyio's, which would wait for ever
            thread.queue.put_nowait(None)  # type: ignore[attr-defined]


async def _application(one: OneStorage, world: World) -> Any:
    """Its main: it begins with the same line each time."""
    python = {"driver": PYTHON, "functions": world.tools}
    processes = {"programs": [f"{__name__}:helper", f"{__name__}:assistant"]}
    with anyio.fail_after(20):
        async with one.kernel(world.model, processes=processes, **{"tools.own": python}) as kernel:
            agent = await spawn(kernel, job(), key="job")
            await until(lambda: _settled(kernel, agent.pid, world), seconds=15)
            return await agent, await _left_behind(kernel)


async def _settled(kernel: Kernel, pid: Pid, world: World) -> bool:
    """Has it ended? On the way, a human who knows the world says how calls came out."""
    for doubt in await kernel.request(ListDoubts()):
        sold = world.sold.get(f"{doubt.pid}/{doubt.key}")
        outcome: Literal["again", "done"] = "again" if sold is None else "done"
        said = Resolve(pid=doubt.pid, outcome=outcome, result=sold, keys=(doubt.key,))
        await kernel.request(said)
    return (await kernel.request(Inspect(pid=pid))).record.state in ("exited", "failed")


async def _left_behind(kernel: Kernel) -> dict[str, Any]:
    """What is in the database in the end, without the numbers that chance has given."""
    records = await kernel.request(FindProcesses(ended=True))
    pages = {
        record.program: [
            (page.role, page.text) for page in await kernel.request(ReadPages(pid=record.pid))
        ]
        for record in records
    }
    memories = await kernel.request(FindMemories(tenant="default", tags=("help",)))
    return {
        "processes": sorted((r.program, r.state) for r in records),
        "pages": {name: sorted(found) for name, found in pages.items()},
        "memories": [memory.text for memory in memories],
    }


@pytest.fixture(scope="module")
def undisturbed() -> tuple[Any, int, World]:
    """How it ends when nothing is lost, and after how many commits."""
    world = World()
    ended, commits = live(MemoryStorage(), world)
    return ended, commits, world


def check(ended: Any, world: World, expected: Any, model: World, losses: int) -> None:
    assert ended == expected
    assert world.invalid == []
    assert max(world.orders.values()) == 1
    assert sum(world.orders.values()) == sum(model.orders.values())
    assert set(world.asked) == set(model.asked)
    assert sum(world.asked.values()) <= sum(model.asked.values()) + WIDTH * losses


@pytest.mark.parametrize("written", [False, True], ids=["before", "after"])
def test_it_ends_the_same_wherever_the_kernel_is_lost(
    undisturbed: tuple[Any, int, World], written: bool
) -> None:
    expected, commits, model = undisturbed
    for at in range(1, commits + 1):
        storage, world = MemoryStorage(), World()
        first, _ = live(storage, world, at, written=written)
        ended = first if first is not None else live(storage, world)[0]
        check(ended, world, expected, model, 1)


@settings(max_examples=10, deadline=None)
@given(losses=st.lists(st.tuples(st.integers(1, 45), st.booleans()), max_size=6))
def test_it_ends_the_same_however_often_the_kernel_is_lost(
    undisturbed: tuple[Any, int, World], losses: list[tuple[int, bool]]
) -> None:
    expected, _, model = undisturbed
    storage, world = MemoryStorage(), World()
    ended = None
    for at, written in [*losses, (0, False)]:
        if ended is None:
            ended, _ = live(storage, world, at, written=written)
    check(ended, world, expected, model, len(losses))
