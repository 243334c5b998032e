"""Each example runs offline, as its reader would run it, and prints what is true."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"


pytestmark = pytest.mark.usefixtures("server_folder")


def run(name: str) -> list[str]:
    """The lines an example prints; it is run where it lies, without any key in reach."""
    script = EXAMPLES / name
    plain = {key: value for key, value in os.environ.items() if not key.endswith("_API_KEY")}
    done = subprocess.run(
        [sys.executable, "-W", "error", script.name],
        cwd=script.parent,
        env=plain,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_hello_answers_from_the_file() -> None:
    assert run("hello/hello.py") == [
        "On Friday the library closes at noon, bring the books back before."
    ]
    assert "the library closes at noon" in (EXAMPLES / "hello" / "notes.txt").read_text("utf-8")


def test_own_program_finds_again_what_it_remembered() -> None:
    said, remembered = run("own_program.py")
    assert said == "brief said:  On Friday the library closes at noon."
    assert remembered.removeprefix("remembered:  ") == said.removeprefix("brief said:  ")


def test_plugin_service_counts_the_tokens_of_both_calls() -> None:
    assert run("plugin_service.py") == [
        "Hello, Ada!",
        "Hello, Grace!",
        "scripted has used 23 tokens",
    ]


def test_swap_model_loses_no_question() -> None:
    assert run("swap_model.py") == [
        "answered: 40, by both: True",
        "after reload: scripted:newest",
    ]


def test_asgi_lifespan_starts_serves_and_stops() -> None:
    first, *served, last = run("asgi_lifespan.py")
    assert (first, last) == ("lifespan.startup.complete", "lifespan.shutdown.complete")
    assert sorted(served) == [
        "GET /agents -> 200 All about agents.",
        "GET /kernels -> 200 All about kernels.",
    ]


def test_three_hundred_agents_keep_to_the_limit_and_use_it() -> None:
    answered, limited = run("three_hundred_agents.py")
    assert re.fullmatch(r"300 of 300 agents got their own answer in \d+\.\d\d s", answered)
    assert limited == "at most 8 model calls ran at once; the limit is 8"


@pytest.mark.parametrize("path", sorted(EXAMPLES.rglob("*.py")), ids=lambda path: path.name)
def test_every_example_is_run_by_a_test(path: Path) -> None:
    name = path.relative_to(EXAMPLES).as_posix()
    tests = Path(__file__).parents[1].rglob("test_*.py")
    assert any(f'"{name}"' in test.read_text("utf-8") for test in tests), f"nothing runs {name}"
