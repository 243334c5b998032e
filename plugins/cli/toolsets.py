"""`aosk tools`: the configured toolsets, how each stands, and what it offers."""

from pathlib import Path
from typing import Any

import anyio

from ...kernel import Kernel, Service
from ...kernel.config import Config
from ...kernel.errors import KernelError
from ...subsystems.tools.messages import InspectTools, ListTools
from . import loop, output
from .choice import find
from .exits import ExitCode

DESCRIBED = 60
"""Characters of a description in the table; --json has all of it."""


def show(config_file: Path | None, *, as_json: bool) -> int:
    """Start every toolset, and nothing else. One that does not start is told of, not an end."""
    toolsets = loop.run(_toolsets, Config.load(find(config_file)))
    failed = any(toolset["state"] == "failed" for toolset in toolsets)
    if as_json:
        output.document({"ok": not failed, "toolsets": toolsets})
    else:
        _print(toolsets)
    return ExitCode.FAILED if failed else ExitCode.OK


async def _toolsets(config: Config) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    async with anyio.create_task_group() as tasks:
        for service in config.build():
            if any(handled.message is InspectTools for handled in service.__handled__):
                tasks.start_soon(_look, service, found)
    return sorted(found, key=lambda toolset: str(toolset["address"]))


async def _look(service: Service, found: list[dict[str, Any]]) -> None:
    about: dict[str, Any] = {"address": service.address, "left_out": {}, "tools": []}
    try:
        async with Kernel(service) as kernel:
            standing = await kernel.request(InspectTools())
            about.update(standing.model_dump())
            about["tools"] = [
                {"name": tool.name, "effect": tool.effect, "description": tool.spec.description}
                for tool in await kernel.request(ListTools())
            ]
    except KernelError as error:
        about.update(state="failed", about=str(error))
    found.append(about)


def _print(toolsets: list[dict[str, Any]]) -> None:
    rows = [(t["address"], t["state"], str(len(t["tools"])), t["about"]) for t in toolsets]
    output.table(("toolset", "state", "tools", "about"), rows)
    print()
    tools = sorted(
        (tool["name"], tool["effect"], toolset["address"], _short(tool["description"]))
        for toolset in toolsets
        for tool in toolset["tools"]
    )
    output.table(("tool", "effect", "toolset", "description"), tools)
    left_out = [item for toolset in toolsets for item in toolset["left_out"].items()]
    if left_out:
        print("\nLeft out:")
        output.facts(sorted(left_out))


def _short(text: str) -> str:
    first = text.partition("\n")[0]
    return first if len(first) <= DESCRIBED else first[: DESCRIBED - 1] + "…"
