"""A process's side of the log: it answers from what is known, and commits what is new."""

from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import anyio
from pydantic import BaseModel

from ...kernel.errors import KernelError
from ..storage.messages import (
    Entry,
    Erased,
    Fenced,
    Intend,
    Key,
    SaveProcess,
    StorageUnavailable,
    Write,
)
from .doubt import Doubt, Outcome, Recovery, Work
from .messages import (
    ConcurrentSyscalls,
    Epilogue,
    Origin,
    ProgramDiverged,
    SyscallBegan,
    SyscallDone,
)
from .outcomes import commit, commit_apart, cut_off, settle, watched
from .syscall import (
    Branch,
    Suspended,
    branch,
    check,
    fingerprint,
    freeze,
    read,
    recalled,
    without_secrets,
    write,
)

if TYPE_CHECKING:
    from .live import Live
    from .service import Processes

Effects = Callable[[Exception], tuple[Write, ...]]
"""What is committed with a failure."""


def _no_effects(error: Exception) -> tuple[Write, ...]:
    return ()


class Transcript:
    """What the program has said in this step, and how each of it came out."""

    __slots__ = ("_live", "_log", "_service")

    def __init__(self, service: "Processes", live: "Live") -> None:
        self._service, self._live = service, live
        self._log: dict[Key, Entry] = {}

    def begin(self, step: int, log: dict[Key, Entry]) -> None:
        """A step begins here; `log` is what is known of it already."""
        self._log = log
        branch.set(Branch(f"{step}:", self._live.turnstile))

    async def turn(self, changes: dict[str, Any]) -> None:
        """The next step begins here, in the midst of the program, and with a changed state."""
        place, record = branch.get(), self._live.record
        definition = self._service.programs[record.program, record.version]
        state_json = definition.changed(record.state_json, changes)
        if place.path != f"{record.step}:":
            raise ConcurrentSyscalls(
                "'checkpoint' was called within a parallel, a race or a timeout, whose other arms "
                "it would cut off from their log; call it behind them"
            )
        key = self._take(place, "checkpoint")
        try:
            self.known(key, "checkpoint", fingerprint("checkpoint", state_json))
            record = replace(record, step=record.step + 1, state_json=state_json)
            await commit(self._service, self._live, SaveProcess(record=record))
        finally:
            place.free()
        self._live.record = record
        self.begin(record.step, {})

    @contextmanager
    def place(self, kind: str, *arms: Coroutine[Any, Any, Any]) -> Iterator[Key]:
        """The key of what is made of other syscalls: a parallel, a race, a timeout.

        Of its arms some may never start; they are closed in the end.
        """
        place = branch.get()
        try:
            key = self._take(place, kind)
            try:
                yield key
            finally:
                place.free()
        finally:
            for arm in arms:
                arm.close()  # one that has ended already does not mind

    @contextmanager
    def arms(self, count: int) -> Iterator[Callable[[], None]]:
        """Branches that have not started yet are at work too, each until it calls this."""
        live, left = self._live, count
        live.open += count

        def started() -> None:
            nonlocal left
            left, live.open = left - 1, live.open - 1

        try:
            yield started
        finally:
            live.open -= left

    @property
    def in_doubt(self) -> bool:
        """Is it to stop, as soon as what is under way has ended?"""
        return bool(self._live.doubts) and not self._live.sealed

    def rest(self) -> None:
        """A branch has ended."""
        self._live.rest()

    def _take(self, place: Branch, kind: str) -> Key:
        if self._live.rests and not self._live.open:
            self._live.seal("parked")
        if self._live.sealed:
            raise Suspended
        return place.take(kind)

    def known(self, key: Key, kind: str, mark: str) -> Entry | None:
        """The log's entry for this place if it is settled.

        A program that says something else than the log stops here, whatever it would catch.
        """
        entry = self._log.get(key)
        if entry is None:
            return None
        try:
            check(entry, kind, mark)
        except ProgramDiverged as error:
            raise self._stopped(error) from error
        if entry.erased:
            why = f"the outcome of {kind!r} at {key} was erased, and the program needs it to go on"
            raise self._stopped(Erased(why))
        return entry if entry.settled else None

    def diverged(self, how: str) -> Suspended:
        """The program does not do what the log says it did."""
        return self._stopped(ProgramDiverged(how))

    def _stopped(self, error: ProgramDiverged | Erased) -> Suspended:
        self._live.seal("stopped", error)
        return Suspended()

    async def promise(self, origin: Origin, make: Callable[[], float]) -> float:
        """A time that is made up once and found again, however often this place is reached."""
        known = self._log.get(origin.key)
        if known is not None and known.note:
            return float(known.note)
        self._live.turnstile.enter()
        made = make()
        intent = Intend(
            key=origin.key,
            kind=origin.kind,
            fingerprint=origin.fingerprint,
            effect="none",
            note=repr(made),
        )
        await commit(self._service, self._live, intent)
        return made

    def wall(self) -> float:
        """Seconds since 1970."""
        return self._service.bus.wall()

    @contextmanager
    def until(self, moment: float) -> Iterator[anyio.CancelScope]:
        """What goes on in here is cut then, and, parked, comes back for it."""
        with self._live.deadline(moment), anyio.move_on_after(moment - self.wall()) as scope:
            yield scope

    def origin(self, key: Key, kind: str, mark: str) -> Origin:
        record = self._live.record
        return Origin(
            pid=record.pid,
            program=record.program,
            process_class=record.process_class,
            priority=record.priority,
            tenant=record.tenant,
            user=record.user,
            epoch=record.epoch,
            key=key,
            kind=kind,
            fingerprint=mark,
            quotas=record.quotas,
            epilogue=Epilogue(),
            bounds=record.bounds,
        )

    def settle(self, origin: Origin, body: str) -> Coroutine[Any, Any, None]:
        """Commit how it came out, which is made of other syscalls."""
        return settle(self._service, self._live, origin, body)

    def _took(self, origin: Origin, began: float) -> float:
        """For how long; of a wait with a time of its own also while it was out of memory."""
        begun = self._log.get(origin.key)
        if begun is not None and begun.effect == "none" and begun.began_at is not None:
            return max(self.wall() - begun.began_at, 0.0)
        return self._service.bus.time() - began

    async def syscall(
        self,
        kind: str,
        said: Any,
        work: Work,
        reply: Any = None,
        *,
        failed: Effects = _no_effects,
        recovery: Recovery | None = None,
    ) -> Any:
        """Answer from the log, or do the work and commit how it came out."""
        place, live, bus = branch.get(), self._live, self._service.bus
        origin: Origin | None = None
        began = bus.time()
        key = self._take(place, kind)
        live.begin(kind)
        try:
            mark = fingerprint(kind, said)
            entry = self.known(key, kind, mark)
            if entry is not None:
                return recalled(entry, reply)
            origin = self.origin(key, kind, mark)
            if bus.hears(SyscallBegan) or bus.hears(SyscallDone):
                work = watched(self._service, live, work)
            if self._log or live.doomed is not None:
                work = partial(self._resume, work, recovery)
            value, writes = await work(origin)
            body = write(value)
            took_s = self._took(origin, began)
            await settle(self._service, live, origin, body, *writes, took_s=took_s)
            return value if isinstance(value, BaseModel | str | None) else read(reply, body)
        except (KernelError, TimeoutError) as error:
            told = await self._failed(error, origin, failed, began)
            if told is not error:  # the program hears what it will hear from the log
                raise told from None
            raise
        except BaseException as cut:
            if live.sealed and not isinstance(cut, Suspended):
                raise Suspended from cut
            raise
        finally:
            place.free()
            live.end(key)
            if origin is not None and (left := origin.left()):
                await commit_apart(self._service, live, left)

    async def _failed(
        self,
        error: KernelError | TimeoutError,
        origin: Origin | None,
        effects: Effects,
        began: float,
    ) -> Exception:
        """Commit that a syscall failed, unless that is from the log; how its program hears it."""
        if self._live.sealed or self._service.ending:
            raise Suspended from error
        if isinstance(error, Fenced | StorageUnavailable):
            raise cut_off(self._live, error) from error
        if origin is None:
            return error
        told = without_secrets(error)
        writes, took_s = effects(told), self._took(origin, began)
        body = freeze(told)
        await settle(self._service, self._live, origin, body, *writes, failed=True, took_s=took_s)
        return told

    async def _resume(self, work: Work, recovery: Recovery | None, origin: Origin) -> Outcome:
        """Do what the log does not know, or not how it came out."""
        if self._live.doomed is not None:
            self._service.signals.terminate(self._live)
        begun = self._log.get(origin.key)
        if begun is None or begun.effect == "none":
            self._live.turnstile.enter()
            return await work(origin)
        origin = origin._replace(attempts=begun.attempts)
        return await Doubt(self._service, self._live, begun).settled(origin, work, recovery)
