"""`aosk up`: a kernel that runs until it is told to end."""

import gc
import logging
import os
import signal
import sys
from collections.abc import AsyncIterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import anyio

from ...kernel import Kernel, Service
from ...kernel.config import Config
from ...kernel.log import log
from ...kernel.plan import Plan
from ...subsystems.processes.messages import ListProcesses, ProcessStatus
from ...subsystems.storage.driver import Survey
from . import lines, loop, output
from .choice import find
from .desk import configured, driver, looking, opened
from .exits import ExitCode, Stop
from .listing import MOST, is_stranded, program
from .notify import notify
from .reporter import Reporter

PROGRAMS = ("processes", "programs")
TWICE_S = 0.3
"""What comes so soon is the same wish, told to the process and to the group that it is in."""
ALLOCATED = 10_000
"""New objects until circles of forgotten ones are looked for. A kernel leaves next to none, and
looking at every 700th, as Python does, takes a tenth of the time of fifty busy processes."""


@dataclass(frozen=True)
class Wish:
    """What a command line asks for beside the configuration. `metrics` is a port."""

    log_format: Literal["text", "json"] | None = None
    metrics: int | None = None

    def overrides(self) -> dict[str, Any]:
        """As the configuration says it. A daemon has a console, for `aosk top`."""
        services: dict[str, Any] = {"console": {}}
        if self.metrics is not None:
            services["metrics"] = {"port": self.metrics}
        kernel = {} if self.log_format is None else {"log_format": self.log_format}
        return {"services": services, "kernel": kernel}


def up(config_file: Path | None, wish: Wish, *, debug: bool) -> None:
    """Serve until a signal. Raises Stop, or what the kernel raises."""
    importing_from_here()
    config = Config.load(find(config_file), **wish.overrides())
    lines.to_stderr(logging.DEBUG if debug else logging.INFO, config.kernel.log_format)
    services = [*_services(config), Reporter(debug=debug)]
    gc.set_threshold(ALLOCATED)
    loop.run(_serve, config, services)


def importing_from_here() -> None:
    """Programs are found where `python -m` would find them: in the working directory first."""
    here = os.getcwd()
    if here not in sys.path:
        sys.path.insert(0, here)


def _services(config: Config) -> list[Service]:
    driver(config)  # refused where what it stores is gone with it
    if not programs(config):
        raise Stop(
            "no programs are named, so there is nothing to run; in aosk.toml write\n\n"
            '  [services.processes]\n  programs = ["package.module:name"]',
            ExitCode.CONFIG,
            "no_programs",
        )
    services = config.build()
    Plan(services, config.routes)
    return services


def programs(config: Config) -> tuple[str, ...]:
    """Those that the configuration names."""
    table, key = PROGRAMS
    return tuple(config.services.get(table, {}).get(key, ()))


async def _serve(config: Config, services: list[Service]) -> None:
    """A kernel's whole life. The first signal ends it in order, also while it starts."""
    with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async with anyio.create_task_group() as tasks:
            with anyio.CancelScope() as life:
                tasks.start_soon(_obey, signals, life, name="signals")
                await _live(config, services)
            tasks.cancel_scope.cancel()
    log.info("daemon.ended")


async def _live(config: Config, services: list[Service]) -> None:
    log.info("daemon.starting", os_pid=os.getpid())
    async with Kernel(*services, config=config.kernel, routes=config.routes):
        log.info("daemon.ready", programs=list(programs(config)))
        notify("READY=1")
        await anyio.sleep_forever()


async def _obey(signals: AsyncIterable[signal.Signals], life: anyio.CancelScope) -> None:
    """The first signal: suspend and end. The second: now; what was committed is there."""
    first = float("inf")
    async for number in signals:
        if anyio.current_time() > first + TWICE_S:
            log.warning("daemon.ended_at_once", signal=number.name)
            os._exit(ExitCode.INTERRUPTED)
        if not life.cancel_called:
            first = anyio.current_time()
            log.info("daemon.ending", signal=number.name)
            notify("STOPPING=1")
            life.cancel()


# What it would do


def check(config_file: Path | None, *, as_json: bool) -> None:
    """Whether it would start, what it would take over, and what it would leave."""
    importing_from_here()
    config = configured(config_file)
    known = tuple(_known(_services(config)))
    survey, found = loop.run(_looked, config)
    mine = [s for s in found if is_stranded(s) and _version(s) in known]
    others = [s for s in found if is_stranded(s) and _version(s) not in known]
    if as_json:
        output.document(
            {
                "ok": True,
                "programs": [{"name": name, "version": version} for name, version in known],
                "applies": list(survey.missing),
                "takes_over": [status.pid for status in mine],
                "leaves": [status.pid for status in others],
            }
        )
        return
    output.facts(
        [
            ("programs", ", ".join(" ".join(one) for one in known)),
            ("database", _intent(survey)),
            ("takes over", _list(mine)),
            ("leaves", f"{_list(others)}{', whose programs it lacks' if others else ''}"),
        ]
    )


def _known(services: list[Service]) -> tuple[tuple[str, str], ...]:
    """Name and version of each program that the process table has loaded."""
    (processes,) = (service for service in services if service.address == PROGRAMS[0])
    return tuple(getattr(processes, "known", ()))


async def _looked(config: Config) -> tuple[Survey, tuple[ProcessStatus, ...]]:
    async with looking(config) as look:
        survey = await look()
        if survey.missing or survey.fault:
            return survey, ()
        async with opened(config) as kernel:
            return survey, await kernel.request(ListProcesses(limit=MOST))


def _version(status: ProcessStatus) -> tuple[str, str]:
    return status.record.program, status.record.version


def _intent(survey: Survey) -> str:
    if survey.fault:
        return survey.fault
    applies = f", applies {', '.join(survey.missing)}" if survey.missing else ""
    return f"{survey.where}{applies}"


def _list(found: list[ProcessStatus]) -> str:
    return ", ".join(f"{status.pid} ({program(status.record)})" for status in found) or "nothing"
