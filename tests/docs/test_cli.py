"""The page about the command says what the command does."""

import re
from pathlib import Path

import pytest
import typer.main

from aoskernel.plugins.cli.exits import ExitCode
from aoskernel.plugins.cli.main import app

PAGE = (Path(__file__).parents[2] / "docs" / "reference" / "cli.md").read_text("utf-8")


def test_the_exit_codes_are_those_of_the_command() -> None:
    told = dict(re.findall(r"^\| (\d+) \| (.+) \|$", PAGE, re.MULTILINE))
    assert told == {str(code.value): code.meaning for code in ExitCode}


def test_every_command_is_on_the_page() -> None:
    group = typer.main.get_command(app)
    names = [
        f"{name} {inner}".strip()
        for name, command in getattr(group, "commands", {}).items()
        for inner in getattr(command, "commands", {"": None})
    ]
    assert len(names) > 5
    missing = [name for name in names if f"`aosk {name}" not in PAGE]
    assert not missing


@pytest.mark.parametrize("option", ["--json", "--debug", "--file", "--model"])
def test_the_options_on_the_page_are_there(option: str) -> None:
    group = typer.main.get_command(app)
    run = getattr(group, "commands", {})["run"]
    assert option in {name for parameter in run.params for name in parameter.opts}
