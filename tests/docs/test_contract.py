"""The three programs that are promised to run as they are written, on the default storage."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CONTRACT = Path(__file__).parent / "contract"

CONFIG = r"""
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
"""
METER = """
[services.meter]
use = "my_package:Meter"
"""
SPAWN_BRIEF = """
import anyio
from aoskernel import Kernel, spawn

@program
async def recalled(self: Process, topic: str) -> list[str]:
    return [memory.text for memory in await self.recall(tags=[topic])]

async def main() -> None:
    async with Kernel.from_config("aosk.toml") as kernel:
        print(await (await spawn(kernel, brief(topic="friday"))))
        print(await (await spawn(kernel, recalled(topic="friday"))))

anyio.run(main)
"""
READ_USAGE = """
import anyio
from aoskernel import Kernel, assistant, spawn
from my_package import ReadUsage

async def main() -> None:
    async with Kernel.from_config("aosk.toml") as kernel:
        await (await spawn(kernel, assistant(task="What does friday.txt say?")))
        (model, tokens), = (await kernel.request(ReadUsage())).items()
        print(model, tokens > 0)

anyio.run(main)
"""


@pytest.fixture
def home(tmp_path: Path, server_folder: Path) -> Path:
    """A config that leaves the storage to the default, which is a database, and two notes."""
    (tmp_path / "aosk.toml").write_text(CONFIG, "utf-8")
    for name in ("notes.txt", "friday.txt"):
        (tmp_path / name).write_text("Friday: the library closes at noon.\n", "utf-8")
    return tmp_path


def contract(name: str) -> str:
    return (CONTRACT / name).read_text("utf-8")


def run(script: str, home: Path) -> list[str]:
    (home / "script.py").write_text(script, "utf-8")
    done = subprocess.run(
        [sys.executable, "-W", "error", "script.py"],
        cwd=home,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_the_assistant_reads_the_file_and_answers(home: Path) -> None:
    assert run(contract("first.py"), home) == ["On Friday the library closes at noon."]


def test_the_own_program_remembers_what_it_returned(home: Path) -> None:
    said, remembered = run(contract("brief.py") + SPAWN_BRIEF, home)
    assert said == "On Friday the library closes at noon."
    assert remembered == repr([said])


def test_the_service_is_configured_by_name_and_counts(home: Path) -> None:
    (home / "aosk.toml").write_text(CONFIG + METER, "utf-8")
    (home / "my_package.py").write_text(contract("meter.py"), "utf-8")
    assert run(READ_USAGE, home) == ["scripted True"]


@pytest.mark.parametrize("readme", ["README.md", "README.zh-CN.md"])
@pytest.mark.parametrize("program", ["first.py", "brief.py", "meter.py"])
def test_the_programs_stand_in_the_readme_as_they_are(program: str, readme: str) -> None:
    assert contract(program) in (ROOT / readme).read_text("utf-8")


def test_the_first_program_is_the_first_example() -> None:
    assert (ROOT / "examples" / "hello" / "hello.py").read_text("utf-8") == contract("first.py")
