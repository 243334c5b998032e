"""A kernel with the small MCP server of `mcp_server.py` as its toolset `tools.tiny`."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio

from aoskernel import Kernel
from aoskernel.drivers.tools.mcp import Mcp
from aoskernel.kernel.message import Event
from aoskernel.subsystems.tools.messages import CallTool, FindTools, InspectTools, Standing
from aoskernel.subsystems.tools.service import Toolbox, Toolset

SERVER = Path(__file__).with_name("mcp_server.py")
QUICK: dict[str, Any] = {"restart_s": 0.01, "longest_restart_s": 0.01}


def command(log: Path, *quirks: str) -> tuple[str, ...]:
    return (sys.executable, "-S", "-E", str(SERVER), str(log), *quirks)


def toolset(log: Path, *quirks: str, **options: Any) -> Toolset:
    driver = Mcp(command=command(log, *quirks), **{**QUICK, **options})
    return Toolset(driver).named("tools.tiny")


def tiny(log: Path, *quirks: str, **options: Any) -> Kernel:
    """The toolset and the directory, and nothing else."""
    return Kernel(toolset(log, *quirks, **options), Toolbox())


async def called(
    kernel: Kernel, name: str, /, key: str = "", sink: Any = None, **given: Any
) -> Any:
    with anyio.fail_after(20):
        call = CallTool(name=name, arguments=given, key=key)
        return await kernel.request(call, to="tools.tiny", sink=sink)


async def names(kernel: Kernel) -> list[str]:
    with anyio.fail_after(20):
        return [tool.name for tool in await kernel.request(FindTools())]


async def standing(kernel: Kernel) -> Standing:
    return await kernel.request(InspectTools(), to="tools.tiny")


async def heard(events: Any, kind: type[Event], fits: Callable[[Any], bool] = bool) -> Any:
    """The next event of this kind that fits."""
    with anyio.fail_after(20):
        async for event in events:
            if isinstance(event, kind) and fits(event):
                return event
    raise AssertionError


def said(log: Path, method: str) -> list[dict[str, Any]]:
    """What the server was told by this method."""
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    return [line for line in lines if line.get("method") == method]
