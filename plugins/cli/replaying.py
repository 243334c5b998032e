"""`aosk replay`: a process's program, run again on a copy of its log, in a kernel of its own.

In that kernel there is the process table and nothing else: whatever the log does not answer is
where the replay ends, so no model and no tool is reached, and nothing is written.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

import anyio

from ...kernel import Kernel, Request, Service
from ...kernel.config import Config, build
from ...kernel.service import Handled, subscribes
from ...subsystems.processes.messages import OutcomeUnknown, ProgramDiverged, SyscallBegan
from ...subsystems.processes.unjournaled import unjournaled
from ...subsystems.storage.messages import (
    ClaimProcesses,
    Commit,
    Entry,
    FindAlarms,
    FindProcesses,
    FindStranded,
    Intend,
    Key,
    Page,
    ProcessRecord,
    ReadCommands,
    ReadLetters,
    ReadLog,
    ReadPages,
    ReadProcess,
    ReadQuestions,
    SaveProcess,
    Settle,
)
from . import loop, output
from .daemon import importing_from_here, programs
from .desk import configured, logged, opened
from .exits import ExitCode, Stop

PATIENCE_S = 60.0
"""For a program that neither says anything nor ends."""
HEARD_S = 1.0
"""For the event that tells which syscall it is that asks for something."""
EMPTY = (FindAlarms, FindProcesses, FindStranded, ReadCommands, ReadLetters, ReadQuestions)
"""What a process without letters, signals and children hears."""


class Past(NamedTuple):
    """All that a replay needs of a process."""

    record: ProcessRecord
    entries: tuple[Entry, ...]
    pages: tuple[Page, ...]


class End(NamedTuple):
    """How far the program came: does it agree with its log, and what is there to say."""

    agrees: bool
    says: str


def replay(config_file: Path | None, pid: int, program: str | None, *, as_json: bool) -> None:
    """Tell how far it comes. Raises Stop where it says something else than its log."""
    _tell(*_replay(config_file, pid, program), as_json=as_json)


def check(config_file: Path | None, pid: int, program: str | None, *, as_json: bool) -> None:
    """The same, and where the program takes something that is in no log. Raises Stop."""
    named = (program,) if program else programs(configured(config_file))
    with unjournaled(*{name.partition(".")[0].partition(":")[0] for name in named}) as found:
        past, end = _replay(config_file, pid, program)
    if found:
        told = "\n".join(map(str, found))
        raise Stop(f"{end.says}\n{told}", ExitCode.FAILED, "unjournaled")
    _tell(past, end, as_json=as_json)
    if not as_json:
        print("Up to there it reads no clock, draws nothing and connects to nothing by itself.")


def _replay(config_file: Path | None, pid: int, program: str | None) -> tuple[Past, End]:
    importing_from_here()
    config = configured(config_file)
    named = (program,) if program else programs(config)
    if not named:
        raise Stop(
            "which program? Name it with --program module:name, or in aosk.toml with "
            "[services.processes] programs",
            ExitCode.USAGE,
        )
    past = loop.run(_past, config, pid)
    return past, anyio.run(_replayed, config, past, named)  # on a loop that can be looked into


def _tell(past: Past, end: End, *, as_json: bool) -> None:
    if not end.agrees:
        raise Stop(end.says, ExitCode.FAILED, "diverged")
    if as_json:
        step, known = past.record.step, len(past.entries)
        output.document(
            {"ok": True, "pid": past.record.pid, "step": step, "syscalls": known, "end": end.says}
        )
    else:
        print(end.says)


async def _past(config: Config, pid: int) -> Past:
    async with opened(config) as kernel:
        record = await logged(kernel, pid)
        entries = await kernel.request(ReadLog(pid=record.pid, step=record.step))
        return Past(record, entries, await kernel.request(ReadPages(pid=record.pid)))


async def _replayed(config: Config, past: Past, named: tuple[str, ...]) -> End:
    table = config.services.get("processes", {})
    processes = build("processes", {**table, "programs": list(named), "drain_s": 0})
    archive = Archive(past, processes.needs)
    async with Kernel(archive, processes):
        with anyio.move_on_after(PATIENCE_S):
            await archive.ended.wait()
    return archive.end or End(False, f"it neither spoke nor ended for {PATIENCE_S:g} s")


class Archive(Service, name="archive"):
    """A storage that has one process, and keeps nothing. What it cannot answer is the end."""

    def __init__(self, past: Past, kinds: frozenset[type[Request[Any]]]) -> None:
        self.__handled__ = tuple(Handled(kind, "answer", False) for kind in kinds)
        self._past, self._given = past, False
        self.end: End | None = None
        self.ended = anyio.Event()

    @subscribes(SyscallBegan)
    async def hear(self, event: SyscallBegan) -> None:
        """Told of those syscalls only that the log does not answer."""
        self._end(self._beyond(event.kind, event.key))

    async def answer(self, request: Request[Any]) -> Any:
        """From the past; or never, where that has no answer."""
        past = self._past
        match request:
            case ClaimProcesses():
                return self._claimed(request)
            case ReadProcess():
                return past.record if request.pid == past.record.pid else None
            case ReadLog():
                return past.entries
            case ReadPages():
                return tuple(page for page in past.pages if page.number > request.after)
            case Commit():
                return await self._commit(request)
            case _ if type(request) in EMPTY:
                return ()
        return await self._stay(f"The log ends here; the program goes on with {request.topic}.")

    async def _stay(self, where: str) -> NoReturn:
        """Nothing comes of it; `hear` is about to know better what it is."""
        with anyio.move_on_after(HEARD_S):
            await self.ended.wait()
        self._end(End(True, where))
        await anyio.sleep_forever()
        raise AssertionError

    def _claimed(self, claim: ClaimProcesses) -> tuple[ProcessRecord, ...]:
        record, programs = self._past.record, claim.programs or ()
        if self._given:
            return ()
        if (record.program, record.version) not in programs:
            loaded = ", ".join(" version ".join(one) for one in programs)
            says = f"the process runs {record.program} version {record.version}; loaded: {loaded}"
            self._end(End(False, f"{says}; name another with --program module:name"))
            return ()
        self._given = True
        return (replace(record, state="running", result=None, error=None, error_kind=None),)

    async def _commit(self, commit: Commit) -> None:
        for write in commit.writes:
            match write:
                case SaveProcess():
                    self._end(self._came_to(write.record))
                case Intend() | Settle():
                    self._end(self._beyond(write.kind, write.key))
                    await anyio.sleep_forever()

    def _end(self, end: End) -> None:
        """The first word counts; what the process says while it is let go does not."""
        if self.end is None:
            self.end = end
            self.ended.set()

    def _beyond(self, kind: str, key: Key) -> End:
        """The program says something that the log has no answer to."""
        record = self._past.record
        if record.state in ("exited", "failed"):
            return End(
                False, f"at {key} the program calls {kind!r}, where it has {record.state} before"
            )
        return End(
            True,
            f"It arrives: all of the {len(self._past.entries)} syscalls of step {record.step} "
            f"agree, and the program goes on with {kind!r} at {key}.",
        )

    def _came_to(self, now: ProcessRecord) -> End:
        """How the step ended, now and then."""
        was = self._past.record
        if now.error_kind in (ProgramDiverged.__name__, OutcomeUnknown.__name__):
            return End(now.error_kind != ProgramDiverged.__name__, now.error or "")
        if was.state in ("exited", "failed"):
            return _compared(was, now)
        agree = f"It arrives: step {was.step} agrees with the log"
        if now.state == "running":
            return End(True, f"{agree}, and comes to its end.")
        return End(True, f"{agree}, and the process has {_how(now)}.")


def _compared(was: ProcessRecord, now: ProcessRecord) -> End:
    if _how(was) == _how(now):
        return End(True, f"It arrives: step {was.step} agrees with the log, and {_how(was)}.")
    return End(False, f"the process has {_how(was)}, and now it has {_how(now)}")


def _how(record: ProcessRecord) -> str:
    """How it ended, in words."""
    if record.state == "exited":
        return f"exited with {record.result}"
    return f"{record.state}: {record.error_kind}: {record.error}" if record.error else record.state
