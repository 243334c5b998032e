"""Calls that a model asks for at once: side by side, or in their order where they would clash."""

from collections.abc import Sequence
from contextlib import suppress
from types import SimpleNamespace
from typing import Annotated, Any

import anyio
import anyio.lowlevel
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from system import System

from aoskernel import Process, assistant, program, spawn
from aoskernel.drivers.llm.scripted import call
from aoskernel.kernel.testing import run_virtual
from aoskernel.subsystems.llm.messages import ToolCall, ToolSpec
from aoskernel.subsystems.processes.conflicts import Order, clash
from aoskernel.subsystems.processes.syscall import Suspended
from aoskernel.subsystems.storage.messages import ReadLog
from aoskernel.subsystems.tools.messages import Tool, Touch
from aoskernel.subsystems.tools.tool import Touches, tool

Path = Annotated[str, Touches("path", "write")]


async def said_in_one_reply(system: System, *calls: Any, **functions: Any) -> str:
    """What the assistant answers when the model asks for all of these at once."""

    def script(ask: Any) -> Any:
        results = [m.text for m in ask.messages if m.role == "tool"]
        return " ".join(sorted(results)) if results else list(calls)

    tools = {"driver": "python", "functions": tuple(functions.values())}
    async with system(script, **{"tools.made": tools}) as kernel:
        with anyio.fail_after(5):
            return str(await (await spawn(kernel, assistant(task="go"))))


async def test_calls_that_do_not_clash_run_side_by_side(system: System) -> None:
    here = {"a": anyio.Event(), "b": anyio.Event()}

    @tool
    async def meet(path: Path) -> str:
        """Wait for the other."""
        here[path].set()
        await here["b" if path == "a" else "a"].wait()
        return path

    calls = call("meet", path="a"), call("meet", path="b")
    assert await said_in_one_reply(system, *calls, meet=meet) == "a b"


async def test_calls_that_clash_run_in_the_model_s_order(system: System) -> None:
    said: list[str] = []

    @tool
    async def write(path: Path, text: str) -> str:
        """Write."""
        said.append(f"begins {text}")
        for _ in range(5):
            await anyio.lowlevel.checkpoint()
        said.append(f"ends {text}")
        return text

    calls = [call("write", path=f"notes/{'.' * n}/x", text=str(n)) for n in (0, 1)]
    calls.append(call("write", path="notes", text="2"))
    assert await said_in_one_reply(system, *calls, write=write) == "0 1 2"
    assert said == [f"{what} {n}" for n in range(3) for what in ("begins", "ends")]


async def test_what_says_nothing_of_what_it_touches_keeps_its_order(system: System) -> None:
    said: list[int] = []

    @tool
    async def send(number: int) -> int:
        """Send; the first takes longest."""
        for _ in range(10 - 3 * number):
            await anyio.lowlevel.checkpoint()
        said.append(number)
        return number

    await said_in_one_reply(system, *(call("send", number=n) for n in range(3)), send=send)
    assert said == [0, 1, 2]


async def test_a_call_that_fails_does_not_keep_the_next_from_its_turn(system: System) -> None:
    @tool
    async def write(path: Path) -> str:
        """Write."""
        if not path:
            raise ValueError("no path")
        return path

    answer = await said_in_one_reply(
        system, call("write", path=""), call("write", path="."), call("gone"), write=write
    )
    assert answer.startswith(". error: no tool 'gone'")
    assert "no path" in answer


async def test_a_program_gets_the_results_in_the_model_s_order(system: System) -> None:
    @tool(effect="none")
    async def echo(word: str) -> str:
        """Say it."""
        await anyio.sleep(0 if word == "b" else 0.01)
        return word

    @program
    async def ask(self: Process) -> list[Any]:
        reply = await self.think("go", tools=None)
        return await self.attempt_all(reply.tool_calls)

    tools = {"driver": "python", "functions": (echo,)}
    words = [call("echo", word=word) for word in "abc"]
    async with system(lambda _: words, **{"tools.made": tools}) as kernel:
        with anyio.fail_after(5):
            assert await (await spawn(kernel, ask())) == ["a", "b", "c"]


async def test_the_keys_in_the_log_are_those_of_a_parallel_whatever_clashes(
    system: System,
) -> None:
    @tool
    async def send(number: int) -> int:
        """Send."""
        return number

    @program
    async def in_order(self: Process) -> None:
        await self.attempt_all((await self.think("go", tools=None)).tool_calls)

    @program
    async def side_by_side(self: Process) -> None:
        reply = await self.think("go", tools=None)
        await self.parallel(*(self.attempt(call) for call in reply.tool_calls))

    tools = {"driver": "python", "functions": (send,)}
    script = [call("send", number=n) for n in range(3)]
    keys = []
    async with system(lambda _: script, **{"tools.made": tools}) as kernel:
        with anyio.fail_after(5):
            for agent in [await spawn(kernel, made()) for made in (in_order, side_by_side)]:
                await agent
                log = await kernel.request(ReadLog(pid=agent.pid))
                keys.append(sorted((e.key, e.kind, e.fingerprint) for e in log))
    assert len(keys[0]) == 4
    assert keys[0] == keys[1]


# The rule itself


def made(effect: Any, access: Any = None, address: str = "tools.a", kind: Any = "path") -> Tool:
    touches = () if access is None else (Touch(argument="at", kind=kind, access=access),)
    spec = ToolSpec(name="t", description="", parameters={})
    return Tool(spec=spec, effect=effect, address=address, touches=touches)


def asking(at: str = "x") -> ToolCall:
    return ToolCall(id="1", name="t", arguments={"at": at})


WRITE, READ = made("idempotent", "write"), made("none", "read")
PAY = made("once", "spend", kind="spend")


@pytest.mark.parametrize(
    ("one", "here", "other", "there", "clashes"),
    [
        (WRITE, "a", WRITE, "a", True),
        (WRITE, "a", READ, "a", True),
        (READ, "a", READ, "a", False),
        (WRITE, "a", WRITE, "b", False),
        (WRITE, "a/b", READ, "a", True),
        (WRITE, "a/b", READ, "a/bc", False),
        (WRITE, "a/../b", WRITE, "./b/", True),
        (WRITE, "B", WRITE, "b", True),
        (WRITE, "café", READ, "cafe\u0301", True),
        (WRITE, "a", made("idempotent", "delete", address="tools.b"), "a", True),
        (WRITE, "a", made("once", "write", kind="url"), "a", False),
        (made("once"), "", made("once"), "", True),
        (made("once"), "", made("none"), "", True),
        (made("none"), "", made("none"), "", False),
        (made("once"), "", made("once", address="tools.b"), "", False),
        (made("once"), "", READ, "a", True),
        (PAY, "1", PAY, "2", True),
        (PAY, "1", WRITE, "1", False),
    ],
)
def test_two_calls_clash(one: Tool, here: str, other: Tool, there: str, clashes: bool) -> None:
    calls = (one, asking(here)), (other, asking(there))
    assert clash(*calls) is clash(*calls[::-1]) is clashes


@settings(max_examples=60, deadline=None)
@given(
    at=st.lists(st.tuples(st.sampled_from("ab"), st.booleans(), st.integers(0, 4)), max_size=8),
    suspended=st.integers(0, 12),
)
def test_no_two_that_clash_ever_overlap_and_each_gets_its_turn(
    at: Sequence[tuple[str, bool, int]], suspended: int
) -> None:
    tools = {"w": WRITE, "r": READ}
    calls = [ToolCall(id="", name="w" if w else "r", arguments={"at": a}) for a, w, _ in at]
    live: Any = SimpleNamespace(open=0)
    running: set[int] = set()
    done: list[int] = []

    async def main() -> None:
        order = Order(live, calls, tools)

        async def work(n: int) -> None:
            for other in running:
                assert not clash(
                    (tools[calls[n].name], calls[n]), (tools[calls[other].name], calls[other])
                )
            running.add(n)
            await anyio.sleep(at[n][2])
            running.remove(n)
            done.append(n)
            if n == suspended:
                raise Suspended

        async def run(n: int) -> None:
            with suppress(Suspended):
                await order.run(n, lambda: work(n))

        with anyio.fail_after(100):
            async with anyio.create_task_group() as tasks:
                for n in range(len(calls)):
                    tasks.start_soon(run, n)

    run_virtual(main)
    assert sorted(done) == list(range(len(calls)))
    assert live.open == 0
