"""The code in the documents runs.

A document is read from top to bottom in an empty directory with a scripted model:
a block with a file's name (```python hello.py) is written to that file, the other Python
blocks are one script, a TOML block must be a config that builds, and of a ```console block
the `python` and `aosk` lines are run and must print what stands under them ("..." = anything).
Blocks of other languages are not run. A block marked `fragment` need only be valid.
"""

import os
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from aoskernel.kernel.config import Config

ROOT = Path(__file__).parents[2]
WORDS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(ROOT.glob("docs/**/*.md"))]
FENCE = re.compile(r"^```(\w+)([^\n]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)

SCRIPTED = r"""
[services."llm.default"]
driver = "scripted"

[[services."llm.default".rules]]
role = "user"
when = 'What does (\S+) say'
call = "read_file"
arguments = { path = "{1}" }

[[services."llm.default".rules]]
when = 'Friday: ([^.\n]+)'
say = "On Friday {1}."

[[services."llm.default".rules]]
role = "user"
say = "You said: {last}"
"""
NOTES = "Friday: the library closes at noon.\n"


class Block(NamedTuple):
    language: str
    info: str
    text: str

    @property
    def file(self) -> str:
        return self.info if "." in self.info else ""


def blocks(document: Path) -> Iterator[Block]:
    for language, info, text in FENCE.findall(document.read_text("utf-8")):
        yield Block(language, info.strip(), text)


def named(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def run(command: list[str], home: Path) -> str:
    plain = {key: value for key, value in os.environ.items() if not key.endswith("_API_KEY")}
    done = subprocess.run(
        command, cwd=home, env=plain, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, f"{shlex.join(command)}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture
def home(tmp_path: Path, server_folder: Path) -> Path:
    """What a reader has before the first block: a config with a scripted model, two notes."""
    (tmp_path / "aosk.toml").write_text(SCRIPTED, "utf-8")
    (tmp_path / "notes.txt").write_text(NOTES, "utf-8")
    (tmp_path / "friday.txt").write_text(NOTES, "utf-8")
    return tmp_path


@pytest.mark.parametrize("document", WORDS, ids=named)
def test_the_code_of_a_document_runs(
    document: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(home)
    monkeypatch.syspath_prepend(home)
    script = ""
    for block in blocks(document):
        match block.language:
            case _ if block.file:
                (home / block.file).write_text(block.text, "utf-8")
            case "python" if block.info == "fragment":
                compile(f"async def fragment():\n{indented(block.text)}", document, "exec")
            case "python":
                script += block.text + "\n"
            case "toml":
                check_config(block, home)
            case "console":
                run_session(block.text, home)
    if script:
        (home / "document.py").write_text(script, "utf-8")
        run([sys.executable, "-W", "error", "document.py"], home)


def indented(text: str) -> str:
    return "".join(f"    {line}" for line in text.splitlines(keepends=True))


def check_config(block: Block, home: Path) -> None:
    if block.info == "fragment":
        tomllib.loads(block.text)
        return
    (home / "checked.toml").write_text(block.text, "utf-8")
    assert Config.load(home / "checked.toml").build()


def run_session(text: str, home: Path) -> None:
    """Run the lines after `$`, and compare what they print."""
    for step in text.split("$ ")[1:]:
        line, _, expected = step.partition("\n")
        program, *arguments = shlex.split(line, comments=True)
        if program == "python":
            check_output(run([sys.executable, *arguments], home), expected)
        elif program == "aosk" and "fetch" not in arguments:
            check_output(run([sys.executable, "-m", "aoskernel", *arguments], home), expected)


def check_output(printed: str, expected: str) -> None:
    pattern = ".*".join(re.escape(part) for part in _narrow(expected).split("..."))
    assert re.fullmatch(pattern, _narrow(printed), re.DOTALL), f"printed:\n{printed}"


def _narrow(text: str) -> str:
    """A table is as wide as the numbers in it."""
    return re.sub(" +", " ", text.strip())


def test_the_chinese_readme_has_the_same_code() -> None:
    english, chinese = blocks(ROOT / "README.md"), blocks(ROOT / "README.zh-CN.md")
    assert [(b.language, b.info, b.text) for b in chinese] == list(english)
