"""Which replies are given again, to whom, and which never. On virtual time."""

from collections.abc import Callable, Coroutine
from typing import Any

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st
from moody import Moody, asking
from one_storage import log_of
from system import System

from aoskernel import ConfigError, Kernel, Process, program, spawn
from aoskernel.kernel.config import build
from aoskernel.kernel.testing import run_virtual
from aoskernel.subsystems.cache.messages import CacheHit
from aoskernel.subsystems.cache.service import Cache
from aoskernel.subsystems.cache.shelf import Shelf
from aoskernel.subsystems.llm.driver import ModelUnavailable
from aoskernel.subsystems.llm.messages import (
    ChatMessage,
    Complete,
    Completion,
    Delta,
    Finish,
    Sampling,
    ToolSpec,
    Usage,
)
from aoskernel.subsystems.processes.messages import Origin
from aoskernel.subsystems.scheduler.service import Scheduler

GREEDY = Sampling(temperature=0)
ROUTES = {"llm.complete": {"guards": ["cache"], "default": "llm"}}


def running(
    model: Moody, cache: Cache, *others: Any, routes: Any = None
) -> Callable[[Callable[[Kernel], Coroutine[Any, Any, Any]]], Any]:
    def run(body: Callable[[Kernel], Coroutine[Any, Any, Any]]) -> Any:
        async def main() -> Any:
            async with Kernel(model, cache, *others, routes=routes or ROUTES) as kernel:
                return await body(kernel)

        return run_virtual(main)

    return run


def greedy(text: str = "hello", **more: Any) -> Complete:
    return asking(text, sampling=GREEDY, **more)


async def _ask(kernel: Kernel, ask: Complete, tenant: str | None = None) -> Completion:
    origin = None if tenant is None else Origin(pid=1, tenant=tenant)  # type: ignore[arg-type]
    return await kernel.bus.request(ask, origin=origin)


def test_a_second_call_of_the_same_words_is_answered_without_the_model() -> None:
    model = Moody()

    @running(model, Cache())
    async def _(kernel: Kernel) -> None:
        async with kernel.listen("cache.hit") as told:
            first, second = await _ask(kernel, greedy()), await _ask(kernel, greedy())
            hit = await anext(told)
        assert (first.kept, second.kept) == (False, True)
        assert second.usage == Usage(prompt=0, completion=0)
        assert second.model_copy(update={"usage": first.usage, "kept": False}) == first
        assert isinstance(hit, CacheHit)
        assert (hit.address, hit.model, hit.saved) == ("llm", "moody", first.usage)

    assert len(model.asked) == 1


def test_only_greedy_calls_are_kept_unless_the_config_says_all() -> None:
    asks = [asking(), asking(sampling=Sampling(temperature=0.5))]
    for of, expected in (("greedy", 4), ("all", 2)):
        model = Moody()

        @running(model, Cache(of=of))  # type: ignore[arg-type]
        async def _(kernel: Kernel, asks: list[Complete] = asks) -> None:
            for ask in asks + asks:
                await _ask(kernel, ask)

        assert len(model.asked) == expected


TOOL = ToolSpec(name="add", description="", parameters={"type": "object"})


@pytest.mark.parametrize(
    "other",
    [
        greedy("hello!"),
        greedy(tools=(TOOL,)),
        greedy(json_schema={"type": "string"}),
        asking(sampling=Sampling(temperature=0, max_tokens=5)),
        asking(sampling=Sampling(temperature=0, seed=1)),
        Complete(messages=(ChatMessage(role="system", text="hello"),), sampling=GREEDY),
    ],
)
def test_another_prompt_is_another_call(other: Complete) -> None:
    model = Moody()

    @running(model, Cache())
    async def _(kernel: Kernel) -> None:
        await _ask(kernel, greedy())
        assert not (await _ask(kernel, other)).kept

    assert len(model.asked) == 2


def test_the_order_of_keys_makes_no_difference() -> None:
    @running(Moody(), Cache())
    async def _(kernel: Kernel) -> None:
        await _ask(kernel, greedy(json_schema={"type": "object", "title": "x"}))
        reply = await _ask(kernel, greedy(json_schema={"title": "x", "type": "object"}))
        assert reply.kept


def test_a_tenant_never_gets_another_s_reply_unless_the_config_says_so() -> None:
    async def kept(kernel: Kernel) -> list[bool]:
        tenants = ["acme", "evil", None, "acme", "evil", None]
        return [(await _ask(kernel, greedy(), tenant)).kept for tenant in tenants]

    @running(Moody(), Cache())
    async def _(kernel: Kernel) -> None:
        assert await kept(kernel) == [False, False, False, True, True, True]

    @running(Moody(), Cache(shared_by="everyone"))
    async def shared(kernel: Kernel) -> None:
        assert await kept(kernel) == [False, True, True, True, True, True]
        await kernel.swap("cache", Cache())
        assert not (await _ask(kernel, greedy())).kept, "what was everyone's is nobody's now"


def test_another_model_at_the_address_answers_for_itself() -> None:
    @running(Moody(), Cache())
    async def _(kernel: Kernel) -> None:
        await _ask(kernel, greedy())
        await kernel.swap("llm", Moody(name="successor"))
        reply = await _ask(kernel, greedy())
        assert (reply.kept, reply.model) == (False, "successor")


def test_a_reply_is_kept_for_its_time() -> None:
    @running(Moody(), Cache(ttl_s=60))
    async def _(kernel: Kernel) -> None:
        await _ask(kernel, greedy())
        await anyio.sleep(59)
        assert (await _ask(kernel, greedy())).kept
        await anyio.sleep(2)
        assert not (await _ask(kernel, greedy())).kept, "a hit does not make it younger"


@pytest.mark.parametrize("finish", ["length", "refused"])
def test_a_reply_that_was_cut_or_refused_is_never_kept(finish: Finish) -> None:
    model = Moody(finish=finish)

    @running(model, Cache())
    async def _(kernel: Kernel) -> None:
        for _ in range(2):
            await _ask(kernel, greedy())

    assert len(model.asked) == 2


def test_an_error_is_never_kept() -> None:
    model = Moody(lambda now: ModelUnavailable("away") if now < 1 else None)

    @running(model, Cache())
    async def _(kernel: Kernel) -> None:
        with pytest.raises(ModelUnavailable):
            await _ask(kernel, greedy())
        await anyio.sleep(2)
        assert not (await _ask(kernel, greedy())).kept


def test_a_hit_takes_no_slot() -> None:
    model = Moody(slots=1)
    routes = {"llm.complete": ["cache", "scheduler"]}

    @running(model, Cache(), Scheduler(), routes=routes)
    async def _(kernel: Kernel) -> None:
        await _ask(kernel, greedy())
        model.takes_s = 100
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(_ask, kernel, greedy("other"))
            await anyio.wait_all_tasks_blocked()
            assert (await _ask(kernel, greedy())).kept
            assert kernel.bus.time() < 100


def test_whoever_reads_along_gets_the_whole_text() -> None:
    @running(Moody(reasoning="hm"), Cache())
    async def _(kernel: Kernel) -> None:
        pieces: list[Delta] = []

        async def sink(delta: Delta) -> None:
            pieces.append(delta)

        await _ask(kernel, greedy())
        await kernel.request(greedy(), sink=sink)
        told = [(piece.kind, piece.attempt, piece.offset, piece.text) for piece in pieces]
        assert told == [("reasoning", 1, 0, "hm"), ("text", 1, 0, "hello")]


async def test_in_a_process_s_log_a_hit_was_never_begun_and_is_there_all_the_same(
    system: System,
) -> None:
    @program
    async def thinker(self: Process) -> bool:
        return (await self.think("hello", temperature=0)).kept

    routes = {"llm.complete": ["policy", "cache", "failover"]}
    async with system(routes=routes, cache={}) as kernel:
        with anyio.fail_after(5):
            agents = [await spawn(kernel, thinker()) for _ in range(1)]
            assert [await agent for agent in agents] == [False]
            again = await spawn(kernel, thinker())
            assert await again is True
        (entry,) = (await log_of(kernel, again.pid)).values()
    assert (entry.attempts, entry.settled) == (0, True)


def test_a_swapped_cache_keeps_what_its_successor_has_room_for() -> None:
    @running(Moody(), Cache())
    async def _(kernel: Kernel) -> None:
        for text in "abc":
            await _ask(kernel, greedy(text))
        await kernel.swap("cache", Cache(entries=2))
        kept = [(await _ask(kernel, greedy(text))).kept for text in "cba"]
        assert kept == [True, True, False]


@given(
    st.lists(st.tuples(st.booleans(), st.integers(0, 8), st.integers(0, 300)), max_size=80),
    st.integers(1, 5),
    st.integers(100, 1500),
)
def test_a_shelf_is_bounded_and_gives_only_what_was_kept(
    steps: list[tuple[bool, int, int]], entries: int, size: int
) -> None:
    shelf, model = Shelf(entries, size), dict[bytes, str]()
    for is_kept, number, length in steps:
        key = bytes([number])
        if is_kept:
            model[key] = "x" * length
            usage = Usage(prompt=1, completion=1)
            reply = Completion(text=model[key], finish="stop", usage=usage, model="m")
            shelf.keep(key, reply, until=1.0)
            fits = len(reply.model_dump_json()) <= size
            assert (shelf.find(key, 0.0) is not None) is fits
        elif (found := shelf.find(key, 0.0)) is not None:
            assert found.text == model[key]
        assert len(shelf) <= entries
        assert 0 <= shelf.used <= size


def test_what_was_not_asked_for_longest_makes_room() -> None:
    @running(Moody(), Cache(entries=2))
    async def _(kernel: Kernel) -> None:
        kept = [(await _ask(kernel, greedy(text))).kept for text in "abacab"]
        assert kept == [False, False, True, False, True, False]


@pytest.mark.parametrize("table", [{"ttl_s": 0}, {"entries": 0}, {"size_mb": 0}])
def test_what_cannot_be_meant_is_refused(table: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="must be above 0"):
        build("cache", table)
