"""A limit on calls under way that several kernels share: never exceeded, never hoarded."""

import random
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import AsyncExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any
from uuid import uuid4

import anyio
import places_app
import pytest
from anyio.abc import SocketAttribute, SocketStream
from hypothesis import given, settings
from hypothesis import strategies as st
from limited import ask, virtually
from one_storage import OneStorage, until

from aoskernel import Kernel, admitted
from aoskernel.subsystems.limiter.messages import ReadLimits
from aoskernel.subsystems.storage.messages import HoldSeats, ReadSeats

SEVERAL = [1, 2, 5]


class Provider:
    """Counts the calls that are under way, of all kernels."""

    def __init__(self, takes_s: float = 0.1) -> None:
        self.takes_s = takes_s
        self.inside = self.most = 0
        self.answered = Counter[str]()

    async def __call__(self, call: Any) -> str:
        self.inside += 1
        self.most = max(self.most, self.inside)
        try:
            await anyio.sleep(self.takes_s)
        finally:
            self.inside -= 1
        self.answered[call.messages[-1].text] += 1
        return "ok"


def places(number: int, **more: Any) -> dict[str, Any]:
    """The limiter's table."""
    return {"limits": [{"of": "llm.*", "concurrency": number, "shared": True, **more}]}


async def demand(kernel: Kernel, name: str, callers: int, until_s: float) -> None:
    """So many callers, one call after the other, until then."""

    async def caller() -> None:
        while kernel.bus.time() < until_s:
            await ask(kernel, name)

    with anyio.CancelScope(deadline=until_s):
        async with anyio.create_task_group() as tasks:
            for _ in range(callers):
                tasks.start_soon(caller)


async def through(kernels: Sequence[Kernel], work: Callable[[Kernel, str], Any]) -> None:
    """Open them all, and have each do it at the same time, under a name."""
    async with AsyncExitStack() as stack:
        for kernel in kernels:
            await stack.enter_async_context(kernel)
        async with anyio.create_task_group() as tasks:
            for number, kernel in enumerate(kernels):
                tasks.start_soon(work, kernel, f"k{number}")


def kernel_of(storage: OneStorage, provider: Provider, limiter: dict[str, Any]) -> Kernel:
    """With more slots than places, so that it is the limit that holds calls up."""
    return storage.kernel(provider, limiter=limiter, **{"llm.default": {"slots": 16}})


def holds(storage: OneStorage) -> list[HoldSeats]:
    """What the database will have been asked."""
    asked, inner = list[HoldSeats](), storage.memory.hold

    async def noted(hold: HoldSeats) -> Any:
        asked.append(hold)
        return await inner(hold)

    storage.memory.hold = noted  # type: ignore[method-assign]
    return asked


@pytest.mark.parametrize("kernels", SEVERAL)
def test_however_many_kernels_there_are_the_places_are_kept_and_not_wasted(kernels: int) -> None:
    async def scenario() -> None:
        storage, provider = OneStorage(), Provider()
        all_of = [kernel_of(storage, provider, places(5)) for _ in range(kernels)]
        await through(all_of, lambda kernel, name: demand(kernel, name, 10, 10.0))
        assert provider.most == 5
        assert provider.answered.total() >= 0.9 * 5 * 10.0 / 0.1
        assert min(provider.answered.values()) >= 0.6 * provider.answered.total() / kernels

    virtually(scenario)


def test_of_one_place_each_kernel_has_its_turn() -> None:
    async def scenario() -> None:
        storage, provider = OneStorage(), Provider()
        all_of = [kernel_of(storage, provider, places(1)) for _ in range(3)]
        await through(all_of, lambda kernel, name: demand(kernel, name, 4, 10.0))
        assert provider.most == 1
        assert provider.answered.total() >= 0.9 * 10.0 / 0.1
        assert min(provider.answered.values()) >= 0.25 * provider.answered.total()

    virtually(scenario)


def test_places_are_used_again_without_asking_the_database() -> None:
    async def scenario() -> None:
        storage, provider = OneStorage(), Provider()
        asked = holds(storage)
        async with kernel_of(storage, provider, places(8)) as kernel:
            await demand(kernel, "k", 8, 10.0)
        assert provider.most == 8
        assert len(asked) < 20

    virtually(scenario)


def test_idle_places_are_given_back() -> None:
    async def scenario() -> None:
        storage, provider = OneStorage(), Provider()
        async with kernel_of(storage, provider, places(8)) as kernel:
            await demand(kernel, "k", 8, kernel.bus.time() + 1.05)
            (seats,) = await kernel.request(ReadSeats())
            assert (seats.places, seats.held) == (8, 8)
            await anyio.sleep(2.1)
            assert await kernel.request(ReadSeats()) == ()

    virtually(scenario)


def test_whoever_needs_a_place_has_an_idle_one_at_once() -> None:
    async def scenario() -> None:
        storage, provider = OneStorage(), Provider()
        one, two = (kernel_of(storage, provider, places(4)) for _ in range(2))
        async with one, two:
            await demand(one, "k", 4, one.bus.time() + 0.35)
            (seats,) = await two.request(ReadSeats())
            assert seats.held == 4
            began = two.bus.time()
            await ask(two, "go")
            assert two.bus.time() - began < 0.1 + 0.1

    virtually(scenario)


def test_what_is_held_is_seen() -> None:
    async def scenario() -> None:
        storage, provider = OneStorage(), Provider()
        async with kernel_of(storage, provider, places(3)) as kernel:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(ask, kernel, "go")
                await anyio.sleep(0.05)
                bucket = next(one for one in await kernel.request(ReadLimits()) if one.shared)
                assert (bucket.inside, bucket.held, bucket.concurrency) == (1, 1, 3)

    virtually(scenario)


def test_a_place_is_not_held_by_a_call_that_another_limit_turned_away() -> None:
    async def scenario() -> None:
        storage, provider = OneStorage(), Provider()
        table = places(2)
        table["limits"].append({"of": "llm.*", "per": "all", "requests": "1/s burst 1"})
        one, two = (kernel_of(storage, provider, table) for _ in range(2))
        await through([one, two], lambda kernel, name: demand(kernel, name, 4, 10.0))
        assert provider.most <= 2
        assert min(provider.answered.values()) >= 9

    virtually(scenario)


def test_the_limiter_may_be_replaced_while_calls_run() -> None:
    async def scenario() -> None:
        storage, provider = OneStorage(), Provider()
        one, two = (kernel_of(storage, provider, places(4)) for _ in range(2))

        async def work(kernel: Kernel, name: str) -> None:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(demand, kernel, name, 6, 10.0)
                await anyio.sleep(5)
                if kernel is one:
                    await kernel.swap("limiter", places(4))

        await through([one, two], work)
        assert provider.most == 4
        assert min(provider.answered.values()) >= 0.4 * provider.answered.total()

    virtually(scenario)


def test_places_of_a_limit_that_is_no_more_are_free() -> None:
    async def scenario() -> None:
        storage, provider = OneStorage(), Provider()
        async with kernel_of(storage, provider, places(4)) as kernel:
            await ask(kernel, "go")
            await kernel.swap("limiter", {"limits": []})
            await anyio.sleep(0.1)
            assert await kernel.request(ReadSeats()) == ()

    virtually(scenario)


def test_an_application_s_own_calls_have_them_too() -> None:
    async def scenario() -> None:
        storage, inside, most = OneStorage(), 0, 0
        table = places(2, of="payments", per="all")
        kernels = [storage.kernel(limiter=table) for _ in range(3)]
        done = Counter[str]()

        async def work(kernel: Kernel, name: str) -> None:
            nonlocal inside, most
            while kernel.bus.time() < 10.0:
                async with admitted(kernel, "payments"):
                    inside += 1
                    most = max(most, inside)
                    await anyio.sleep(0.1)
                    inside -= 1
                done[name] += 1

        await through(kernels, work)
        assert most == 2
        assert min(done.values()) >= 0.2 * done.total()
        assert done.total() >= 0.9 * 2 * 10.0 / 0.1

    virtually(scenario)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32), number=st.integers(1, 6), kernels=st.integers(1, 4))
def test_whatever_happens_there_are_never_more_than_the_places(
    seed: int, number: int, kernels: int
) -> None:
    """Calls of any length, callers that give up, an answer of the database that takes long."""

    async def scenario() -> None:
        dice, storage, provider = random.Random(seed), OneStorage(), Provider()
        inner = storage.memory.hold

        async def slow(hold: HoldSeats) -> Any:
            await anyio.sleep(dice.choice([0, 0, 0.01, 0.2]))
            held = await inner(hold)
            await anyio.sleep(dice.choice([0, 0, 0.01, 0.2]))
            return held

        storage.memory.hold = slow  # type: ignore[method-assign]

        async def caller(kernel: Kernel, name: str) -> None:
            while kernel.bus.time() < 10.0:
                provider.takes_s = dice.choice([0, 0.05, 0.5])
                with anyio.move_on_after(dice.choice([0.01, 0.3, 5, 60])):
                    await ask(kernel, name)
                await anyio.sleep(dice.choice([0, 0, 0.1, 1.5]))

        async def work(kernel: Kernel, name: str) -> None:
            async with anyio.create_task_group() as tasks:
                for _ in range(4):
                    tasks.start_soon(caller, kernel, name)

        all_of = [kernel_of(storage, provider, places(number)) for _ in range(kernels)]
        await through(all_of, work)
        assert provider.most <= number
        assert len(provider.answered) == kernels

    virtually(scenario)


class Listener:
    """What calls of `places_app` connect to: counts those under way, by application."""

    def __init__(self) -> None:
        self.inside, self.answered = Counter[bytes](), Counter[bytes]()
        self.most = 0

    async def serve(self, line: SocketStream) -> None:
        """One that is cut is over, or has not begun."""
        async with line:
            with suppress(anyio.EndOfStream, anyio.BrokenResourceError):
                name = await line.receive(1)
                await self._count(name, line)
                await line.send(b".")

    async def _count(self, name: bytes, line: SocketStream) -> None:
        self.inside[name] += 1
        self.most = max(self.most, self.inside.total())
        try:
            await line.receive(1)
        finally:
            self.inside[name] -= 1
            self.answered[name] += 1


@contextmanager
def killed(*told: str) -> Iterator[None]:
    """The application, which is killed in the end."""
    with subprocess.Popen([sys.executable, places_app.__file__, *told]) as lost:
        try:
            yield
        finally:
            lost.kill()


async def test_places_of_a_killed_kernel_are_free_with_its_lease_and_never_before(
    server_folder: Path,
) -> None:
    """Two kernels on one PostgreSQL, of which one is killed in the middle of its calls."""
    heard, told = Listener(), (str(server_folder), uuid4().hex)
    async with await anyio.create_tcp_listener(local_host="127.0.0.1") as server:
        port = server.extra(SocketAttribute.local_port)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(server.serve, heard.serve)
            async with places_app.kernel(*told, port, b"b") as kernel:
                await _beside_one_that_is_killed(kernel, heard, *told, str(port))
            tasks.cancel_scope.cancel()
    assert heard.most == places_app.PLACES


async def _beside_one_that_is_killed(kernel: Kernel, heard: Listener, *told: str) -> None:
    over = anyio.Event()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(places_app.demand, kernel, over)
        with killed(*told):
            await until(lambda: heard.answered[b"a"] >= 40, 40)
        ours, theirs = heard.answered[b"b"], heard.answered[b"a"]
        await until(lambda: heard.inside[b"b"] == places_app.PLACES, 20)
        await until(lambda: heard.answered[b"b"] >= ours + 60, 20)
        over.set()
        assert ours >= 20
        assert heard.answered[b"a"] - theirs <= places_app.PLACES
