"""The configured storage, opened from outside: no model, no tool and no process starts."""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager, suppress
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
    StorageError,
    StorageRefused,
)
from . import output
from .choice import find
from .exits import ExitCode, Stop

Look = Callable[[], Awaitable[Survey]]
STORAGE = "storage"
NOTHING_OUTLIVES = (
    "storage is in the memory of each program (driver {driver!r}), so nothing outlives the "
    "program and there is nothing here to see. Configure a database: in aosk.toml write\n\n"
    '  [services.storage]\n  driver = "embedded"\n\n'
    'which is the default, or driver = "postgres" with dsn = {{ env = "DATABASE_URL" }}.'
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


def alone(config: Config) -> Config:
    """The same, for a kernel that leaves alone what it does not spawn."""
    processes = {**config.services.get("processes", {}), "adopt": False}
    return config.model_copy(update={"services": {**config.services, "processes": processes}})


def storage(config: Config) -> StorageDriver:
    """The storage driver, not started."""
    held = build(STORAGE, {**config.services[STORAGE], "use": f"{__name__}:{Held.__name__}"})
    assert isinstance(held, Held)
    return held.held


def driver(config: Config) -> Surveyable:
    """The storage driver, not started. Raises Stop where others cannot see what it stores."""
    held = storage(config)
    if not isinstance(held, Surveyable):
        name = config.services[STORAGE].get("driver")
        raise Stop(NOTHING_OUTLIVES.format(driver=name), ExitCode.CONFIG, "nothing_outlives")
    return held


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
async def at_hand(config: Config) -> AsyncIterator[None]:
    """Storage for a kernel that is about to start; says so where it must be made first."""
    held = storage(config)
    try:
        if isinstance(held, Surveyable):
            with suppress(StorageError):  # which the kernel's start tells better
                if not (survey := await held.survey()).server:
                    output.tell(f"Making {survey.where}; that is done once, in a second or two.")
        yield
    finally:
        await held.stop()


@asynccontextmanager
async def opened(config: Config, *more: Service) -> AsyncIterator[Kernel]:
    """A kernel of storage and the process table, which has no programs here, and what is given.

    So it never claims anything. Raises Stop where the schema is not this version's.
    """
    tables = config.services
    around = [build(name, tables[name]) for name in (STORAGE, "asks") if name in tables]
    processes = build("processes", {**tables.get("processes", {}), "programs": []})
    around += [processes, *more]
    here = {handled.message for service in around for handled in service.__handled__}
    needs = frozenset[type[Request[Any]]]().union(*(service.needs for service in around))
    async with looking(config) as look:
        survey = await look()
        if survey.missing or survey.fault:
            raise Stop(survey.fault or behind(survey), ExitCode.CONFIG, SchemaMismatch.__name__)
        services = (*around, Absent(needs - here))
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


async def logged(kernel: Kernel, pid: int) -> ProcessRecord:
    """The process of this number, of which there is a log to read. Raises Stop."""
    record = await process(kernel, pid)
    if record.bare:
        raise Stop(
            f"of process {pid}, which {record.state}, only the record is left: its log was "
            "removed, by [services.retention] or `aosk db forget`",
            ExitCode.FAILED,
            "forgotten",
        )
    return record
