"""The configured storage, opened from outside: no model, no tool and no process starts."""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from ...kernel import Kernel, Request, Service
from ...kernel.config import Config, build
from ...kernel.errors import Refused
from ...kernel.service import Handled
from ...subsystems.storage.driver import StorageDriver, Survey, Surveyable
from ...subsystems.storage.messages import (
    Pid,
    ProcessRecord,
    ReadProcess,
    SchemaMismatch,
    StorageRefused,
)
from .choice import find
from .exits import ExitCode, Stop

Look = Callable[[], Awaitable[Survey]]
STORAGE = "storage"
NOTHING_OUTLIVES = (
    "storage is in the memory of each program (driver {driver!r}), so nothing outlives the "
    "program and there is nothing here to see. Configure a database: in aosk.toml write\n\n"
    '  [services.storage]\n  driver = "embedded"\n\n'
    'or driver = "postgres" with dsn = {{ env = "DATABASE_URL" }}.'
)


class Held(Service, name="held", driver="storage"):
    """Holds a driver, which is thereby built as a kernel builds it."""

    def __init__(self, driver: StorageDriver, most_mib: int = 0) -> None:
        self.held = driver


class Absent(Service, name="absent"):
    """Stands for what a command does not start, and refuses whatever is asked of it."""

    def __init__(self, kinds: Iterable[type[Request[Any]]]) -> None:
        self.__handled__ = tuple(Handled(kind, "refuse", False) for kind in kinds)

    async def refuse(self, request: Request[Any]) -> None:
        """Nothing here does that."""
        raise Refused(f"a command does no {request.topic}; `aosk up` does", rule="aosk")


def configured(config_file: Path | None) -> Config:
    """The configuration that is named, or that is here."""
    return Config.load(find(config_file))


def driver(config: Config) -> Surveyable:
    """The storage driver, not started. Raises Stop where others cannot see what it stores."""
    table = config.services[STORAGE]
    held = build(STORAGE, {**table, "use": f"{__name__}:{Held.__name__}"})
    assert isinstance(held, Held)
    if not isinstance(held.held, Surveyable):
        raise Stop(
            NOTHING_OUTLIVES.format(driver=table.get("driver")), ExitCode.CONFIG, "nothing_outlives"
        )
    return held.held


@asynccontextmanager
async def looking(config: Config) -> AsyncIterator[Look]:
    """A way to survey the database, whose server is held while this lasts."""
    held = driver(config)

    async def look() -> Survey:
        try:
            return await held.survey()
        except (SchemaMismatch, StorageRefused) as error:
            raise Stop(str(error), ExitCode.CONFIG, type(error).__name__) from error

    try:
        yield look
    finally:
        await held.stop()


@asynccontextmanager
async def opened(config: Config) -> AsyncIterator[Kernel]:
    """A kernel of storage and the process table, which has no programs here.

    So it never claims anything. Raises Stop where the schema is not this version's.
    """
    tables = config.services
    around = [build(name, tables[name]) for name in (STORAGE, "asks") if name in tables]
    processes = build("processes", {**tables.get("processes", {}), "programs": []})
    here = {handled.message for service in around for handled in service.__handled__}
    async with looking(config) as look:
        survey = await look()
        if survey.missing or survey.fault:
            raise Stop(survey.fault or behind(survey), ExitCode.CONFIG, SchemaMismatch.__name__)
        services = (*around, processes, Absent(processes.needs - here))
        async with Kernel(*services, config=config.kernel) as kernel:
            yield kernel


def behind(survey: Survey) -> str:
    """What is missing, and who brings it."""
    if not survey.applied:
        return f"{survey.where} is not made yet: `aosk db migrate` makes it, as does `aosk up`"
    missing = ", ".join(survey.missing)
    return f"{survey.where} lacks {missing}: `aosk db migrate` applies it, as does `aosk up`"


async def process(kernel: Kernel, pid: int) -> ProcessRecord:
    """The process of this number. Raises Stop."""
    record = await kernel.request(ReadProcess(pid=Pid(pid)))
    if record is None:
        raise Stop(
            f"there is no process {pid} in this namespace; `aosk ps --all` lists those there are",
            ExitCode.FAILED,
            "NoSuchProcess",
        )
    return record
