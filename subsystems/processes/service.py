"""The process table: spawns programs, lets others wait for them, signals them, parks them."""

import asyncio
from contextlib import suppress
from contextvars import Context
from dataclasses import replace
from typing import Any

import anyio

from ...kernel.call import Envelope, current, here
from ...kernel.service import Service, handles
from ..llm.messages import Complete
from ..memory.messages import Recall, Remember
from ..pager.messages import Render
from ..storage.messages import (
    ENDED,
    AddProcess,
    ClaimProcesses,
    Commit,
    Entry,
    FindProcesses,
    Intend,
    Key,
    KeyTaken,
    Letter,
    NewPid,
    Pid,
    PostLetter,
    ProcessRecord,
    ReadLetters,
    ReadLog,
    ReadProcess,
    SaveProcess,
    State,
    StorageUnavailable,
    Write,
)
from ..tools.messages import CallTool, FindTools
from .live import Live
from .messages import (
    Ask,
    Blocked,
    Inspect,
    Kill,
    ListProcesses,
    MailboxFull,
    NoSuchProcess,
    OpenStream,
    Origin,
    ProcessExited,
    ProcessParked,
    ProcessResumed,
    ProcessSpawned,
    ProcessStatus,
    ProgramDiverged,
    Send,
    Spawn,
    Wait,
)
from .process import Process
from .program import Definition, Exit
from .stream import DeltaStream
from .syscall import Suspended
from .transcript import Transcript

KILLED = "killed by a signal"
LAST_WORDS_S = 5.0
"""How long the clean-up of a program that is cut may take at the end of the kernel."""


class Processes(
    Service,
    name="processes",
    needs_at_start=[
        *(Commit, ClaimProcesses, NewPid, ReadLog, ReadLetters, ReadProcess, FindProcesses),
        *(Render, Complete, FindTools, CallTool, Remember, Recall, Ask),
    ],
):
    """Runs programs as processes.

    `mailbox` bounds a process's letters. A process that waits for a letter or for another
    process longer than `park_after_s` leaves memory, and comes back by replay. When the
    kernel ends, whoever is at work may finish within `drain_s`; then processes are suspended
    where they are, or killed with `detach=False`. Every `adopt_every_s` it takes over the
    processes of its programs whose kernel has gone.
    """

    def __init__(
        self,
        mailbox: int = 1000,
        park_after_s: float = 300.0,
        drain_s: float = 10.0,
        detach: bool = True,
        adopt_every_s: float = 5.0,
    ) -> None:
        self._mailbox, self._park_after_s = mailbox, park_after_s
        self._drain_s, self._adopt_every_s = drain_s, adopt_every_s
        self._last_verdict: State = "parked" if detach else "killed"
        self._live: dict[Pid, Live] = {}
        self._programs: dict[tuple[str, str], Definition[Any]] = {}
        self._newborn: set[Pid] = set()  # born here, and not yet in memory
        self._exits: dict[Pid, asyncio.Future[ProcessRecord]] = {}
        self._waiters: dict[Pid, set[Pid]] = {}
        self._keyed = anyio.Lock()
        self._running = anyio.Event()
        self._registered = anyio.Event()  # a program has become known
        self.ending = False

    async def start(self) -> None:
        self.ending, self._running = False, anyio.Event()

    async def run(self) -> None:
        """Own the tasks of all processes. The library's own group: half the memory of anyio's."""
        async with asyncio.TaskGroup() as self._tasks_of_processes:
            self._running.set()
            self.start_soon(self._adopt, name="adopt")
            try:
                await self._park_idle()
            finally:
                with anyio.CancelScope(shield=True):
                    await self._suspend_all()

    async def _suspend_all(self) -> None:
        """Let those at work finish for a while; whoever waits, now or then, leaves at once."""
        self.ending = True
        for live in tuple(self._live.values()):
            live.leave_with(self._last_verdict)
        await self._until_gone(self._drain_s)
        for live in tuple(self._live.values()):
            live.cut(self._last_verdict, sealed=True)
        await self._until_gone(LAST_WORDS_S)

    async def _until_gone(self, seconds: float) -> None:
        tasks = [live.task for live in self._live.values() if live.task is not None]
        if tasks:
            await asyncio.wait(tasks, timeout=seconds)

    async def _park_idle(self) -> None:
        """Park what has waited for long. One sweep looks at all, so none needs a timer."""
        while True:
            await anyio.sleep(max(self._park_after_s / 4, 0.01))
            limit = self.bus.time() - self._park_after_s
            for live in tuple(self._live.values()):
                if live.idle_since(limit) and not live.sealed:
                    live.cut("parked", sealed=True)

    async def _adopt(self) -> None:
        """Take over what nobody runs: at first whatever there is, later what lost its kernel."""
        known: set[tuple[str, str]] = set()
        while not self.ending:
            self._registered = anyio.Event()
            new = tuple(set(self._programs) - known)
            known |= set(new)
            with suppress(StorageUnavailable):  # it may be back the next time
                await self._claim(ClaimProcesses(programs=new))
                await self._claim(ClaimProcesses(programs=tuple(known), states=("running",)))
            with anyio.move_on_after(self._adopt_every_s):
                await self._registered.wait()

    async def _claim(self, claim: ClaimProcesses) -> None:
        while claim.programs and not self.ending:
            claimed = await self.request(claim)
            for record in claimed:
                await self._enter(record, fresh=False)
            if len(claimed) < claim.limit:
                return

    async def stop(self) -> None:
        self.ending = True
        for live in self._live.values():
            live.close_streams()
        self._live.clear()

    # Spawning

    @handles(Spawn)
    async def spawn(self, request: Spawn) -> ProcessRecord:
        async with self._keyed if request.key is not None else _FREE:
            record, is_new = await self.prepare(request)
            if is_new:
                try:
                    await self.commit(record, AddProcess(record=record))
                except KeyTaken:  # by another kernel, a moment ago
                    record, _ = await self.prepare(request)
        return await self.resume(record.pid, record)

    async def prepare(self, request: Spawn) -> tuple[ProcessRecord, bool]:
        """The record of a process to be, or of the one that has its key, and whether it is new."""
        definition = self.register(request.program)
        if request.key is not None:
            known = await self.request(ReadProcess(key=request.key))
            if known is not None:
                return known, False
        record = ProcessRecord(
            pid=await self.request(NewPid()),
            program=definition.name,
            version=definition.version,
            state_json=request.state_json,
            key=request.key,
            name=request.name,
            role=request.role,
            tags=request.tags,
            parent=request.parent,
            process_class=request.process_class,
            priority=request.priority,
            tenant=request.tenant,
        )
        self._newborn.add(record.pid)
        return record, True

    def register(self, definition: Definition[Any]) -> Definition[Any]:
        known = self._programs.setdefault((definition.name, definition.version), definition)
        if known is not definition:
            raise ValueError(
                f"two programs are called {definition.name!r} version {definition.version!r}; "
                "give one another name or version"
            )
        self._registered.set()
        return definition

    async def resume(self, pid: Pid, record: ProcessRecord | None = None) -> ProcessRecord:
        """Bring a process into memory, unless it is there, has ended or is stopped."""
        record = record or await self.read(pid)
        present = self._live.get(pid)
        if present is not None:
            present.called = present.sealed  # it is leaving, and will come back
            return record
        if self.ending or record.state in (*ENDED, "stopped"):
            return record
        if (record.program, record.version) not in self._programs:
            raise NoSuchProcess(
                f"process {pid} runs {record.program!r} version {record.version!r}, "
                "a program that this kernel does not have"
            )
        fresh = pid in self._newborn
        self._newborn.discard(pid)
        if not fresh:
            claimed = await self.request(ClaimProcesses(pid=pid))
            if not claimed:
                return record  # somebody else has it
            (record,) = claimed
        return await self._enter(record, fresh=fresh)

    async def _enter(self, record: ProcessRecord, *, fresh: bool) -> ProcessRecord:
        """Let a process of ours run: from its beginning, or by replay."""
        pid = record.pid
        live = self._live[pid] = Live(record, fresh=fresh)
        if not self._running.is_set():  # an event that is set costs a round of the loop
            await self._running.wait()
        caused_by = Envelope(here(), self.address, self.bus.time())
        # In a context of its own: a copy of ours would keep the spawning call alive with it.
        Context().run(
            self._tasks_of_processes.create_task,
            self._live_through(live, caused_by),
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

    # Running

    async def _live_through(self, live: Live, caused_by: Envelope) -> None:
        """One stay of a process in memory, from the log to its end or until it is parked."""
        live.task = asyncio.current_task()
        current.set(caused_by)
        try:
            result = await self._steps(live)
            await self._leave(live, "exited", result=result)
        except Suspended:
            await self._leave(live, live.verdict or "parked")
        except asyncio.CancelledError:
            if live.verdict is None:
                raise  # the kernel is ending; the process is suspended
            await self._leave(live, live.verdict)
        except ProgramDiverged as error:
            await self._leave(live, "stopped", error=error)
        except Exception as error:  # noqa: BLE001 - the run border: a program's error is its end
            await self._leave(live, live.verdict or "failed", error=error)

    async def _steps(self, live: Live) -> str:
        """Step after step until Exit; gives the result as JSON."""
        definition = self._programs[live.record.program, live.record.version]
        said = Transcript(self, live)
        process = Process(self, live, said)
        state: Any = definition.state.model_validate_json(live.record.state_json)
        while True:
            said.begin(live.record.step, await self._read_log(live))
            state = await definition.step(process, state)
            if definition.single or isinstance(state, Exit):
                result = state.result if isinstance(state, Exit) else state
                return definition.result.dump_json(result).decode()
            live.record = replace(
                live.record, step=live.record.step + 1, state_json=state.model_dump_json()
            )
            await self.commit(live.record, SaveProcess(record=live.record))

    async def _read_log(self, live: Live) -> dict[Key, Entry]:
        """What the log knows of the step that begins."""
        if live.fresh:
            return {}
        live.fresh = True  # the steps after this one are
        log = await self.request(ReadLog(pid=live.record.pid, step=live.record.step))
        return {entry.key: entry for entry in log}

    async def _leave(
        self,
        live: Live,
        state: State,
        *,
        result: str | None = None,
        error: Exception | None = None,
    ) -> None:
        """Leave memory: ended, parked or stopped."""
        if state == "killed":
            error = None  # what its clean-up ran into is not how it ended
        live.record = replace(
            live.record,
            state=state,
            result=result,
            error=KILLED if state == "killed" else str(error) if error else None,
            error_kind=type(error).__name__ if error else None,
        )
        pid = live.record.pid
        await self.commit(live.record, SaveProcess(record=live.record))
        if self._live.get(pid) is live:  # else it has been adopted already
            del self._live[pid]
        live.close_streams()
        if state in ENDED:
            await self._announce_end(live.record)
            return
        await self.publish(ProcessParked(pid=pid, waits_in=live.waits_in))
        letters = await self.request(ReadLetters(pid=pid))
        if live.called or letters:  # what it waits for came while it was leaving
            await self.resume(pid)

    async def _announce_end(self, record: ProcessRecord) -> None:
        ended = self._exits.pop(record.pid, None)
        if ended is not None and not ended.done():
            ended.set_result(record)
        for waiter in self._waiters.pop(record.pid, ()):
            await self.resume(waiter)
        if self.bus.hears(ProcessExited):
            await self.publish(
                ProcessExited(
                    pid=record.pid, program=record.program, state=record.state, error=record.error
                )
            )

    async def commit(self, record: ProcessRecord, *writes: Write) -> None:
        await self.request(Commit(pid=record.pid, epoch=record.epoch, writes=writes))

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

    async def ended(self, pid: Pid, waiter: Pid | None = None) -> ProcessRecord:
        """Wait for a process to end. A waiting process is brought back for it if it is parked."""
        if waiter is not None:
            self._waiters.setdefault(pid, set()).add(waiter)
        if pid not in self._live and (record := await self.read(pid)).state in ENDED:
            return record
        ended = self._exits.get(pid)
        if ended is None:
            ended = self._exits[pid] = asyncio.get_running_loop().create_future()
        return await asyncio.shield(ended)  # others may wait for it too

    async def read(self, pid: Pid) -> ProcessRecord:
        record = await self.request(ReadProcess(pid=pid))
        if record is None:
            raise NoSuchProcess(f"there is no process {pid}")
        return record

    def _status(self, record: ProcessRecord) -> ProcessStatus:
        live = self._live.get(record.pid)
        return ProcessStatus(
            record=record if live is None else live.record,
            live=live is not None,
            doing=Blocked(kind=live.waits_in, since=live.since) if live and live.waits_in else None,
        )

    @handles(Inspect)
    async def inspect(self, request: Inspect) -> ProcessStatus:
        record = await self.request(ReadProcess(pid=request.pid, key=request.key))
        if record is None:
            which = f"number {request.pid}" if request.key is None else f"key {request.key!r}"
            raise NoSuchProcess(f"there is no process with {which}")
        return self._status(record)

    @handles(ListProcesses)
    async def list(self, request: ListProcesses) -> tuple[ProcessStatus, ...]:
        found = await self.request(FindProcesses(**request.model_dump()))
        return tuple(self._status(record) for record in found)

    @handles(OpenStream)
    async def open_stream(self, request: OpenStream) -> DeltaStream:
        live = self._live.get(request.pid)
        if live is not None:
            return live.open_stream()
        await self.read(request.pid)
        stream = DeltaStream()
        stream.close()
        return stream

    # Letters

    @handles(Send)
    async def send(self, request: Send) -> None:
        record = await self.check_mailbox(request.to)
        outside = Commit(
            pid=Pid(0), epoch=0, writes=(PostLetter(to=record.pid, body=request.body),)
        )
        await self.request(outside)
        await self.deliver(record.pid)

    async def check_mailbox(self, pid: Pid) -> ProcessRecord:
        """May a letter be put there?"""
        record = await self.read(pid)
        if record.state in ENDED:
            raise NoSuchProcess(f"process {pid} has {record.state}; it reads no letters")
        letters = await self.request(ReadLetters(pid=pid, limit=self._mailbox))
        if len(letters) >= self._mailbox:
            raise MailboxFull(f"the mailbox of process {pid} holds {len(letters)} letters")
        return record

    async def deliver(self, pid: Pid) -> None:
        """A letter has been committed: wake the process, from outside of memory if need be."""
        live = self._live.get(pid)
        if live is not None:
            live.wake()
        else:
            await self.resume(pid)

    async def next_letter(self, live: Live, key: Key) -> Letter | None:
        """The oldest letter that no other branch of the process is taking."""
        held = live.taking or {}
        letters = await self.request(ReadLetters(pid=live.record.pid, limit=len(held) + 1))
        for letter in letters:
            if letter.number not in (live.taking or {}).values():
                live.taking = {**(live.taking or {}), key: letter.number}
                return letter
        return None

    # Signals

    @handles(Kill)
    async def kill(self, request: Kill) -> None:
        record, live = await self.read(request.pid), self._live.get(request.pid)
        if record.state in ENDED:
            return
        if request.signal == "CONT":
            await self._continue(record)
        elif live is None:
            await self._signal_absent(record, request)
        elif request.signal == "STOP":
            live.cut("stopped", sealed=True)
        elif request.signal == "KILL":
            live.cut("killed", sealed=True)
        else:
            live.cut("killed", sealed=False)
            self.start_soon(self._then_kill, live, request.grace_s, name=f"kill {record.pid}")

    async def _then_kill(self, live: Live, grace_s: float) -> None:
        """TERM has been sent; what is not gone after the grace is killed."""
        await anyio.sleep(grace_s)
        if self._live.get(live.record.pid) is live:
            live.cut("killed", sealed=True)

    async def _signal_absent(self, record: ProcessRecord, request: Kill) -> None:
        state: State = "stopped" if request.signal == "STOP" else "killed"
        error = None if state == "stopped" else KILLED
        record = replace(record, state=state, error=error)
        await self.commit(record, SaveProcess(record=record))
        if state == "killed":
            await self._announce_end(record)

    async def _continue(self, record: ProcessRecord) -> None:
        if record.state == "stopped":
            record = replace(record, state="parked", error=None)
            await self.commit(record, SaveProcess(record=record))
        await self.resume(record.pid)


class _Free:
    """No lock."""

    async def __aenter__(self) -> None: ...
    async def __aexit__(self, *_: object) -> None: ...


_FREE = _Free()
