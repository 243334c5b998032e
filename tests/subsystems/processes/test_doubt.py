"""Calls whose kernel was lost between intent and outcome: repeated, reconciled, or parked."""

from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import anyio
import pytest
from one_storage import OneStorage, log_of, processes_of, reached, until
from shop import Shop

from aoskernel import Kernel, Process, ProcessFailed, assistant, program, spawn
from aoskernel.drivers.llm.scripted import call
from aoskernel.drivers.storage.memory import MemoryStorage
from aoskernel.subsystems.processes.messages import (
    ListProcesses,
    NotInDoubt,
    Resolve,
    SyscallRepeated,
)
from aoskernel.subsystems.storage.driver import Ring
from aoskernel.subsystems.storage.messages import Pid
from aoskernel.subsystems.tools.messages import Reconciled, done, not_done

World = dict[str, Any]


@program
async def shopper(self: Process, what: str) -> str:
    return str(await self.call("buy", what=what))


async def left_in_doubt(one: OneStorage, shop: Shop, **processes: Any) -> Pid:
    """A process whose kernel went away while the shop had its call."""
    async with one.kernel(**shop.tables(processes={"drain_s": 0.0, **processes})) as kernel:
        agent = await spawn(kernel, shopper(what="tea"), key="k")
        with anyio.fail_after(20):
            await shop.reached.wait()
    shop.open.set()
    return agent.pid


async def restarted(
    one: OneStorage, shop: Shop, then: Callable[[Kernel, Pid], Awaitable[None]]
) -> None:
    async with one.kernel(**shop.tables()) as kernel:
        agent = await spawn(kernel, shopper(what="tea"), key="k")
        with anyio.fail_after(20):
            await then(kernel, agent.pid)


async def result(kernel: Kernel) -> str:
    with anyio.fail_after(20):
        return await (await spawn(kernel, shopper(what="tea"), key="k"))


@pytest.mark.parametrize("effect", ["none", "idempotent"])
async def test_what_may_be_repeated_is_done_again(effect: str) -> None:
    one, shop = OneStorage(), Shop(effect=effect)
    await left_in_doubt(one, shop)
    async with one.kernel(**shop.tables()) as kernel:
        assert await result(kernel) == "bought tea"


async def test_a_repeated_call_keeps_its_key_is_counted_and_is_told() -> None:
    one, shop = OneStorage(), Shop(effect="idempotent")
    pid = await left_in_doubt(one, shop)
    async with one.kernel(**shop.tables()) as kernel, kernel.listen("process.*") as events:
        await result(kernel)
        (entry,) = (await log_of(kernel, pid)).values()
        with anyio.fail_after(20):
            told = [await anext(events)]
            while not isinstance(told[-1], SyscallRepeated):
                told.append(await anext(events))
    assert entry.attempts == 2
    assert told[-1] == SyscallRepeated(pid=pid, key="0:0", kind="call:buy", attempts=1)


async def test_a_call_that_may_not_be_repeated_stops_its_process_and_says_why() -> None:
    one, shop = OneStorage(), Shop()
    pid = await left_in_doubt(one, shop)

    async def look(kernel: Kernel, again: Pid) -> None:
        record = await reached(kernel, again, "stopped")
        (shown,) = await kernel.request(ListProcesses())
        assert (again, shown.record) == (pid, record)
        assert record.error_kind == "OutcomeUnknown"
        assert str(record.error).startswith("nobody knows whether 'call:buy' at 0:0 was done")

    await restarted(one, shop, look)
    assert shop.orders == []


async def test_cont_alone_does_not_repeat_it() -> None:
    one, shop = OneStorage(), Shop()
    await left_in_doubt(one, shop)

    async def push(kernel: Kernel, pid: Pid) -> None:
        await reached(kernel, pid, "stopped")
        agent = await spawn(kernel, shopper(what="tea"), key="k")
        await agent.kill("CONT")
        await reached(kernel, pid, "stopped")

    await restarted(one, shop, push)
    assert shop.orders == []


async def test_a_human_says_that_it_was_done() -> None:
    one, shop = OneStorage(), Shop()
    pid = await left_in_doubt(one, shop)
    async with one.kernel(**shop.tables()) as kernel:
        agent = await spawn(kernel, shopper(what="tea"), key="k")
        await reached(kernel, pid, "stopped")
        await kernel.request(Resolve(pid=pid, outcome="done", result="bought by phone"))
        with anyio.fail_after(20):
            assert await agent == "bought by phone"
    assert shop.orders == []


async def test_a_human_says_that_it_has_failed() -> None:
    one, shop = OneStorage(), Shop()
    pid = await left_in_doubt(one, shop)
    async with one.kernel(**shop.tables()) as kernel:
        agent = await spawn(kernel, shopper(what="tea"), key="k")
        await reached(kernel, pid, "stopped")
        await kernel.request(Resolve(pid=pid, outcome="failed", error="no money"))
        with anyio.fail_after(20), pytest.raises(ProcessFailed, match="ToolFailed: no money"):
            await agent


async def test_a_human_lets_it_be_made_again() -> None:
    one, shop = OneStorage(), Shop()
    pid = await left_in_doubt(one, shop)
    async with one.kernel(**shop.tables()) as kernel:
        agent = await spawn(kernel, shopper(what="tea"), key="k")
        await reached(kernel, pid, "stopped")
        await kernel.request(Resolve(pid=pid, outcome="again"))
        with anyio.fail_after(20):
            assert await agent == "bought tea"
    assert shop.orders == ["tea"]


async def test_what_a_human_said_of_one_attempt_does_not_count_for_the_next() -> None:
    one, shop = OneStorage(), Shop()
    pid = await left_in_doubt(one, shop)
    shop.open, shop.reached = anyio.Event(), anyio.Event()
    async with one.kernel(**shop.tables(processes={"drain_s": 0.0})) as kernel:
        await spawn(kernel, shopper(what="tea"), key="k")
        await reached(kernel, pid, "stopped")
        await kernel.request(Resolve(pid=pid, outcome="again"))
        with anyio.fail_after(20):
            await shop.reached.wait()
    async with one.kernel(**shop.tables()) as kernel:
        await spawn(kernel, shopper(what="tea"), key="k")
        record = await reached(kernel, pid, "stopped")
    assert "attempts: 2" in str(record.error)


async def test_only_a_process_in_doubt_can_be_resolved() -> None:
    @program
    async def waiting(self: Process) -> None:
        await self.receive()

    async with OneStorage().kernel() as kernel:
        agent = await spawn(kernel, waiting())
        with pytest.raises(NotInDoubt, match="is in no doubt"):
            await kernel.request(Resolve(pid=agent.pid, outcome="again"))


async def test_a_tool_that_says_done_is_believed() -> None:
    one, shop = OneStorage(), Shop(reconciles=True)
    pid = await left_in_doubt(one, shop)
    shop.says = done("bought it, by the books")
    async with one.kernel(**shop.tables()) as kernel:
        assert await result(kernel) == "bought it, by the books"
    assert shop.orders == []
    assert shop.keys == [f"{pid}/0:0"]


async def test_a_tool_that_does_not_know_stops_the_process() -> None:
    one, shop = OneStorage(), Shop(reconciles=True)
    pid = await left_in_doubt(one, shop)
    async with one.kernel(**shop.tables()) as kernel:
        await spawn(kernel, shopper(what="tea"), key="k")
        await reached(kernel, pid, "stopped")


async def test_a_reconcile_that_fails_stops_the_process_and_says_so() -> None:
    def broken(key: str) -> Reconciled:
        raise RuntimeError("the books are burnt")

    one, shop = OneStorage(), Shop(reconcile=broken)
    pid = await left_in_doubt(one, shop)
    async with one.kernel(**shop.tables()) as kernel:
        await spawn(kernel, shopper(what="tea"), key="k")
        record = await reached(kernel, pid, "stopped")
    assert "the books are burnt" in str(record.error)


async def test_not_done_counts_where_the_former_kernel_has_left() -> None:
    one, shop = OneStorage(), Shop(reconciles=True)
    await left_in_doubt(one, shop)
    shop.says = not_done
    async with one.kernel(**shop.tables()) as kernel:
        assert await result(kernel) == "bought tea"
    assert shop.orders == ["tea"]


class Unheard:
    """A storage of which a kernel hears nothing, as it is frozen."""

    def __init__(self, driver: MemoryStorage) -> None:
        self._driver = driver

    async def run(self, ring: Ring) -> None:
        await anyio.sleep_forever()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._driver, name)


async def _frozen(shop: Shop, second: World) -> tuple[list[str], World]:
    """A kernel whose lease ends while it is about to act; another takes over; it thaws."""
    seen: World = {}
    memory = MemoryStorage()
    drivers: Iterator[Any] = iter([Unheard(memory), memory])
    one = OneStorage(lambda: next(drivers))
    async with one.kernel(**shop.tables()) as frozen:
        agent = await spawn(frozen, shopper(what="tea"), key="k")
        with anyio.fail_after(20):
            await shop.reached.wait()
        memory.lapse()
        async with one.kernel(**second) as taker:
            await spawn(taker, shopper(what="tea"), key="k")
            seen["taken"] = await reached(taker, agent.pid, "stopped", "exited")
            shop.open.set()  # it thaws, and goes on where it was
            await until(lambda: agent.pid not in processes_of(frozen).live)
            seen["record"] = await reached(taker, agent.pid, "stopped", "exited")
            seen["log"] = await log_of(taker, agent.pid)
    return shop.orders, seen


async def test_a_frozen_owner_s_outcome_is_fenced_and_the_taker_over_has_stopped() -> None:
    shop = Shop()
    orders, seen = await _frozen(shop, shop.tables())
    assert orders == ["tea"]  # nobody could prevent that
    assert seen["record"].state == "stopped"
    assert not seen["log"]["0:0"].settled


async def test_not_done_does_not_count_while_the_former_owner_is_only_silent() -> None:
    shop = Shop(reconciles=True)
    shop.says = not_done
    orders, seen = await _frozen(shop, shop.tables())
    assert orders == ["tea"]
    assert "has only fallen silent, and may still do it" in seen["taken"].error


async def test_not_done_counts_when_the_device_refuses_a_repeated_key() -> None:
    first = Shop(reconciles=True, refuses_repeats=True)
    second = Shop(reconciles=True, refuses_repeats=True)
    first.says = second.says = not_done
    second.open.set()
    orders, seen = await _frozen(first, second.tables())
    assert seen["taken"].state == "exited"
    assert second.orders == ["tea"]
    assert orders in ([], ["tea"])  # if it was not cut in time, the device refuses the key


async def test_what_waited_in_the_scheduler_has_no_intent() -> None:
    """Ten calls for one slot: the nine that never began are no doubt after a crash."""
    started, opened = anyio.Event(), anyio.Event()

    async def script(ask: Any) -> str:
        started.set()
        await opened.wait()
        return "re: " + ask.messages[-1].text

    @program
    async def many(self: Process) -> list[str]:
        replies = await self.parallel(*(self.think(f"{n}") for n in range(10)))
        return [reply.text for reply in replies]

    one = OneStorage()
    slots = {"scheduler": {"slots": {"llm.default": 1}}}
    async with one.kernel(script, processes={"drain_s": 0.0}, **slots) as kernel:
        agent = await spawn(kernel, many(), key="k")
        with anyio.fail_after(20):
            await started.wait()
        begun = await log_of(kernel, agent.pid)
    assert [entry.attempts for entry in begun.values()] == [1]
    opened.set()
    async with one.kernel(script, processes={"on_unknown_call": "park"}) as kernel:
        await spawn(kernel, many(), key="k")
        await reached(kernel, agent.pid, "stopped")
        await kernel.request(Resolve(pid=agent.pid, outcome="again"))
        again = await spawn(kernel, many(), key="k")
        with anyio.fail_after(20):
            assert await again == [f"re: {n}" for n in range(10)]


async def test_ten_once_calls_that_wait_for_a_slot_are_none_of_them_unknown() -> None:
    """The toolset takes one call at a time; the others stand before it, without an intent."""
    shop = Shop()
    gate = {"use": "one_slot:OneSlot"}
    routes = {"tools.call": {"guards": ["policy", "one_slot", "journal"]}}

    @program
    async def greedy(self: Process) -> list[str]:
        return await self.parallel(*(self.call("buy", what=str(n)) for n in range(10)))

    one = OneStorage()
    tables = shop.tables(processes={"drain_s": 0.0}, one_slot=gate)
    async with one.kernel(routes=routes, **tables) as kernel:
        agent = await spawn(kernel, greedy(), key="k")
        with anyio.fail_after(20):
            await shop.reached.wait()
        log = await log_of(kernel, agent.pid)
    assert [entry.key for entry in log.values()] == ["0:0.0.0"]


async def test_a_model_call_is_sent_again_once_for_each_crash() -> None:
    asked: list[str] = []
    held = anyio.Event()

    async def script(ask: Any) -> str:
        asked.append(ask.messages[-1].text)
        await held.wait()
        return "thought"

    @program
    async def thinker(self: Process) -> str:
        return (await self.think("hard")).text

    one = OneStorage()
    for crashes in range(1, 4):
        async with one.kernel(script, processes={"drain_s": 0.0}) as kernel:
            await spawn(kernel, thinker(), key="k")
            await until(lambda crashes=crashes: len(asked) == crashes)
    held.set()
    async with one.kernel(script) as kernel:
        agent = await spawn(kernel, thinker(), key="k")
        with anyio.fail_after(20):
            assert await agent == "thought"
        log = await log_of(kernel, agent.pid)
    assert len(asked) == 4
    assert log["0:0"].attempts == 4


async def test_a_model_call_in_doubt_parks_where_that_is_configured() -> None:
    asked: list[str] = []
    held = anyio.Event()

    async def script(ask: Any) -> str:
        asked.append(ask.messages[-1].text)
        await held.wait()
        return "thought"

    @program
    async def thinker(self: Process) -> str:
        return (await self.think("hard")).text

    one, parks = OneStorage(), {"drain_s": 0.0, "on_unknown_call": "park"}
    async with one.kernel(script, processes=parks) as kernel:
        agent = await spawn(kernel, thinker(), key="k")
        await until(lambda: asked)
    held.set()
    async with one.kernel(script, processes=parks) as kernel:
        again = await spawn(kernel, thinker(), key="k")
        await reached(kernel, agent.pid, "stopped")
        with pytest.raises(NotInDoubt, match="cannot be made up"):
            await kernel.request(Resolve(pid=agent.pid, outcome="done", result="x"))
        await kernel.request(Resolve(pid=agent.pid, outcome="again"))
        with anyio.fail_after(20):
            assert await again == "thought"
    assert asked == ["hard", "hard"]


async def test_own_code_that_was_cut_is_asked_for_too() -> None:
    reached_it, held = anyio.Event(), anyio.Event()
    said: list[Reconciled] = []

    @program
    async def owner(self: Process) -> str:
        async def work() -> str:
            reached_it.set()
            await held.wait()
            return "done here"

        async def reconcile() -> Reconciled:
            return said[0]

        return str(await self.run_once("own", work, reconcile=reconcile))

    one = OneStorage()
    async with one.kernel(processes={"drain_s": 0.0}) as kernel:
        await spawn(kernel, owner(), key="k")
        with anyio.fail_after(20):
            await reached_it.wait()
    said.append(done("done before"))
    async with one.kernel() as kernel:
        agent = await spawn(kernel, owner(), key="k")
        with anyio.fail_after(20):
            assert await agent == "done before"


async def test_the_model_reads_what_a_human_said_of_its_call() -> None:
    """The page of the tool's result stands in the history, and the history is valid."""
    shop = Shop()
    histories: list[list[tuple[str, str]]] = []

    def script(ask: Any) -> Any:
        histories.append([(m.role, m.text) for m in ask.messages])
        last = ask.messages[-1]
        return f"so: {last.text}" if last.role == "tool" else call("buy", what="tea")

    one = OneStorage()
    async with one.kernel(script, **shop.tables(processes={"drain_s": 0.0})) as kernel:
        await spawn(kernel, assistant(task="buy tea"), key="k")
        with anyio.fail_after(20):
            await shop.reached.wait()
    async with one.kernel(script, **shop.tables()) as kernel:
        agent = await spawn(kernel, assistant(task="buy tea"), key="k")
        await reached(kernel, agent.pid, "stopped")
        await kernel.request(Resolve(pid=agent.pid, outcome="done", result="two bags"))
        with anyio.fail_after(20):
            assert await agent == "so: two bags"
    assert [role for role, _ in histories[-1]] == ["system", "user", "assistant", "tool"]
