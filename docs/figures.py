"""Puts the figures of benchmarks/results.json into the READMEs: `python docs/figures.py`."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results.json"
READMES = [ROOT / "README.md", ROOT / "README.zh-CN.md"]
PLACE = re.compile(r"(<!-- figures:begin[^\n]*-->\n).*?(<!-- figures:end -->)", re.DOTALL)


def main() -> None:
    for readme in READMES:
        readme.write_text(filled(readme.read_text("utf-8"), RESULTS), "utf-8")


def filled(text: str, results: Path) -> str:
    """The text with the figures between its two marks; without results as it was."""
    if not results.exists():
        return text
    report = json.loads(results.read_text("utf-8"))
    table = "\n".join(lines(report))
    return PLACE.sub(lambda found: f"{found[1]}{table}\n{found[2]}", text)


def lines(report: dict[str, Any]) -> Iterator[str]:
    """What was promised, and what was measured; all else stands in the file itself."""
    machine = report["machine"]
    yield (
        f"Measured on {machine['date']} at {machine['commit']}: {machine['python']}, "
        f"{machine['cpu']}, {machine['cores']} cores; medians of {report['rounds']} rounds. "
        "`make bench` measures again; all rows are in `benchmarks/results.json`."
    )
    yield ""
    yield "| measured | value | x floor | goal | |"
    yield "| --- | ---: | ---: | --- | --- |"
    for row in report["results"]:
        if "goal" in row:
            ratio = f"{row['ratio']:.2f}" if "ratio" in row else ""
            told = "met" if row["met"] else "missed"
            name = f"{row['bench']}: {row['case']}, `{row['metric']}`"
            yield f"| {name} | {row['value']:g} | {ratio} | {row['goal']} | {told} |"


if __name__ == "__main__":
    main()
