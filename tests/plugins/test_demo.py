"""The demo tells the truth: about the order of serving, and about the quotes."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FILES = ("LICENSE", "hatch_build.py", "examples/hello/notes.txt")


@pytest.mark.model
@pytest.mark.usefixtures("server_folder")
def test_the_interactive_agent_overtakes_and_the_quotes_are_counted() -> None:
    command = [sys.executable, "-W", "error", str(ROOT / "examples" / "demo.py")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr

    served = re.findall(r"^\d +(batch|normal|interactive) +(\d)", done.stdout, re.MULTILINE)
    assert served == [("batch", "1"), ("interactive", "3"), ("normal", "2")]
    assert "the interactive one was served first" in done.stdout

    texts = " ".join(" ".join((ROOT / name).read_text("utf-8").split()) for name in FILES)
    quotes = re.findall(r'^  "(.+)" \((in the file|NOT in the file)\)$', done.stdout, re.MULTILINE)
    found = [quote in texts for quote, _ in quotes]
    assert [told == "in the file" for _, told in quotes] == found
    assert f"{sum(found)} of 3 quotes are in the file" in done.stdout
