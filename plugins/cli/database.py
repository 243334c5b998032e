"""`aosk health` and `aosk db`: how the database is, and what is in it."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

import typer

from ...kernel import Kernel
from ...kernel.config import Config, build
from ...subsystems.processes.messages import ListProcesses
from ...subsystems.storage.driver import KernelSeen, Survey
from . import loop, output
from .desk import STORAGE, behind, configured, looking, opened
from .exits import ExitCode
from .listing import MOST, clock, is_stranded


def health(config_file: Path | None, *, as_json: bool) -> None:
    """Ends with 1 where something is amiss."""
    survey, stranded = loop.run(_examined, configured(config_file))
    amiss = _amiss(survey, stranded)
    if as_json:
        document = {"ok": not amiss, **_told(survey), "stranded": list(stranded), "amiss": amiss}
        output.document(document)
    else:
        output.facts([*_about(survey), *_inside(survey, stranded)])
        for line in amiss:
            output.tell(f"aosk: {line}")
    if amiss:
        raise typer.Exit(ExitCode.FAILED)


async def _examined(config: Config) -> tuple[Survey, tuple[int, ...]]:
    async with looking(config) as look:
        survey = await look()
        if survey.missing or survey.fault:
            return survey, ()
        async with opened(config) as kernel:
            found = await kernel.request(ListProcesses(limit=MOST))
        return survey, tuple(status.pid for status in found if is_stranded(status))


def _amiss(survey: Survey, stranded: tuple[int, ...]) -> list[str]:
    schema = survey.fault or (behind(survey) if survey.missing else None)
    left = f"{len(stranded)} stranded: no kernel that runs has their program; see `aosk ps`"
    return [*([schema] if schema else []), *([left] if stranded else [])]


def status(config_file: Path | None, *, as_json: bool) -> None:
    """What is applied and what is not. Ends with 1 where this version cannot work with it."""
    survey = loop.run(_survey, configured(config_file))
    ok = survey.fault is None and not survey.missing
    if as_json:
        output.document({"ok": ok, **_told(survey)})
    else:
        output.facts(_about(survey))
        if not ok:
            output.tell(f"aosk: {survey.fault or behind(survey)}")
    if not ok:
        raise typer.Exit(ExitCode.FAILED)


async def _survey(config: Config) -> Survey:
    async with looking(config) as look:
        return await look()


def migrate(config_file: Path | None, *, as_json: bool) -> None:
    """Let the driver start once: it brings the schema up to date, or says why it cannot."""
    before, after = loop.run(_migrated, configured(config_file))
    applied = [name for name in after.applied if name not in before]
    if as_json:
        output.document({"ok": True, "applied_now": applied, **_told(after)})
    else:
        print(f"applied {', '.join(applied)}" if applied else "up to date; nothing to apply")


async def _migrated(config: Config) -> tuple[tuple[str, ...], Survey]:
    """What was applied before, and how the database is afterwards."""
    async with looking(config) as look:
        before = (await look()).applied
        async with Kernel(build(STORAGE, config.services[STORAGE]), config=config.kernel):
            return before, await look()


def _told(survey: Survey) -> dict[str, Any]:
    told = asdict(survey)
    return {**told, "states": dict(survey.states), "up_to_date": not survey.missing}


def _about(survey: Survey) -> list[tuple[str, str]]:
    rows = [
        ("database", survey.where),
        ("server", f"PostgreSQL {survey.server}" if survey.server else "not started yet"),
        ("applied", ", ".join(survey.applied) or "nothing"),
    ]
    if survey.missing:
        rows.append(("missing", ", ".join(survey.missing)))
    if survey.unknown:
        rows.append(("newer", f"{', '.join(survey.unknown)}, by a newer version"))
    return rows


def _kernel(kernel: KernelSeen) -> str:
    known = ", ".join(sorted(f"{name} {version}" for name, version in kernel.programs))
    where = f" (process {kernel.os_pid})" if kernel.os_pid else ""
    runs = f"runs {kernel.processes} processes, lease until {clock(kernel.until)}"
    return f"{kernel.number}{where} {runs}; programs: {known or 'none'}"


def _inside(survey: Survey, stranded: tuple[int, ...]) -> list[tuple[str, str]]:
    living = [kernel for kernel in survey.kernels if kernel.lives]
    rows = [("namespace", survey.namespace)]
    rows += [
        (
            "kernel",
            _kernel(kernel),
        )
        for kernel in living
    ] or [("kernel", "none runs")]
    counted = ", ".join(f"{number} {state}" for state, number in survey.states.items())
    rows.append(("processes", counted or "none"))
    if stranded:
        rows.append(("stranded", ", ".join(map(str, stranded))))
    return rows
