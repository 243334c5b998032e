"""MCP servers that die: what becomes of calls, and that nothing is left behind."""

import os
import signal
from pathlib import Path

import anyio
import anyio.lowlevel
import pytest
from tiny_mcp import called, command, heard, names, said, standing, tiny, toolset

from aoskernel import Kernel
from aoskernel.drivers.tools.mcp import Mcp
from aoskernel.subsystems.breaker.circuit import Rules
from aoskernel.subsystems.breaker.messages import CircuitOpen
from aoskernel.subsystems.breaker.service import Breaker
from aoskernel.subsystems.tools.messages import OutcomeLost, ToolAway, ToolsetAway, ToolsetUp
from aoskernel.subsystems.tools.service import Toolbox, Toolset


def children() -> set[int]:
    """Processes of ours, zombies too."""
    mine = Path(f"/proc/{os.getpid()}/task").glob("*/children")
    return {int(pid) for file in mine for pid in file.read_text().split()}


def open_files() -> int:
    return len(os.listdir("/proc/self/fd"))


def tasks() -> set[str]:
    return {str(task.name) for task in anyio.get_running_tasks()}


async def test_a_call_under_way_when_its_server_dies_has_no_known_outcome(tmp_path: Path) -> None:
    async with tiny(tmp_path / "log") as kernel, kernel.listen("tools.*") as events:
        with pytest.raises(OutcomeLost, match="the server has ended in the middle of it"):
            await called(kernel, "die")
        assert (await heard(events, ToolsetAway)).address == "tools.tiny"
        assert (await heard(events, ToolsetUp)).about == "tiny 1, MCP 2025-11-25"
        assert await called(kernel, "echo", text="back") == "back"


async def test_a_call_while_the_server_is_away_has_not_happened(tmp_path: Path) -> None:
    log = tmp_path / "log"
    async with tiny(log, restart_s=60, longest_restart_s=60, start_s=0.3) as kernel:
        with pytest.raises(OutcomeLost):
            await called(kernel, "die")
        with pytest.raises(ToolAway, match="cannot be reached"):
            await called(kernel, "echo", text="hello?")
        assert (await standing(kernel)).state == "away"
        assert "echo" in await names(kernel)  # the list is that of the last connection


async def test_a_tool_that_loses_its_server_opens_its_circuit_alone(tmp_path: Path) -> None:
    breaker = Breaker(rules=Rules(window_calls=2, least_calls=2))
    routes = {"tools.call": ["breaker"]}
    async with Kernel(toolset(tmp_path / "log"), Toolbox(), breaker, routes=routes) as kernel:
        for _ in range(2):
            with pytest.raises(OutcomeLost):
                await called(kernel, "die")
        with pytest.raises(CircuitOpen):
            await called(kernel, "die")
        assert await called(kernel, "echo", text="well") == "well"


async def test_an_idle_server_that_dies_is_started_again(tmp_path: Path) -> None:
    before = children()
    async with tiny(tmp_path / "log") as kernel, kernel.listen("tools.up") as events:
        (server,) = children() - before
        os.kill(server, signal.SIGKILL)
        await heard(events, ToolsetUp)
        assert await called(kernel, "echo", text="back") == "back"
        (second,) = children() - before

    assert second != server
    assert children() == before


async def test_what_a_server_has_started_ends_with_it(tmp_path: Path) -> None:
    script = f'sleep 1000 & echo $! > {tmp_path}/pid; exec "$@"'
    wrapped = ("sh", "-c", script, "sh", *command(tmp_path / "log"))
    async with Kernel(Toolset(Mcp(command=wrapped)).named("tools.tiny"), Toolbox()) as kernel:
        assert await called(kernel, "echo", text="hi") == "hi"
    sleeper = int((tmp_path / "pid").read_text())
    with anyio.fail_after(20):
        while Path(f"/proc/{sleeper}").exists() and "Z" not in _state(sleeper):
            await anyio.lowlevel.checkpoint()


def _state(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return "Z"


async def many(log: Path, calls: int, deaths: int) -> None:
    """Calls in groups; the server is killed in the midst of each group."""
    before, files, running = children(), open_files(), tasks()
    outcomes: list[str] = []

    async with Kernel(toolset(log), Toolbox()) as kernel, kernel.listen("tools.away") as aways:

        async def call(number: int) -> None:
            try:
                outcomes.append(await called(kernel, "echo", text=str(number)))
            except OutcomeLost as error:
                outcomes.append(type(error).__name__)

        async def kill_in_the_midst() -> None:
            had = len(outcomes)
            while len(outcomes) < had + 2:
                await anyio.lowlevel.checkpoint()
            (server,) = children() - before
            os.kill(server, signal.SIGKILL)
            await heard(aways, ToolsetAway)

        for group in range(deaths):
            async with anyio.create_task_group() as under_way:
                under_way.start_soon(kill_in_the_midst)
                for number in range(group, calls, deaths):
                    under_way.start_soon(call, number)
        assert await called(kernel, "echo", text="alive") == "alive"
    assert len(outcomes) == calls
    assert 0 < outcomes.count("OutcomeLost") < calls
    assert len(said(log, "initialize")) == deaths + 1
    assert (children(), tasks()) == (before, running)
    assert open_files() == files


async def test_calls_across_restarts_leave_nothing_behind(tmp_path: Path) -> None:
    with anyio.fail_after(60):
        await many(tmp_path / "log", calls=40, deaths=3)


@pytest.mark.slow
async def test_five_hundred_calls_across_twenty_restarts_leave_nothing_behind(
    tmp_path: Path,
) -> None:
    with anyio.fail_after(240):
        await many(tmp_path / "log", calls=500, deaths=20)
