"""The process table: spawns programs, lets others wait for them, signals them, parks them."""

import asyncio
from contextlib import nullcontext
from typing import Any, Literal

import anyio

from ...kernel.service import Service, handles, subscribes
from ..llm.messages import Complete
from ..memory.messages import Recall, Remember
from ..pager.messages import Render
from ..storage.messages import (
    ENDED,
    ClaimProcesses,
    Commit,
    FindAlarms,
    FindProcesses,
    FindStranded,
    KeyTaken,
    NewPid,
    Pid,
    ProcessRecord,
    Question,
    Rang,
    ReadCommands,
    ReadLetters,
    ReadLog,
    ReadProcess,
    ReadQuestions,
    State,
    Write,
)
from ..tools.messages import CallTool, FindTools, OfferTools, Reconcile
from . import births, exits, table
from .adoption import Adoption
from .live import Live
from .mailbox import Mailboxes
from .messages import (
    Ask,
    Checkpoint,
    CountLive,
    Doing,
    DoubtfulCall,
    Follow,
    Inspect,
    Kill,
    ListDoubts,
    ListProcesses,
    LiveKind,
    NoSuchProcess,
    NoSuchProgram,
    OpenStream,
    ProcessResumed,
    ProcessSpawned,
    ProcessStatus,
    ReadLive,
    Resolve,
    Resume,
    Send,
    Spawn,
    Wait,
    Withdraw,
)
from .parking import park_idle, suspend_all
from .program.definition import Definition
from .registry import definitions
from .residence import begin_stay
from .resolving import Doubts
from .signals import Signals
from .stream import DeltaStream

_FREE = nullcontext()


class Processes(
    Service,
    name="processes",
    needs_at_start=[
        *(Commit, ClaimProcesses, NewPid, ReadLog, ReadLetters, ReadProcess, FindProcesses),
        *(ReadCommands, ReadQuestions, FindAlarms, FindStranded),
        *(Render, Complete, FindTools, OfferTools, CallTool, Remember, Recall, Ask, Withdraw),
    ],
    needs=[Reconcile],
):
    """Runs programs as processes.

    `programs` are known from the start, as "package.module" or "package.module:name"; others
    become known when they are spawned. `mailbox` bounds a process's letters. A process that
    only waits, longer than `park_after_s`, leaves memory, and comes back by replay. When the
    kernel ends, whoever is at work may finish within `drain_s`; then processes are suspended
    where they are, or killed with `detach=False`. Every `adopt_every_s` it takes over the
    processes of its programs whose kernel has gone. With `adopt=False` it leaves them, and has
    nothing but what it spawns or is told to `Resume`. A model call that a crash has cut is sent
    again, or, with `on_unknown_call = "park"`, stops its process until somebody resolves it.
    """

    def __init__(
        self,
        mailbox: int = 1000,
        park_after_s: float = 300.0,
        drain_s: float = 10.0,
        detach: bool = True,
        adopt: bool = True,
        adopt_every_s: float = 5.0,
        programs: tuple[str, ...] = (),
        on_unknown_call: Literal["again", "park"] = "again",
    ) -> None:
        self._park_after_s, self._drain_s = park_after_s, drain_s
        self._last_verdict: State = "parked" if detach else "killed"
        self.on_unknown_call = on_unknown_call
        self.live: dict[Pid, Live] = {}
        self.programs: dict[tuple[str, str], Definition[Any]] = {}
        self.known: tuple[tuple[str, str], ...] = ()  # their names and versions
        self.exits: dict[Pid, asyncio.Future[ProcessRecord]] = {}
        self.adoption = Adoption(self, adopt_every_s, adopt=adopt)
        self.mail, self.signals = Mailboxes(self, mailbox), Signals(self)
        self.doubts = Doubts(self)
        self.newborn: set[Pid] = set()  # born here, and not yet in memory
        self._keyed = anyio.Lock()
        self._running = anyio.Event()
        self.ending = False
        for name in programs:
            for definition in definitions(name):
                self.register(definition)

    async def start(self) -> None:
        self.ending, self._running = False, anyio.Event()

    async def run(self) -> None:
        """Own the tasks of all processes. The library's own group: half the memory of anyio's."""
        async with asyncio.TaskGroup() as self._tasks_of_processes:
            self._running.set()
            self.start_soon(self.adoption.run, name="adopt")
            try:
                await park_idle(self, self._park_after_s)
            finally:
                with anyio.CancelScope(shield=True):
                    await suspend_all(self, self._last_verdict, self._drain_s)

    async def stop(self) -> None:
        self.ending = True
        for live in self.live.values():
            live.close_streams()
        self.live.clear()

    # Spawning

    @handles(Spawn)
    async def spawn(self, request: Spawn) -> ProcessRecord:
        async with self._keyed if request.key is not None else _FREE:
            record, birth = await births.prepare(self, request)
            if birth:
                try:
                    await self.commit(record, *birth)
                except KeyTaken:  # by another kernel, a moment ago
                    record, _ = await births.prepare(self, request)
        return await self.resume(record.pid, record)

    def register(self, definition: Definition[Any]) -> Definition[Any]:
        known = self.programs.setdefault((definition.name, definition.version), definition)
        if known is definition and len(self.programs) > len(self.known):
            self.known = tuple(self.programs)
            self.adoption.learn()
        if known is not definition:
            raise ValueError(
                f"two programs are called {definition.name!r} version {definition.version!r}; "
                "give one another name or version"
            )
        return definition

    async def resume(self, pid: Pid, record: ProcessRecord | None = None) -> ProcessRecord:
        """Bring a process into memory, if it has something to do and nobody else has it."""
        if pid in self.newborn:
            self.newborn.discard(pid)
            record = record or await self.read(pid)
            if self.ending:
                return record
            if record.epoch == 0:  # else we froze, and another kernel has taken it over
                return await self.enter(record, fresh=True)
        if not self.ending:
            await self.adoption.take(pid)
        live = self.live.get(pid)
        return live.record if live is not None else record or await self.read(pid)

    @handles(Resume)
    async def take_over(self, request: Resume) -> ProcessStatus:
        record = await self.read(request.pid)
        if (record.program, record.version) not in self.programs:
            raise NoSuchProgram(
                f"process {record.pid} runs {record.program!r} version {record.version!r}, which "
                'is not known here: name it in [services.processes] programs = ["module:name"]'
            )
        await self.adoption.bring(ClaimProcesses(pid=record.pid))
        return await self.inspect(Inspect(pid=record.pid))

    async def enter(self, record: ProcessRecord, *, fresh: bool) -> ProcessRecord:
        """Let a process of ours run: from its beginning, or by replay."""
        pid = record.pid
        live = self.live[pid] = Live(record, fresh=fresh)
        self.adoption.has(pid)
        if not fresh:
            await self.signals.obey(live, replaying=True)
        if not self._running.is_set():  # an event that is set costs a round of the loop
            await self._running.wait()
        begin_stay(self, live, self._tasks_of_processes)
        if not fresh:
            await self.publish(ProcessResumed(pid=pid))
        elif self.bus.hears(ProcessSpawned):
            await births.announce(self, record)
        return record

    def forget(self, live: Live) -> None:
        """It has left memory."""
        if self.live.get(live.record.pid) is live:  # else it has been adopted already
            del self.live[live.record.pid]
        live.close_streams()

    # The log

    async def commit(self, record: ProcessRecord, *writes: Write, lazy: bool = False) -> None:
        await self.request(Commit(pid=record.pid, epoch=record.epoch, writes=writes, lazy=lazy))

    # Waiting and looking

    @handles(Wait, waits=True)
    async def wait(self, request: Wait) -> ProcessRecord:
        return await exits.wait(self, request.pid)

    async def read(self, pid: Pid) -> ProcessRecord:
        record = await self.request(ReadProcess(pid=pid))
        if record is None:
            raise NoSuchProcess(f"there is no process {pid}")
        return record

    @handles(Inspect)
    async def inspect(self, request: Inspect) -> ProcessStatus:
        return await table.inspect(self, request)

    @handles(ListProcesses)
    async def list(self, request: ListProcesses) -> tuple[ProcessStatus, ...]:
        return await table.find(self, request)

    @handles(CountLive)
    async def count_live(self, request: CountLive) -> tuple[LiveKind, ...]:
        return table.kinds(self)

    @handles(ReadLive)
    async def read_live(self, request: ReadLive) -> tuple[Doing, ...]:
        return table.doings(self, request.limit)

    @handles(OpenStream)
    async def open_stream(self, request: OpenStream) -> DeltaStream:
        return await table.stream(self, request)

    # Letters

    @handles(Send)
    async def send(self, request: Send) -> None:
        await self.mail.post(request.to, request.body)

    async def questions(self, ask: Ask) -> tuple[Question, ...]:
        """The question of this place, as it stands."""
        return await self.request(ReadQuestions(pid=ask.pid, key=ask.key))

    @subscribes(Rang, overflow="lossless")
    async def on_rang(self, event: Rang) -> None:
        if not self.ending:
            await self.adoption.ring(event.pids)

    # Signals

    @handles(Kill)
    async def kill(self, request: Kill) -> None:
        await self.signals.send(request)

    @handles(Checkpoint)
    async def checkpoint(self, request: Checkpoint) -> None:
        record = await self.read(request.pid)
        if record.state == "running":
            await self.signals.post(record.pid, "REST")

    @handles(Follow)
    async def follow(self, request: Follow) -> None:
        record = await self.read(request.pid)
        if record.state not in ENDED:
            await self.signals.post(record.pid, "FOLLOW", request.for_s)

    # Doubts

    @handles(ListDoubts)
    async def list_doubts(self, request: ListDoubts) -> tuple[DoubtfulCall, ...]:
        return await self.doubts.of(request.pid)

    @handles(Resolve)
    async def resolve(self, request: Resolve) -> None:
        await self.doubts.resolve(request)
