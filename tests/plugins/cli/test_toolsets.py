"""`aosk tools` as people run it."""

import json
from pathlib import Path

from tiny_mcp import command

from aoskernel.plugins.cli.exits import ExitCode

from .conftest import Aosk

BROKEN = """
[services."tools.gone"]
driver = "mcp"
command = ["sh", "-c", "echo no such repository >&2; exit 1"]
"""


def configure(folder: Path, *quirks: str, more: str = "") -> None:
    words = json.dumps(command(folder / "log", *quirks))
    table = f'[services."tools.tiny"]\ndriver = "mcp"\nprefix = "t_"\ncommand = {words}\n'
    (folder / "aosk.toml").write_text(table + more)


def test_tools_are_listed_with_their_server(aosk: Aosk) -> None:
    configure(Path.cwd(), "wrong")
    told = aosk("tools")
    assert told.code == ExitCode.OK
    assert "tiny 1, MCP 2025-11-25" in told.out
    assert "t_echo" in told.out
    assert "read_file" in told.out
    assert "t_no_type" in told.out.partition("Left out:")[2]

    toolsets = {t["address"]: t for t in aosk("tools", "--json").document["toolsets"]}
    assert toolsets["tools.tiny"]["state"] == "up"
    assert {"name": "t_die", "effect": "once", "description": "The tool die."} in toolsets[
        "tools.tiny"
    ]["tools"]


def test_a_server_that_does_not_start_hides_no_other(aosk: Aosk) -> None:
    configure(Path.cwd(), more=BROKEN)
    told = aosk("tools", "--json")
    toolsets = {t["address"]: t for t in told.document["toolsets"]}
    assert told.code == ExitCode.FAILED
    assert (toolsets["tools.gone"]["state"], toolsets["tools.tiny"]["state"]) == ("failed", "up")
    assert "no such repository" in toolsets["tools.gone"]["about"]


def test_config_check_misses_a_command_that_is_not_here(aosk: Aosk) -> None:
    Path("aosk.toml").write_text('[services."tools.x"]\ndriver = "mcp"\ncommand = ["nowhere"]\n')
    told = aosk("config", "check")
    assert told.code == ExitCode.CONFIG
    assert "'nowhere' is not here" in told.err
