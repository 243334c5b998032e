"""The MCP servers of a file as other clients write it."""

import json
from pathlib import Path
from typing import Any

import pytest
from tiny_mcp import called, command, names

from aoskernel import ConfigError, Kernel
from aoskernel.kernel.config import build
from aoskernel.subsystems.tools.messages import FindTools, UnknownTool
from aoskernel.subsystems.tools.service import Toolbox


def written(folder: Path, **servers: Any) -> str:
    (folder / ".mcp.json").write_text(json.dumps({"mcpServers": servers}))
    return str(folder / ".mcp.json")


def server(folder: Path, **more: Any) -> dict[str, Any]:
    program, *rest = command(folder / "log")
    return {"type": "stdio", "command": program, "args": rest, **more}


async def test_each_server_s_tools_bear_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOKEN_OF_MINE", "t0ken")
    env = {"TOKEN": "${TOKEN_OF_MINE}", "OTHER": "${NOT_SET:-none}"}
    off = server(tmp_path, disabled=True)
    file = written(tmp_path, one=server(tmp_path, env=env), two=server(tmp_path), off=off)
    table = {"driver": "mcp_json", "file": file, "effects": {"two_echo": "none"}}

    async with Kernel(build("tools.tiny", table), Toolbox()) as kernel:
        assert {name.partition("_")[0] for name in await names(kernel)} == {"one", "two"}
        effects = {t.name: t.effect for t in await kernel.request(FindTools())}
        given = json.loads(await called(kernel, "one_env"))
        assert await called(kernel, "two_echo", text="hi") == "hi"
        with pytest.raises(UnknownTool):
            await called(kernel, "off_echo", text="hi")

    assert (effects["one_echo"], effects["two_echo"]) == ("once", "none")
    assert (given["TOKEN"], given["OTHER"]) == ("t0ken", "none")


@pytest.mark.parametrize(
    ("servers", "problem"),
    [
        ({"x": {"command": "no-such-server"}}, r"x: command: 'no-such-server' is not here"),
        ({"x": {"url": "http://x", "headers": {"A": "${NOT_SET}"}}}, "NOT_SET is not set"),
        ({"x": {"type": "ws", "url": "http://x"}}, "x: 'ws'"),
        ({"x": "sh"}, "must hold an object"),
    ],
)
def test_an_entry_that_cannot_be_used_is_named(
    tmp_path: Path, servers: dict[str, Any], problem: str
) -> None:
    with pytest.raises(ConfigError, match=problem):
        build("tools.x", {"driver": "mcp_json", "file": written(tmp_path, **servers)})


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"cannot read .*nowhere\.json"):
        build("tools.x", {"driver": "mcp_json", "file": str(tmp_path / "nowhere.json")})
