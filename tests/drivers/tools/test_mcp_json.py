"""The MCP servers of a file as other clients write it."""

import json
from pathlib import Path
from typing import Any

import pytest
from tiny_mcp import called, command, names, standing

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
    more = {"effects": {"two_echo": "none"}, "touches": {"two_set": {"text": "path:write"}}}
    table = {"driver": "mcp_json", "file": file, **more}

    async with Kernel(build("tools.tiny", table), Toolbox()) as kernel:
        assert {name.partition("_")[0] for name in await names(kernel)} == {"one", "two"}
        found = await kernel.request(FindTools())
        effects = {t.name: t.effect for t in found}
        touched = [t.name for t in found if t.touches]
        given = json.loads(await called(kernel, "one_env"))
        assert await called(kernel, "two_echo", text="hi") == "hi"
        with pytest.raises(UnknownTool):
            await called(kernel, "off_echo", text="hi")

    assert (effects["one_echo"], effects["two_echo"]) == ("once", "none")
    assert touched == ["two_set"]
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


@pytest.mark.parametrize("option", [{"effects": {"x": "none"}}, {"touches": {"x": {}}}])
def test_a_tool_of_none_of_the_servers_is_named(tmp_path: Path, option: dict[str, Any]) -> None:
    file = written(tmp_path, one=server(tmp_path))
    with pytest.raises(ConfigError, match="'x' is no tool of one_"):
        build("tools.x", {"driver": "mcp_json", "file": file, **option})


async def test_of_two_prefixes_the_longer_one_has_a_tool(tmp_path: Path) -> None:
    file = written(tmp_path, a=server(tmp_path), a_b=server(tmp_path))
    table = {"driver": "mcp_json", "file": file, "effects": {"a_b_echo": "none"}}
    async with Kernel(build("tools.tiny", table), Toolbox()) as kernel:
        assert (await standing(kernel)).left_out == {}


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"cannot read .*nowhere\.json"):
        build("tools.x", {"driver": "mcp_json", "file": str(tmp_path / "nowhere.json")})
