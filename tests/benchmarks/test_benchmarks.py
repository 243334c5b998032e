"""Every benchmark runs, and says what it measured; how fast is for `make bench` to say."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks.run import BENCHES

ROOT = Path(__file__).resolve().parents[2]
ABROAD = ("openai_wire", "anthropic_wire")
"""Which take long, beside a vendor's own client."""
EACH = [pytest.param(b, marks=pytest.mark.slow) if b in ABROAD else b for b in BENCHES]


def run(module: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", module, *arguments]
    return subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=100, check=False
    )


@pytest.mark.parametrize("bench", EACH)
def test_a_benchmark_writes_a_figure_for_each_metric(bench: str, tmp_path: Path) -> None:
    results = tmp_path / "results.json"
    done = run("benchmarks", bench, "--tiny", "--rounds", "1", "--json", str(results))
    assert done.returncode == 0, done.stderr
    report: dict[str, Any] = json.loads(results.read_text("utf-8"))
    assert report["rounds"] == 1
    assert {"commit", "cpu", "cores", "date", "python"} <= report["machine"].keys()
    rows = report["results"]
    assert {row["bench"] for row in rows} == {bench}
    assert all(isinstance(row["value"], float) for row in rows)
    assert any("goal" in row for row in rows)


def test_an_unknown_benchmark_is_refused_with_those_that_are_there() -> None:
    done = run("benchmarks", "sped")
    assert done.returncode == 2
    assert "no benchmark sped; there are request" in done.stderr


@pytest.mark.parametrize("file", ["results.json", "peers.json"])
def test_the_kept_results_name_no_machine_and_no_folder(file: str) -> None:
    report = json.loads((ROOT / "benchmarks" / file).read_text("utf-8"))
    assert report["results"]
    told = json.dumps(report)
    assert str(ROOT) not in told
    assert "node" not in report["machine"]
