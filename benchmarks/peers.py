"""Runs other frameworks beside ours, by their shared harness, and keeps what came out.

    python -m benchmarks.peers --harness DIR --python PEERS/bin/python

`PEERS` is an environment that has the frameworks and aoskernel; see README.md.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from .run import ROOT, machine

ADAPTER = Path(__file__).with_name("shared_adapter.py")
RESULTS = Path(__file__).with_name("peers.json")
BENCHES = {
    "bus_request": ("bench_bus_request.py",),
    "bus_pubsub": ("bench_bus_pubsub.py",),
    "turn": ("bench_turn.py", "turn"),
    "idle_agents": ("bench_turn.py", "idle_agents"),
    "checkpoint_growth": ("bench_checkpoint.py", "checkpoint_growth"),
    "turn_durable": ("bench_turn.py", "turn_durable"),
}
CANDIDATES = {
    "bus_request": "floor_future_queue,floor_direct_await,autogen-core",
    "bus_pubsub": "floor_asyncio_queue,floor_direct_await,autogen-core",
    "turn": "floor_plain_loop,langgraph-StateGraph,langgraph-react,"
    "langgraph-react-InMemorySaver,autogen-agentchat,pydantic-ai",
    "idle_agents": "floor_task_queue,autogen-core,autogen-agentchat,"
    "langgraph-thread-InMemorySaver,pydantic-ai-agent-object",
    "checkpoint_growth": "floor_append_row,langgraph-aput,langgraph-graph-add_messages,dbos-steps",
    "turn_durable": "floor_asyncpg_3commits,langgraph-StateGraph-sync,langgraph-react-async,"
    "dbos-workflow",
}
OURS = "aoskernel,aoskernel-5-guards,aoskernel-assistant"
KEPT = ("cpu_", "rss_", "wall_", "wal_", "disk_", "load_", "total_cpu_", "turns_per_s")
"""Metrics; of benches in memory only those of CPU time and memory."""
DURABLE = ("checkpoint_growth", "turn_durable")
PACKAGES = (
    "aoskernel",
    "autogen-agentchat",
    "autogen-core",
    "dbos",
    "langgraph",
    "langgraph-checkpoint-postgres",
    "langgraph-prebuilt",
    "pydantic-ai-slim",
    "pydantic",
)
VERSIONS = """
import importlib.metadata, json, sys
from contextlib import suppress
versions = {}
for name in sys.argv[1:]:
    with suppress(importlib.metadata.PackageNotFoundError):
        versions[name] = importlib.metadata.version(name)
print(json.dumps(versions))
"""
"""Of those that are there: who measures one bench needs no others."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the chosen benches and write the JSON."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.peers", description=__doc__)
    parser.add_argument("bench", nargs="*", default=[], help=f"of {', '.join(BENCHES)}")
    parser.add_argument("--harness", type=Path, required=True, help="the harness's folder")
    parser.add_argument("--python", default=sys.executable, help="of the peers' environment")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path, default=RESULTS, help="where the results go")
    options = parser.parse_args(arguments)
    rows = [
        row
        for bench in options.bench or BENCHES
        for row in measured(bench, options.harness, options.python, options.rounds)
    ]
    show(rows)
    versions = json.loads(_output([options.python, "-c", VERSIONS, *PACKAGES]))
    facts = {**machine(), "versions": versions}
    report = {"machine": facts, "rounds": options.rounds, "results": rows}
    options.json.write_text(json.dumps(report, indent=1) + "\n", "utf-8")


def measured(bench: str, harness: Path, python: str, rounds: int) -> Iterator[dict[str, Any]]:
    """The harness's lines about CPU time and memory, one for each framework and metric."""
    file, *which = BENCHES[bench]
    with tempfile.TemporaryDirectory() as folder:
        raw = Path(folder) / "rounds.jsonl"
        command = [python, str(harness / file), *which, "--adapter", str(ADAPTER)]
        command += ["--impl", f"{CANDIDATES[bench]},{OURS}", "--rounds", str(rounds)]
        summary = _lines(_output([*command, "--raw", str(raw)]))
        of_round = {_place(row): row["value"] for row in _lines(raw.read_text("utf-8"))}
    for row in summary:
        if row["metric"].startswith("ERROR"):
            raise SystemExit(f"{bench}: {row['impl']} failed: {row['unit']}")
        if row["metric"].startswith(KEPT if bench in DURABLE else KEPT[:2]):
            row["times_ours"] = statistics.median(
                of_round[row["impl"], row["metric"], number]
                / of_round["aoskernel", row["metric"], number]
                for number in range(rounds)
            )
            yield {key: _short(value) for key, value in row.items()}


def _lines(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def _place(row: dict[str, Any]) -> tuple[str, str, int]:
    return row["impl"], row["metric"], row["round"]


def _output(command: Sequence[str]) -> str:
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, cwd=ROOT, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} failed")
    return done.stdout


def _short(value: Any) -> Any:
    return float(f"{value:.4g}") if isinstance(value, float) else value


def show(rows: Sequence[dict[str, Any]]) -> None:
    """Print each metric's frameworks, the cheapest first, and how often ours goes into each.

    Like every ratio here, `times_ours` is the median of the rounds' own.
    """
    for bench, metric in dict.fromkeys((row["bench"], row["metric"]) for row in rows):
        found = [r for r in rows if (r["bench"], r["metric"]) == (bench, metric)]
        print(f"\n{bench}, {metric}")
        for row in sorted(found, key=lambda row: row["value"]):
            value = f"{row['value']:10.4g} {row['unit']:3}"
            print(f"  {row['impl']:32} {value} {row['times_ours']:8.3g}x ours")


if __name__ == "__main__":
    main()
