"""Runs the cases: each in a process of its own, round after round, in shuffled order.

A figure is the median over the rounds. A ratio is the median of the rounds' own ratios to the
floor, so that a slow phase of a shared machine falls on both sides of it.
"""

import argparse
import json
import os
import platform
import random
import statistics
import subprocess
import sys
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Any

import anyio

from .case import CASES, Case, Effort, Figures

ROOT = Path(__file__).resolve().parent.parent
RESULTS = Path(__file__).with_name("results.json")
BENCHES = (
    "request",
    "publish",
    "spares",
    "guards",
    "many_tools",
    "turn",
    "sight",
    "quota",
    "imports",
    "processes",
    "openai_wire",
    "anthropic_wire",
    "breaker",
    "limiter",
    "policy",
    "admitted",
    "estimator",
    "durable_step",
    "durable_agents",
    "durable_loops",
    "durable_disk",
    "durable_server",
    "audit",
)
TINY = Effort(seconds=0, count=20)

Samples = dict[tuple[str, str], list[Figures]]
Row = dict[str, Any]


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print tables and write the JSON."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("bench", nargs="*", default=[], help=f"of {', '.join(BENCHES)}")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--tiny", action="store_true", help="does it run at all? no figure counts")
    parser.add_argument("--json", type=Path, default=RESULTS, help="where the results go")
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    effort = TINY if options.tiny else Effort()
    if options.child:
        bench, name = options.child
        import_module(f".{bench}", __package__)
        wanted = CASES[bench, name]
        on = {"use_uvloop": wanted.loop == "uvloop"}
        figures = anyio.run(_figures, wanted, effort, backend_options=on)
        print(json.dumps(figures))
        return
    wanted = options.bench or BENCHES
    if unknown := set(wanted) - set(BENCHES):
        parser.error(f"no benchmark {', '.join(sorted(unknown))}; there are {', '.join(BENCHES)}")
    for bench in wanted:
        import_module(f".{bench}", __package__)
    cases = [case for case in CASES.values() if case.bench in wanted]
    rows = table(cases, sample(cases, options.rounds, tiny=options.tiny))
    show(rows)
    report = {"machine": machine(), "rounds": options.rounds, "results": rows}
    options.json.write_text(json.dumps(report, indent=1) + "\n", "utf-8")


async def _figures(case: Case, effort: Effort) -> Figures:
    return await case.run(effort)


def sample(cases: Sequence[Case], rounds: int, *, tiny: bool) -> Samples:
    """Every case's figures, round by round."""
    samples: Samples = {(case.bench, case.name): [] for case in cases}
    for number in range(rounds):
        order = list(cases)
        random.Random(number).shuffle(order)
        for place, case in enumerate(order, 1):
            print(f"\rround {number + 1}, {place} of {len(order)} ", end="", file=sys.stderr)
            samples[case.bench, case.name].append(_in_a_child(case, tiny=tiny))
    print(file=sys.stderr)
    return samples


def _in_a_child(case: Case, *, tiny: bool) -> Figures:
    command = [sys.executable, "-m", __package__ or "", "--child", case.bench, case.name]
    done = subprocess.run(
        command + ["--tiny"] * tiny, cwd=ROOT, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SystemExit(f"{case.bench}: {case.name} failed:\n{done.stderr}")
    figures: Figures = json.loads(done.stdout.splitlines()[-1])
    return figures


def table(cases: Sequence[Case], samples: Samples) -> list[Row]:
    """A row for each metric of each case."""
    floors = {case.bench: samples[case.bench, case.name] for case in cases if case.floor}
    return [
        _row(case, metric, samples[case.bench, case.name], floors.get(case.bench, []))
        for case in cases
        for metric in samples[case.bench, case.name][0]
    ]


def _row(case: Case, metric: str, figures: list[Figures], floor: list[Figures]) -> Row:
    values = [figure[metric] for figure in figures]
    pairs = [(f[metric], g[metric]) for f, g in zip(figures, floor, strict=False) if metric in g]
    row: Row = {
        "bench": case.bench,
        "case": case.name,
        "metric": metric,
        "value": _short(statistics.median(values)),
        "low": _short(min(values)),
        "high": _short(max(values)),
    }
    ratio = above = None
    if pairs and not case.floor:
        ratio = statistics.median(ours / theirs for ours, theirs in pairs if theirs)
        above = statistics.median(ours - theirs for ours, theirs in pairs)
        row |= {"ratio": _short(ratio), "above": _short(above)}
    for goal in (goal for goal in case.goals if goal.metric == metric):
        met = goal.met(value=row["value"], ratio=ratio, above=above)
        row |= {"goal": str(goal), "met": met}
    return row


def _short(figure: float) -> float:
    return float(f"{figure:.4g}")


def show(rows: Iterable[Row]) -> None:
    """Print a table for each benchmark."""
    bench = ""
    for row in rows:
        if row["bench"] != bench:
            bench = row["bench"]
            print(f"\n{bench:28} {'metric':28} {'value':>9} {'x floor':>9}  goal")
        ratio = f"{row['ratio']:9.3g}" if "ratio" in row else " " * 9
        goal = f"{row['goal']} {'met' if row['met'] else 'MISSED'}" if "goal" in row else ""
        line = f"  {row['case']:26} {row['metric']:28} {row['value']:9.4g} {ratio}  {goal}"
        print(line.rstrip())


def machine() -> dict[str, Any]:
    """The facts without which the figures say little."""
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "commit": commit(),
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "system": platform.system(),
        "cpu": cpu_model(),
        "cores": os.cpu_count(),
        "versions": {name: version(name) for name in ("anyio", "pydantic", "structlog")},
    }


def commit() -> str:
    """The commit that was measured, marked when the files differ from it."""
    git = ("git", "-C", str(ROOT), "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*")
    done = subprocess.run(git, capture_output=True, text=True, check=False)
    return done.stdout.strip() or "unknown"


def cpu_model() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    models = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(models, platform.machine())
