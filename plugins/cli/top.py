"""`aosk top`: what goes on, of all kernels on the database."""

import sys
import time
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio

from ...kernel import Kernel
from ...kernel.config import Config
from ...subsystems.processes.messages import ListProcesses
from ...subsystems.storage.driver import KernelSeen, Survey
from ...subsystems.storage.messages import FindRecords, FindTenures, Pid, Record
from . import loop, output
from .desk import Look, configured, looking, opened
from .listing import MOST, Listed, told
from .top_view import render

CONSOLES = "console.kernels"
"""The collection in which the service `console` of each kernel keeps its record."""


@dataclass(frozen=True)
class Row:
    """A process, and what its kernel's console says of it."""

    listed: Listed
    doing: str
    used: dict[str, Any] | None

    @property
    def rank(self) -> tuple[bool, bool, int]:
        """Those at work first, then those that have used most."""
        spent = 0 if self.used is None else self.used["prompt"] + self.used["completion"]
        at_work = self.listed.status.record.state == "running"
        return not at_work, self.used is None, -spent


@dataclass(frozen=True)
class Picture:
    """What there is to see at one moment."""

    at: float
    survey: Survey
    kernels: tuple[KernelSeen, ...]
    consoles: tuple[dict[str, Any], ...]
    rows: tuple[Row, ...]

    @property
    def models(self) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
        """Each model of each kernel, with the kernel's console."""
        for console in self.consoles:
            for model in console["models"]:
                yield console, model

    @property
    def guards(self) -> Iterator[dict[str, Any]]:
        for console in self.consoles:
            yield from console["guards"]


def top(config_file: Path | None, *, once: bool, every_s: float, as_json: bool) -> None:
    """Shown again and again, unless there is nobody to watch."""
    config = configured(config_file)
    if as_json:
        output.document(document(loop.run(_look_once, config)))
    elif once or not sys.stdout.isatty():
        output.console().print(render(loop.run(_look_once, config), height=None))
    else:
        loop.run(_watch, config, every_s)


async def _look_once(config: Config) -> Picture:
    async with _window(config) as (look, kernel):
        return await picture(look, kernel)


async def _watch(config: Config, every_s: float) -> None:
    from rich.live import Live

    screen = output.console()
    async with _window(config) as (look, kernel):
        with Live(console=screen, screen=True, auto_refresh=False) as live:
            while True:
                shown = await picture(look, kernel)
                live.update(render(shown, height=screen.height), refresh=True)
                await anyio.sleep(every_s)


@asynccontextmanager
async def _window(config: Config) -> AsyncIterator[tuple[Look, Kernel]]:
    async with looking(config) as look, opened(config) as kernel:
        yield look, kernel


async def picture(look: Look, kernel: Kernel) -> Picture:
    """Look at the database, and at what the consoles keep in it."""
    survey = await look()
    found = await kernel.request(ListProcesses(limit=MOST))
    pids = tuple(status.pid for status in found)
    tenures = {tenure.pid: tenure for tenure in await kernel.request(FindTenures(pids=pids))}
    consoles = tuple(map(_body, await kernel.request(FindRecords(collection=CONSOLES))))
    said = _by_pid(consoles)
    rows = [
        _row(Listed(status, tenures[status.pid]), said.get(status.pid))
        for status in found
        if status.pid in tenures
    ]
    living = tuple(seen for seen in survey.kernels if seen.lives and not _is_ours(seen))
    return Picture(time.time(), survey, living, consoles, tuple(sorted(rows, key=_rank)))


def _rank(row: Row) -> Any:
    return row.rank, row.listed.status.pid


def _body(record: Record) -> dict[str, Any]:
    assert isinstance(record.body, dict)
    return {**record.body, "at": record.at}


def _by_pid(consoles: Iterable[dict[str, Any]]) -> dict[Pid, dict[str, Any]]:
    return {one["pid"]: one for console in consoles for one in console["processes"]}


def _row(listed: Listed, said: dict[str, Any] | None) -> Row:
    running = said is not None and listed.status.record.state == "running"
    return Row(listed, said["doing"] if said and running else "", said and said["used"])


def _is_ours(seen: KernelSeen) -> bool:
    """This command's own place in the database: it has no programs."""
    return not seen.programs and not seen.processes


def document(shown: Picture) -> dict[str, Any]:
    """All of it, for scripts."""
    return {
        "ok": True,
        "at": shown.at,
        "database": shown.survey.where,
        "namespace": shown.survey.namespace,
        "states": dict(shown.survey.states),
        "kernels": [
            {"number": seen.number, "os_pid": seen.os_pid, "processes": seen.processes}
            for seen in shown.kernels
        ],
        "models": [
            {"host": console["host"], "os_pid": console["os_pid"], **model}
            for console, model in shown.models
        ],
        "guards": list(shown.guards),
        "processes": [
            {**told(row.listed), "doing": row.doing, "used": row.used} for row in shown.rows
        ],
    }
