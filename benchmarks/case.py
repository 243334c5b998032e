"""Cases: what is measured, beside which floor, and what is promised."""

import gc
import os
import time
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Figures = dict[str, float]
"""Metric to value; the end of a metric's name is its unit: `sequential_us`, `live_bytes`."""


Loop = Literal["asyncio", "uvloop"]
"""Whose event loop a case runs on."""


@dataclass(frozen=True, slots=True)
class Effort:
    """How long a loop is measured, in CPU seconds, and how many processes are spawned."""

    seconds: float = 0.4
    count: int = 10_000


@dataclass(frozen=True, slots=True)
class Goal:
    """A promise about one metric: its value, its ratio to the floor, or what it is above it."""

    metric: str
    value: float | None = None
    ratio: float | None = None
    above: float | None = None

    def __str__(self) -> str:
        if self.ratio is not None:
            return f"<= {self.ratio:g}x"
        return f"<= {self.value:g}" if self.value is not None else f"<= floor + {self.above:g}"

    def met(self, *, value: float, ratio: float | None, above: float | None) -> bool:
        """Whether the measured figures keep it; a missing floor keeps no promise about it."""
        measured = {"value": value, "ratio": ratio, "above": above}
        promised = {"value": self.value, "ratio": self.ratio, "above": self.above}
        return all(
            (figure := measured[what]) is not None and figure <= most
            for what, most in promised.items()
            if most is not None
        )


@dataclass(frozen=True, slots=True)
class Case:
    """One implementation of a benchmark. There is one floor, which the ratios refer to."""

    bench: str
    name: str
    run: Callable[[Effort], Awaitable[Figures]]
    floor: bool
    goals: tuple[Goal, ...]
    loop: Loop


CASES: dict[tuple[str, str], Case] = {}
"""By benchmark and name; a benchmark's module fills in its own when it is imported."""

Run = Callable[[Effort], Awaitable[Figures]]


def case(
    bench: str,
    name: str,
    *,
    floor: bool = False,
    goals: Iterable[Goal] = (),
    loop: Loop = "asyncio",
) -> Callable[[Run], Run]:
    """Register an async function as a case."""

    def register(run: Run) -> Run:
        CASES[bench, name] = Case(bench, name, run, floor, tuple(goals), loop)
        return run

    return register


async def cpu_us(work: Callable[[int], Awaitable[None]], effort: Effort, *, batch: int) -> float:
    """CPU microseconds of this process for one repetition; `work(n)` makes n of them."""
    await work(batch)
    done, began = 0, time.process_time()
    while not done or time.process_time() - began < effort.seconds:
        await work(batch)
        done += batch
    return (time.process_time() - began) / done * 1e6


def resident_bytes() -> int:
    """What this process holds in memory, garbage collected."""
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")
