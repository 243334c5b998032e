"""The process table: spawns programs, lets others wait for them, signals them, parks them."""

import asyncio
import heapq
from collections import Counter
from contextvars import Context
from typing import Any, Literal, NamedTuple

import anyio

from ...kernel.call import Envelope, here
from ...kernel.service import Service, handles, subscribes
from ..llm.messages import Complete
from ..memory.messages import Recall, Remember
from ..pager.messages import Render
from ..policy.messages import Bounds
from ..quota.messages import Quota, of_process
from ..storage.messages import (
    ENDED,
    AddProcess,
    ClaimProcesses,
    Commit,
    FindAlarms,
    FindProcesses,
    FindStranded,
    Intend,
    KeyTaken,
    NewPid,
    Pid,
    PostLetter,
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
from .adoption import Adoption
from .live import Live
from .mailbox import Mailboxes
from .messages import (
    Ask,
    Blocked,
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
    Origin,
    ProcessExited,
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
from .program import Definition
from .registry import definitions
from .residence import live_through
from .resolving import Doubts
from .signals import Signals
from .stream import DeltaStream

LAST_WORDS_S = 5.0
"""How long the clean-up of a program that is cut may take at the end of the kernel."""


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
        self._newborn: set[Pid] = set()  # born here, and not yet in memory
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
                await self._park_idle()
            finally:
                with anyio.CancelScope(shield=True):
                    await self._suspend_all()

    async def _suspend_all(self) -> None:
        """Let those at work finish for a while; whoever waits, now or then, leaves at once."""
        self.ending = True
        for live in tuple(self.live.values()):
            live.leave_with(self._last_verdict)
        await self._until_gone(self._drain_s)
        for live in tuple(self.live.values()):
            if not live.sealed:  # else it is leaving, and writes down what it waits for
                live.cut(self._last_verdict, sealed=True)
        await self._until_gone(LAST_WORDS_S)

    async def _until_gone(self, seconds: float) -> None:
        tasks = [live.task for live in self.live.values() if live.task is not None]
        if tasks:
            await asyncio.wait(tasks, timeout=seconds)

    async def _park_idle(self) -> None:
        """Park what has waited for long. One sweep looks at all, so none needs a timer.

        Where nothing is adopted nothing would bring it back.
        """
        while True:
            await anyio.sleep(max(self._park_after_s / 4, 0.01))
            limit = self.bus.time() - self._park_after_s
            for live in tuple(self.live.values()):
                if self.adoption.adopts and live.idle_since(limit) and not live.sealed:
                    live.cut("parked", sealed=True)

    async def stop(self) -> None:
        self.ending = True
        for live in self.live.values():
            live.close_streams()
        self.live.clear()

    # Spawning

    @handles(Spawn)
    async def spawn(self, request: Spawn) -> ProcessRecord:
        async with self._keyed if request.key is not None else _FREE:
            record, birth = await self.prepare(request)
            if birth:
                try:
                    await self.commit(record, *birth)
                except KeyTaken:  # by another kernel, a moment ago
                    record, _ = await self.prepare(request)
        return await self.resume(record.pid, record)

    async def prepare(self, request: Spawn) -> tuple[ProcessRecord, tuple[Write, ...]]:
        """The record of a process to be, and how it is born; or of the one that has its key."""
        definition = self.register(request.program)
        if request.key is not None:
            known = await self.request(ReadProcess(key=request.key))
            if known is not None:
                return known, ()
        pid, inherited = await self.request(NewPid()), await self._inherited(request)
        bounds = request.bounds
        record = ProcessRecord(
            pid=pid,
            program=definition.name,
            version=definition.version,
            state_json=request.state_json,
            key=request.key,
            name=request.name,
            role=request.role,
            tags=request.tags,
            parent=request.parent,
            bound=request.bound,
            process_class=request.process_class,
            priority=request.priority,
            tenant=request.tenant,
            quotas=inherited.quotas if request.quota is None else (*inherited.quotas, pid),
            bounds=inherited.bounds if bounds is None else (*inherited.bounds, bounds.written()),
        )
        self._newborn.add(pid)
        quota, now = request.quota or _NONE, self.bus.wall()
        return record, (AddProcess(record=record), *quota.accounts(of_process(pid), now))

    async def _inherited(self, request: Spawn) -> "Inherited":
        """What binds it already. A first bound of its own comes within those of the configuration."""
        if request.parent is None:
            return Inherited((), ())
        live = self.live.get(request.parent)
        parent = live.record if live is not None else await self.read(request.parent)
        return Inherited(parent.quotas, parent.bounds or _configured(request.bounds))

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
        if pid in self._newborn:
            self._newborn.discard(pid)
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
        whose = Origin(
            pid=pid,
            program=record.program,
            process_class=record.process_class,
            priority=record.priority,
            tenant=record.tenant,
            epoch=record.epoch,
            bounds=record.bounds,
        )
        caused_by = Envelope(here(), self.address, self.bus.time(), whose)
        # In a context of its own: a copy of ours would keep the spawning call alive with it.
        Context().run(
            self._tasks_of_processes.create_task,
            live_through(self, live, caused_by),
            name=f"{record.program}[{pid}]",
        )
        if not fresh:
            await self.publish(ProcessResumed(pid=pid))
        elif self.bus.hears(ProcessSpawned):
            await self._announce_begin(record)
        return record

    async def _announce_begin(self, record: ProcessRecord) -> None:
        await self.publish(
            ProcessSpawned(
                pid=record.pid,
                program=record.program,
                name=record.name,
                process_class=record.process_class,
                priority=record.priority,
            )
        )

    def forget(self, live: Live) -> None:
        """It has left memory."""
        if self.live.get(live.record.pid) is live:  # else it has been adopted already
            del self.live[live.record.pid]
        live.close_streams()

    async def announce_end(self, record: ProcessRecord) -> None:
        """Tell whoever waits here; of others, the doorbell tells."""
        self.tell_waiting(record)
        if self.bus.hears(ProcessExited):
            await self.publish(
                ProcessExited(
                    pid=record.pid, program=record.program, state=record.state, error=record.error
                )
            )

    def tell_waiting(self, record: ProcessRecord) -> None:
        ended = self.exits.pop(record.pid, None)
        if ended is not None and not ended.done():
            ended.set_result(record)

    # The log

    async def commit(self, record: ProcessRecord, *writes: Write, lazy: bool = False) -> None:
        await self.request(Commit(pid=record.pid, epoch=record.epoch, writes=writes, lazy=lazy))

    async def intend(self, origin: Origin) -> None:
        """The intent of what a program does outside of the kernel."""
        assert origin.pid is not None
        intent = Intend(
            key=origin.key, kind=origin.kind, fingerprint=origin.fingerprint, effect="once"
        )
        await self.request(Commit(pid=origin.pid, epoch=origin.epoch, writes=(intent,)))

    # Waiting and looking

    @handles(Wait, waits=True)
    async def wait(self, request: Wait) -> ProcessRecord:
        return await self.ended(request.pid)

    async def ended(self, pid: Pid) -> ProcessRecord:
        """Wait for a process to end, wherever it runs."""
        ended = self.exits.get(pid)
        if ended is None:  # before we look, so that no end is missed
            ended = self.exits[pid] = asyncio.get_running_loop().create_future()
        if pid not in self.live:
            try:
                record = await self.read(pid)
            except NoSuchProcess:
                self.exits.pop(pid, None)
                raise
            if record.state in ENDED:
                self.tell_waiting(record)
                return record
        return await asyncio.shield(ended)  # others may wait for it too

    async def read(self, pid: Pid) -> ProcessRecord:
        record = await self.request(ReadProcess(pid=pid))
        if record is None:
            raise NoSuchProcess(f"there is no process {pid}")
        return record

    def _status(self, record: ProcessRecord, stranded: bool) -> ProcessStatus:
        live = self.live.get(record.pid)
        return ProcessStatus(
            record=record if live is None else live.record,
            live=live is not None,
            stranded=stranded,
            doing=Blocked(kind=live.waits_in, since=live.since) if live and live.waits_in else None,
        )

    @handles(Inspect)
    async def inspect(self, request: Inspect) -> ProcessStatus:
        record = await self.request(ReadProcess(pid=request.pid, key=request.key))
        if record is None:
            which = f"number {request.pid}" if request.key is None else f"key {request.key!r}"
            raise NoSuchProcess(f"there is no process with {which}")
        away = () if record.pid in self.live or record.state in ENDED else (record.pid,)
        stranded = await self.request(FindStranded(pids=away)) if away else ()
        return self._status(record, record.pid in stranded)

    @handles(ListProcesses)
    async def list(self, request: ListProcesses) -> tuple[ProcessStatus, ...]:
        found = await self.request(FindProcesses(**request.model_dump()))
        away = tuple(r.pid for r in found if r.pid not in self.live and r.state not in ENDED)
        stranded = await self.request(FindStranded(pids=away)) if away else ()
        return tuple(self._status(record, record.pid in stranded) for record in found)

    @handles(CountLive)
    async def count_live(self, request: CountLive) -> tuple[LiveKind, ...]:
        kinds = Counter(
            (live.record.program, live.record.process_class, live.doing)
            for live in self.live.values()
        )
        return tuple(
            LiveKind(program=program, process_class=of_class, doing=doing, processes=number)
            for (program, of_class, doing), number in kinds.items()
        )

    @handles(ReadLive)
    async def read_live(self, request: ReadLive) -> tuple[Doing, ...]:
        found = heapq.nsmallest(
            request.limit, self.live.values(), key=lambda live: (bool(live.waits_in), live.since)
        )
        return tuple(Doing(pid=live.record.pid, doing=live.doing) for live in found)

    @handles(OpenStream)
    async def open_stream(self, request: OpenStream) -> DeltaStream:
        live = self.live.get(request.pid)
        if live is not None:
            return live.open_stream()
        await self.read(request.pid)
        stream = DeltaStream()
        stream.close()
        return stream

    # Letters

    @handles(Send)
    async def send(self, request: Send) -> None:
        record = await self.mail.check(request.to)
        letter = PostLetter(to=record.pid, body=request.body)
        await self.request(Commit(writes=(letter,)))
        await self.mail.deliver(record.pid)

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


_NONE = Quota()


class Inherited(NamedTuple):
    """What binds a process because it binds its parent."""

    quotas: tuple[Pid, ...]
    bounds: tuple[str, ...]


def _configured(bounds: Bounds | None) -> tuple[str, ...]:
    """What binds a parent without bounds: what a child is given stays within that."""
    return () if bounds is None else (Bounds().written(),)


class _Free:
    """No lock."""

    async def __aenter__(self) -> None: ...
    async def __aexit__(self, *_: object) -> None: ...


_FREE = _Free()
