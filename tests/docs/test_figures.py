"""The figures in the READMEs are those of benchmarks/results.json."""

import importlib.util
import json
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]
REPORT = {
    "machine": {"date": "2026-01-01", "commit": "abc", "python": "CPython", "cpu": "x", "cores": 2},
    "rounds": 5,
    "results": [
        {
            "bench": "request",
            "case": "plain",
            "metric": "sequential_us",
            "value": 1.5,
            "ratio": 0.25,
            "goal": "<= 0.35x",
            "met": True,
        },
        {"bench": "request", "case": "floor", "metric": "sequential_us", "value": 6.0},
    ],
}


@pytest.fixture(scope="module")
def figures() -> ModuleType:
    spec = importlib.util.spec_from_file_location("figures", ROOT / "docs" / "figures.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("readme", ["README.md", "README.zh-CN.md"])
def test_the_readme_shows_the_committed_figures(figures: ModuleType, readme: str) -> None:
    """`python docs/figures.py` puts them there."""
    text = (ROOT / readme).read_text("utf-8")
    assert figures.PLACE.search(text), "the two marks are gone"
    assert text == figures.filled(text, ROOT / "benchmarks" / "results.json")


def test_what_has_a_goal_is_shown_with_its_verdict(figures: ModuleType, tmp_path: Path) -> None:
    results = tmp_path / "results.json"
    results.write_text(json.dumps(REPORT))
    text = "<!-- figures:begin -->\nold\n<!-- figures:end -->"
    shown = figures.filled(text, results)
    assert "| request: plain, `sequential_us` | 1.5 | 0.25 | <= 0.35x | met |" in shown
    assert "old" not in shown
    assert "floor, " not in shown
