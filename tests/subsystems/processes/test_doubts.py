"""Several calls of a process in doubt: all are known at once, and resolved one by one or together."""

from collections import defaultdict
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

import anyio
import pytest
from one_storage import OneStorage, log_of, processes_of, reached, until
from shop import PYTHON

from aoskernel import Kernel, KernelError, Process, program, spawn, tool
from aoskernel.subsystems.processes.messages import (
    DoubtfulCall,
    ListDoubts,
    NotInDoubt,
    ProcessExited,
    Resolve,
    Send,
    SyscallRepeated,
)
from aoskernel.subsystems.storage.messages import Pid
from aoskernel.subsystems.tools.messages import Reconciled, unknown


class Market:
    """The outside world. A call for something ends when that is let go; nobody knows of a seat
    whether it was reserved, and saying so takes until it `may_say`.
    """

    def __init__(self) -> None:
        self.begun: list[str] = []
        self.done: list[str] = []
        self.may_say = anyio.Event()
        self._let_go: dict[str, anyio.Event] = defaultdict(anyio.Event)

        async def buy(what: str) -> str:
            return await self._take(what)

        async def reserve(what: str) -> str:
            return await self._take(what)

        async def look_up(what: str) -> str:
            return await self._take(what)

        async def became(key: str) -> Reconciled:
            await self.may_say.wait()
            return unknown

        self._tools = tool(buy), tool(reconcile=became)(reserve), tool(effect="idempotent")(look_up)

    async def _take(self, what: str) -> str:
        self.begun.append(what)
        await self._let_go[what].wait()
        self.done.append(what)
        return f"{what}: done"

    def let_go(self, *items: str) -> None:
        for what in items:
            self._let_go[what].set()

    def tables(self, **more: Any) -> dict[str, dict[str, Any]]:
        return {"tools.market": {"driver": PYTHON, "functions": list(self._tools)}, **more}


async def lost(one: OneStorage, what: Any, *begun: str, script: Any = None) -> Pid:
    """A process whose kernel went away while these calls were under way."""
    market = Market()
    tables = market.tables(processes={"drain_s": 0.0})
    async with one.kernel(script, **tables) as kernel:
        agent = await spawn(kernel, what, key="k")
        await until(lambda: sorted(market.begun) == sorted(begun))
    return agent.pid


async def keys(kernel: Kernel, pid: Pid | None = None) -> list[str]:
    return [call.key for call in await kernel.request(ListDoubts(pid=pid))]


@program
async def ten(self: Process) -> list[Any]:
    return await self.parallel(*(self.call("buy", what=str(n)) for n in range(10)))


TEN = [str(n) for n in range(10)]
KEYS = [f"0:0.{n}.0" for n in range(10)]


async def test_all_calls_that_are_in_doubt_are_known_at_once() -> None:
    one, market = OneStorage(), Market()
    pid = await lost(one, ten(), *TEN)
    async with one.kernel(**market.tables()) as kernel:
        await spawn(kernel, ten(), key="k")
        record = await reached(kernel, pid, "stopped")
        doubts = await kernel.request(ListDoubts())
    assert [call.key for call in doubts] == KEYS
    assert doubts[0] == DoubtfulCall(
        pid=pid,
        key="0:0.0.0",
        kind="call:buy",
        attempts=1,
        why="the tool cannot say what became of it",
    )
    assert all(f"'call:buy' at {key} was done" in str(record.error) for key in KEYS)
    assert market.begun == []


async def test_a_process_goes_on_when_its_last_call_in_doubt_is_resolved() -> None:
    one, market = OneStorage(), Market()
    pid = await lost(one, ten(), *TEN)
    async with one.kernel(**market.tables()) as kernel:
        agent = await spawn(kernel, ten(), key="k")
        await reached(kernel, pid, "stopped")
        for number, key in enumerate(KEYS):
            assert await keys(kernel, pid) == KEYS[number:]
            record = await reached(kernel, pid, "stopped")
            assert [k for k in KEYS if f" at {k} " in str(record.error)] == KEYS[number:]
            said = Resolve(pid=pid, outcome="done", result=f"seen {number}", keys=(key,))
            await kernel.request(said)
        with anyio.fail_after(20):
            assert await agent == [f"seen {n}" for n in range(10)]
        assert await keys(kernel) == []
    assert market.begun == []


async def test_several_are_resolved_together() -> None:
    one, market = OneStorage(), Market()
    pid = await lost(one, ten(), *TEN)
    market.let_go(*TEN)
    async with one.kernel(**market.tables()) as kernel:
        agent = await spawn(kernel, ten(), key="k")
        await reached(kernel, pid, "stopped")
        await kernel.request(Resolve(pid=pid, outcome="done", result="so", keys=tuple(KEYS[:7])))
        await kernel.request(Resolve(pid=pid, outcome="again", keys=tuple(KEYS[7:])))
        with anyio.fail_after(20):
            assert await agent == 7 * ["so"] + ["7: done", "8: done", "9: done"]
    assert sorted(market.done) == ["7", "8", "9"]


async def test_one_of_several_must_be_named_and_be_in_doubt() -> None:
    one, market = OneStorage(), Market()
    pid = await lost(one, ten(), *TEN)
    async with one.kernel(**market.tables()) as kernel:
        await spawn(kernel, ten(), key="k")
        await reached(kernel, pid, "stopped")
        with pytest.raises(NotInDoubt, match=r"of 10 calls; say which .* 0:0\.0\.0, 0:0\.1\.0"):
            await kernel.request(Resolve(pid=pid, outcome="again"))
        with pytest.raises(NotInDoubt, match=r"at 0:7 is in doubt; there are: 0:0\.0\.0"):
            await kernel.request(Resolve(pid=pid, outcome="again", keys=("0:7",)))
        assert len(await keys(kernel, pid)) == 10


async def test_what_was_resolved_stays_so_when_the_others_are_not_yet(one: OneStorage) -> None:
    pid = await lost(one, ten(), *TEN)
    async with one.kernel(**Market().tables()) as kernel:
        await spawn(kernel, ten(), key="k")
        await reached(kernel, pid, "stopped", seconds=15)
        said = Resolve(pid=pid, outcome="done", result="seen", keys=tuple(KEYS[:9]))
        await kernel.request(said)
    async with one.kernel(**Market().tables()) as kernel:
        agent = await spawn(kernel, ten(), key="k")
        assert await keys(kernel) == KEYS[9:]
        await kernel.request(Resolve(pid=pid, outcome="failed", error="sold out"))
        with anyio.fail_after(15), pytest.raises(Exception, match="sold out"):
            await agent
        log = await log_of(kernel, pid)
        assert [log[key].body for key in KEYS[:9]] == 9 * ['"seen"']


# What is under way beside a call in doubt


@program
async def errands(self: Process) -> list[Any]:
    """A seat whose outcome nobody will know; and beside it others, each when a letter comes."""

    async def later(*items: str) -> list[Any]:
        await self.receive()
        return [await self.call("buy", what=what) for what in items]

    seat = self.call("reserve", what="seat")
    return await self.parallel(seat, later("tea", "cake"), later("milk"))


async def doubting(kernel: Kernel, market: Market, pid: Pid) -> None:
    """Let it be told that nobody knows of the seat, while it has begun something else."""
    market.may_say.set()
    await until(lambda: processes_of(kernel).live[pid].doubts)


async def while_buying(
    one: OneStorage, market: Market, then: Callable[[Kernel, Pid], Awaitable[None]]
) -> None:
    """The tea is being bought when the seat turns out to be in doubt."""
    pid = await lost(one, errands(), "seat")
    async with one.kernel(**market.tables()) as kernel:
        await spawn(kernel, errands(), key="k")
        await kernel.request(Send(to=pid, body=1))
        await until(lambda: market.begun == ["tea"])
        await doubting(kernel, market, pid)
        await then(kernel, pid)


async def test_a_call_under_way_ends_before_the_process_stops() -> None:
    market = Market()

    async def look(kernel: Kernel, pid: Pid) -> None:
        await anyio.wait_all_tasks_blocked()
        assert (await reached(kernel, pid, "running")).error is None
        market.let_go("tea")
        await reached(kernel, pid, "stopped")
        assert (await log_of(kernel, pid))["0:0.1.1"].body == '"tea: done"'
        assert await keys(kernel) == ["0:0.0.0"]

    await while_buying(OneStorage(), market, look)


async def test_nothing_new_begins_beside_a_call_in_doubt() -> None:
    market = Market()

    async def look(kernel: Kernel, pid: Pid) -> None:
        await kernel.request(Send(to=pid, body=2))  # for the one who buys milk
        market.let_go("tea", "cake", "milk")
        await reached(kernel, pid, "stopped")
        log = await log_of(kernel, pid)
        assert "0:0.1.2" not in log
        assert "0:0.2.1" not in log

    await while_buying(OneStorage(), market, look)
    assert market.begun == ["tea"]


async def test_nothing_that_stays_inside_begins_either() -> None:
    @program
    async def diary(self: Process) -> Any:
        async def write() -> None:
            await self.receive()
            await self.remember("we have tea")

        async def buy() -> Any:
            await self.receive()
            return await self.call("buy", what="tea")

        return await self.parallel(self.call("reserve", what="seat"), buy(), write())

    one, market = OneStorage(), Market()
    pid = await lost(one, diary(), "seat")
    async with one.kernel(**market.tables()) as kernel:
        await spawn(kernel, diary(), key="k")
        await kernel.request(Send(to=pid, body=1))
        await until(lambda: market.begun == ["tea"])
        await doubting(kernel, market, pid)
        await kernel.request(Send(to=pid, body=2))
        await until(lambda: processes_of(kernel).live[pid].open == 1)  # the letter is read
        market.let_go("tea")
        await reached(kernel, pid, "stopped")
        log = await log_of(kernel, pid)
    settled = {entry.key for entry in log.values() if entry.settled}
    assert settled == {"0:0.1.0", "0:0.1.1", "0:0.2.0"}


async def test_a_process_that_was_in_doubt_goes_on_where_its_other_arms_were() -> None:
    market = Market()

    async def go_on(kernel: Kernel, pid: Pid) -> None:
        market.let_go("tea", "cake", "milk")
        await reached(kernel, pid, "stopped")
        await kernel.request(Send(to=pid, body=2))
        await kernel.request(Resolve(pid=pid, outcome="done", result="A7"))
        with anyio.fail_after(20):
            told = await (await spawn(kernel, errands(), key="k"))
        assert told == ["A7", ["tea: done", "cake: done"], ["milk: done"]]

    await while_buying(OneStorage(), market, go_on)
    assert sorted(market.done) == ["cake", "milk", "tea"]


async def test_what_waits_for_a_slot_beside_a_call_in_doubt_never_begins() -> None:
    @program
    async def greedy(self: Process) -> list[Any]:
        others = (self.call("look_up", what=what) for what in ("tea", "milk", "cake"))
        return await self.parallel(self.call("reserve", what="seat"), *others)

    one, market = OneStorage(), Market()
    gate = {"one_slot": {"use": "one_slot:OneSlot"}}
    routes = {"tools.call": {"guards": ["policy", "one_slot", "journal"]}}
    held = Market()
    first = held.tables(processes={"drain_s": 0.0}, **gate)
    async with one.kernel(routes=routes, **first) as kernel:
        agent = await spawn(kernel, greedy(), key="k")
        await until(lambda: held.begun == ["seat"])
    async with one.kernel(routes=routes, **market.tables(), **gate) as kernel:
        await spawn(kernel, greedy(), key="k")
        await until(lambda: market.begun)
        await doubting(kernel, market, agent.pid)
        market.let_go("tea", "milk", "cake")
        await reached(kernel, agent.pid, "stopped")
        log = await log_of(kernel, agent.pid)
    assert market.begun == ["tea"]
    assert [(entry.key, entry.settled) for entry in log.values()] == [
        ("0:0.0.0", False),
        ("0:0.1.0", True),
    ]


async def test_a_call_that_may_be_repeated_is_not_while_another_is_in_doubt() -> None:
    @program
    async def both(self: Process) -> list[Any]:
        return await self.parallel(self.call("buy", what="tea"), self.call("look_up", what="price"))

    one, market = OneStorage(), Market()
    pid = await lost(one, both(), "tea", "price")
    market.let_go("tea", "price")
    async with one.kernel(**market.tables()) as kernel, kernel.listen("process.*") as events:
        agent = await spawn(kernel, both(), key="k")
        await reached(kernel, pid, "stopped")
        assert market.begun == []
        assert await keys(kernel) == ["0:0.0.0"]
        await kernel.request(Resolve(pid=pid, outcome="again"))
        with anyio.fail_after(20):
            assert await agent == ["tea: done", "price: done"]
            told = [await anext(events)]
            while not isinstance(told[-1], ProcessExited):
                told.append(await anext(events))
    repeated = [event.key for event in told if isinstance(event, SyscallRepeated)]
    assert sorted(repeated) == ["0:0.0.0", "0:0.1.0"]


async def test_who_only_waits_beside_a_call_in_doubt_does_not_hold_it() -> None:
    """Of all places: the arms behind the one that waits find their doubts too."""

    @program
    async def waiter(self: Process) -> Any:
        calls = (self.call("buy", what=what) for what in ("tea", "milk"))
        nested = self.parallel(*calls)
        return await self.parallel(self.sleep(3600), self.receive(), nested)

    one, market = OneStorage(), Market()
    pid = await lost(one, waiter(), "tea", "milk")
    async with one.kernel(**market.tables()) as kernel:
        await spawn(kernel, waiter(), key="k")
        await reached(kernel, pid, "stopped")
        assert await keys(kernel) == ["0:0.2.0.0.0", "0:0.2.0.1.0"]


async def test_an_arm_that_does_nothing_does_not_hold_it_either() -> None:
    async def idle() -> None:
        """No syscall."""

    @program
    async def waiter(self: Process) -> Any:
        return await self.parallel(self.sleep(3600), self.call("buy", what="tea"), idle())

    one, market = OneStorage(), Market()
    pid = await lost(one, waiter(), "tea")
    async with one.kernel(**market.tables()) as kernel:
        await spawn(kernel, waiter(), key="k")
        await reached(kernel, pid, "stopped")


async def test_in_a_race_what_is_under_way_beside_a_call_in_doubt_ends_too() -> None:
    @program
    async def racer(self: Process) -> Any:
        async def other() -> Any:
            await self.receive()
            return await self.call("buy", what="tea")

        return await self.race(self.call("reserve", what="seat"), other())

    one, market = OneStorage(), Market()
    pid = await lost(one, racer(), "seat")
    async with one.kernel(**market.tables()) as kernel:
        agent = await spawn(kernel, racer(), key="k")
        await kernel.request(Send(to=pid, body=1))
        await until(lambda: market.begun == ["tea"])
        await doubting(kernel, market, pid)
        market.let_go("tea")
        await reached(kernel, pid, "stopped")
        assert (await log_of(kernel, pid))["0:0.1.1"].settled
        await kernel.request(Resolve(pid=pid, outcome="done", result="A7"))
        with anyio.fail_after(20):
            assert await agent in ("A7", "tea: done")
    assert market.done == ["tea"]


async def test_a_kernel_that_ends_meanwhile_leaves_the_process_stopped() -> None:
    market, one = Market(), OneStorage()
    pid = await lost(one, errands(), "seat")
    async with one.kernel(**market.tables(processes={"drain_s": 0.0})) as kernel:
        await spawn(kernel, errands(), key="k")
        await kernel.request(Send(to=pid, body=1))
        await until(lambda: market.begun == ["tea"])
        await doubting(kernel, market, pid)
    async with one.kernel(**Market().tables()) as kernel:
        record = await reached(kernel, pid, "stopped")
        assert (record.error_kind, await keys(kernel)) == ("OutcomeUnknown", ["0:0.0.0"])


async def test_a_process_in_doubt_can_still_be_killed() -> None:
    async def kill(kernel: Kernel, pid: Pid) -> None:
        agent = await spawn(kernel, errands(), key="k")
        await agent.kill("KILL")
        await reached(kernel, pid, "killed")
        assert await keys(kernel) == []

    await while_buying(OneStorage(), Market(), kill)


# What the program itself has cut


async def test_what_an_error_has_cut_is_in_no_doubt_later() -> None:
    """The error is in the log, and the program has gone on with it."""

    @program
    async def hasty(self: Process) -> str:
        told = ""
        try:
            await self.parallel(self.call("buy", what="tea"), self.call("no_such_tool"))
        except KernelError as error:
            told = str(error)
        await self.receive()
        return told

    one, market = OneStorage(), Market()
    async with one.kernel(**market.tables()) as kernel:
        agent = await spawn(kernel, hasty(), key="k")
        await until(lambda: processes_of(kernel).live[agent.pid].only_waits)
    async with one.kernel(**market.tables()) as kernel:
        again = await spawn(kernel, hasty(), key="k")
        await kernel.request(Send(to=agent.pid, body=1))
        with anyio.fail_after(20):
            assert "no_such_tool" in await again
    assert market.begun == ["tea"]


async def test_an_error_that_is_not_made_again_is_a_difference() -> None:
    broken = [True]

    @program
    async def hasty(self: Process) -> None:
        async def check() -> None:
            if broken:
                raise ValueError("broken")

        with suppress(ValueError):
            await self.parallel(self.call("buy", what="tea"), check())
        await self.receive()

    one, market = OneStorage(), Market()
    async with one.kernel(**market.tables()) as kernel:
        agent = await spawn(kernel, hasty(), key="k")
        await until(lambda: processes_of(kernel).live[agent.pid].only_waits)
    broken.clear()
    async with one.kernel(**market.tables()) as kernel:
        await spawn(kernel, hasty(), key="k")
        await kernel.request(Send(to=agent.pid, body=1))
        record = await reached(kernel, agent.pid, "stopped")
    assert record.error_kind == "ProgramDiverged"
    assert "at 0:0 arm 1 of 'parallel' failed in the log" in str(record.error)
