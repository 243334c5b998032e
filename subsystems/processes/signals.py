"""Signals: they lie in the process's control mailbox until whoever owns it has obeyed.

So none is lost by a crash, and none is applied by two. A process that nobody owns is taken
over for it, which fences whoever had it.
"""

from collections import deque
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING

import anyio

from ..storage.messages import (
    ENDED,
    Announce,
    ClaimProcesses,
    Command,
    Commit,
    FindProcesses,
    Pid,
    PostCommand,
    ProcessRecord,
    ReadCommands,
    SaveProcess,
    State,
    StorageError,
    TakeCommand,
)
from . import exits
from .live import Live
from .messages import Kill

if TYPE_CHECKING:
    from .service import Processes

KILLED = "killed by a signal"
DESCENDANTS = 1_000_000


class Signals:
    """Sends signals, and carries out those that reach processes of this kernel."""

    def __init__(self, service: "Processes") -> None:
        self._service = service

    # Sending

    async def send(self, request: Kill) -> None:
        """To the process, and to its descendants where they are meant too."""
        record = await self._service.read(request.pid)
        await self._send(record, request)
        for below in await self._descendants(record.pid) if request.group else ():
            await self._send(below, request)

    async def _descendants(self, pid: Pid) -> tuple[ProcessRecord, ...]:
        found: list[ProcessRecord] = []
        parents = deque([pid])
        while parents:
            among = FindProcesses(parent=parents.popleft(), ended=True, limit=DESCENDANTS)
            children = await self._service.request(among)
            found += children
            parents += [child.pid for child in children]
        return tuple(found)

    async def _send(self, record: ProcessRecord, request: Kill) -> None:
        if record.state in ENDED:
            return
        pid, signal = record.pid, request.signal
        if await self.post(pid, signal, request.grace_s):
            return
        if signal == "CONT":
            await self._continue(pid)
        elif signal == "TERM":
            await self._terminate_absent(pid)
        else:
            await self._set_absent(pid, "killed" if signal == "KILL" else "stopped")

    async def post(self, pid: Pid, signal: str, seconds: float = 0.0) -> bool:
        """Into its control mailbox; and obey it, if the process is here."""
        post = PostCommand(to=pid, signal=signal, grace_s=seconds)
        await self._service.request(Commit(writes=(post,)))
        live = self._service.live.get(pid)
        if live is not None:
            await self.obey(live)
        return live is not None

    async def claim(self, pid: Pid, *states: State, known: bool = False) -> ProcessRecord | None:
        """Take over a process that nobody owns, of a program that is `known` here."""
        programs = self._service.known if known else None
        claim = ClaimProcesses(pid=pid, states=states, programs=programs)
        return next(iter(await self._service.request(claim)), None)

    async def _set_absent(self, pid: Pid, state: State) -> None:
        stopped: tuple[State, ...] = ("stopped",) if state == "killed" else ()
        record = await self.claim(pid, "running", "parked", *stopped)
        if record is not None:
            error = KILLED if state == "killed" else None
            await self._save(replace(record, state=state, error=error, error_kind=None))

    async def _continue(self, pid: Pid) -> None:
        record = await self.claim(pid, "stopped")
        if record is None:
            return
        cleared = replace(record, state="parked", error=None, error_kind=None, waits_in=())
        await self._save(cleared)
        await self._service.resume(pid)

    async def _terminate_absent(self, pid: Pid) -> None:
        """It comes into memory for its clean-up, if it can; a stopped one just ends."""
        stopped = await self.claim(pid, "stopped")
        if stopped is not None:
            await self._save(replace(stopped, state="killed", error=KILLED, error_kind=None))
            return
        record = await self.claim(pid, "running", "parked", known=True)
        if record is not None:
            await self._service.enter(record, fresh=False)

    async def _save(self, record: ProcessRecord) -> None:
        """Of a process that is not in memory, and what it was told until now with it."""
        told = await self._read(record.pid)
        taken = (TakeCommand(number=one.number, signal=one.signal) for one in told)
        await self._service.commit(record, SaveProcess(record=record), *taken)
        if record.state in ENDED:
            await exits.announce(self._service, record)

    async def _read(self, pid: Pid) -> tuple[Command, ...]:
        return await self._service.request(ReadCommands(pid=pid))

    # Obeying

    async def obey(self, live: Live, *, replaying: bool = False) -> None:
        """Carry out what lies in the process's control mailbox."""
        for command in await self._read(live.record.pid):
            if command.number not in live.commands:
                live.commands[command.number] = command.signal
                self._apply(live, command, replaying=replaying)
                if command.signal == "FOLLOW":
                    await self._follow(live, command)

    def _apply(self, live: Live, command: Command, *, replaying: bool) -> None:
        match command.signal:
            case "KILL":
                live.cut("killed", sealed=True)
            case "STOP" if live.verdict != "killed":
                live.cut("stopped", sealed=True)
            case "CONT" if live.verdict == "stopped":
                live.verdict = "parked"
            case "REST" if not (live.sealed or replaying):
                live.come_to_rest()
            case "TERM" if not live.sealed:
                live.doomed = command.grace_s
                if not replaying:
                    self.terminate(live)

    async def _follow(self, live: Live, command: Command) -> None:
        """Tell whoever follows from now on, and at once, that it is heard here."""
        live.followed_until = self._service.bus.time() + command.grace_s
        with suppress(StorageError):  # the next one that owns it finds the command
            taken = TakeCommand(number=command.number, signal=command.signal)
            await self._service.commit(live.record, taken, Announce())

    def terminate(self, live: Live) -> None:
        """Cut the program, which has its grace for cleaning up."""
        grace_s, live.doomed = live.doomed or 0.0, None
        live.cut("killed", sealed=False)
        name = f"kill {live.record.pid}"
        self._service.start_soon(self._then_kill, live, grace_s, name=name)

    async def _then_kill(self, live: Live, grace_s: float) -> None:
        """TERM has been sent; what is not gone after the grace is killed."""
        await anyio.sleep(grace_s)
        if self._service.live.get(live.record.pid) is live:
            live.cut("killed", sealed=True)

    async def after_leaving(self, pid: Pid) -> None:
        """A CONT may have come while the process was being stopped."""
        if any(command.signal == "CONT" for command in await self._read(pid)):
            await self._continue(pid)
