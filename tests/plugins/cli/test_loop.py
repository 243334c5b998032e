"""The event loop of commands: uvloop's where it is installed, else asyncio's own."""

import asyncio
import sys
from importlib.util import find_spec

import pytest

from aoskernel.plugins.cli import loop


async def kind(given: str) -> tuple[str, str]:
    """The library whose loop this is."""
    return type(asyncio.get_running_loop()).__module__.partition(".")[0], given


@pytest.mark.skipif(find_spec("uvloop") is None, reason="needs the package uvloop")
def test_a_command_runs_on_uvloop_where_it_is_installed() -> None:
    assert loop.run(kind, "so") == ("uvloop", "so")


def test_a_command_runs_without_uvloop_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "uvloop", None)  # as if it were not installed
    assert loop.run(kind, "so") == ("asyncio", "so")
