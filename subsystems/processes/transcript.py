"""A process's side of the log: it answers from what is known, and commits what is new."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING, Any

import anyio
from pydantic import BaseModel, TypeAdapter
from pydantic_core import from_json, to_json

from ...kernel.errors import KernelError
from ..storage.messages import (
    Announce,
    Entry,
    Erased,
    Fenced,
    Intend,
    Key,
    SaveProcess,
    Settle,
    StorageRefused,
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
from .syscall import (
    Branch,
    Suspended,
    branch,
    check,
    fingerprint,
    freeze,
    thaw,
    without_secrets,
)

if TYPE_CHECKING:
    from .live import Live
    from .service import Processes

__all__ = ["Outcome", "Recovery", "Transcript", "Work"]


LAST_WORDS_S = 5.0
REPEATABLE = frozenset({"think", "note", "now", "random"})
"""Whose outcome may be lost in a crash, if all that came after it is lost too: see Commit."""


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

    async def turn(self, state_json: str) -> None:
        """The next step begins here, in the midst of the program, and with this state."""
        place, record = branch.get(), self._live.record
        if place.path != f"{record.step}:":
            raise ConcurrentSyscalls(
                "'checkpoint' was called within a parallel, a race or a timeout, whose other arms "
                "it would cut off from their log; call it behind them"
            )
        key = self._take(place, "checkpoint")
        try:
            self.known(key, "checkpoint", fingerprint("checkpoint", state_json))
            record = replace(record, step=record.step + 1, state_json=state_json)
            await self._commit(SaveProcess(record=record))
        finally:
            place.free()
        self._live.record = record
        self.begin(record.step, {})

    @contextmanager
    def place(self, kind: str) -> Iterator[Key]:
        """The key of what is made of other syscalls: a parallel, a race, a timeout."""
        place = branch.get()
        key = self._take(place, kind)
        try:
            yield key
        finally:
            place.free()

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
        await self._commit(intent)
        return made

    def wall(self) -> float:
        """Seconds since 1970."""
        return self._service.bus.wall()

    @contextmanager
    def until(self, moment: float) -> Iterator[anyio.CancelScope]:
        """What goes on in here is cut then, and, parked, comes back for it."""
        with self._live.deadline(moment), anyio.move_on_after(moment - self.wall()) as scope:
            yield scope

    async def _commit(self, *writes: Write, lazy: bool = False) -> None:
        """Whoever cannot write any more says nothing more."""
        if self._live.sealed:
            raise Suspended
        try:
            await self._service.commit(self._live.record, *writes, lazy=lazy)
        except (Fenced, StorageUnavailable) as error:
            raise self._cut_off(error) from error

    def _cut_off(self, error: Exception) -> Suspended:
        """By a new owner, for good; or by a database that is away, until it is back."""
        self._live.seal("lost" if isinstance(error, Fenced) else "parked")
        return Suspended()

    def origin(self, key: Key, kind: str, mark: str) -> Origin:
        record = self._live.record
        return Origin(
            pid=record.pid,
            program=record.program,
            process_class=record.process_class,
            priority=record.priority,
            tenant=record.tenant,
            epoch=record.epoch,
            key=key,
            kind=kind,
            fingerprint=mark,
            quotas=record.quotas,
            epilogue=Epilogue(),
            bounds=record.bounds,
        )

    async def settle(
        self,
        origin: Origin,
        body: str,
        *writes: Write,
        failed: bool = False,
        began: float | None = None,
    ) -> None:
        """One commit: the outcome, its effects, and what guards have left of the syscall.

        It `began` then, by the loop's clock.
        """
        outcome = Settle(
            key=origin.key,
            kind=origin.kind,
            fingerprint=origin.fingerprint,
            failed=failed,
            body=body,
            took_s=None if began is None else self._took(origin, began),
        )
        if self._live.followed_until > self._service.bus.time():
            writes = (*writes, Announce())
        left = () if self._live.sealed else origin.left()  # sealed, no outcome is committed
        try:
            await self._commit(outcome, *left, *writes, lazy=origin.kind in REPEATABLE)
        except StorageRefused:
            if origin.epilogue is not None:
                origin.epilogue.put_back(left)
            raise

    async def _commit_apart(self, writes: tuple[Write, ...]) -> None:
        """What guards have left of a syscall that was cut; it has no outcome to go with."""
        with anyio.move_on_after(LAST_WORDS_S, shield=True), suppress(KernelError):
            await self._service.commit(self._live.record, *writes, lazy=True)

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
        failed: Callable[[Exception], tuple[Write, ...]] = _no_effects,
        recovery: Recovery | None = None,
    ) -> Any:
        """Answer from the log, or do the work and commit how it came out."""
        place, bus = branch.get(), self._service.bus
        origin: Origin | None = None
        began = bus.time()
        key = self._take(place, kind)
        self._live.open += 1
        self._live.says = kind
        try:
            mark = fingerprint(kind, said)
            entry = self.known(key, kind, mark)
            if entry is None:
                origin = self.origin(key, kind, mark)
                if bus.hears(SyscallBegan) or bus.hears(SyscallDone):
                    work = self._watched(work)
                if self._log or self._live.doomed is not None:
                    value, writes = await self._resumed(origin, work, recovery)
                else:
                    value, writes = await work(origin)
                body = _write(value)
                await self.settle(origin, body, *writes, began=began)
                return value if isinstance(value, BaseModel | str | None) else _read(reply, body)
            if entry.failed:
                raise thaw(entry.body)
            return _read(reply, entry.body)
        except (KernelError, TimeoutError) as error:
            if self._live.sealed or self._service.ending:
                raise Suspended from error
            if isinstance(error, Fenced | StorageUnavailable):
                raise self._cut_off(error) from error
            if origin is not None:
                told = without_secrets(error)
                effects = failed(told)
                await self.settle(origin, freeze(told), *effects, failed=True, began=began)
                if told is not error:  # the program hears what it will hear from the log
                    raise told from None
            raise
        except BaseException as cut:
            if self._live.sealed and not isinstance(cut, Suspended):
                raise Suspended from cut
            raise
        finally:
            place.free()
            self._live.open -= 1
            self._live.rest()
            if self._live.taking:  # committed with its letter, or free for others again
                self._live.taking.pop(key, None)
            if origin is not None and (left := origin.left()):
                await self._commit_apart(left)

    async def _resumed(self, origin: Origin, work: Work, recovery: Recovery | None) -> Outcome:
        """Do what the log does not know, or not how it came out."""
        if self._live.doomed is not None:
            self._service.signals.terminate(self._live)
        begun = self._log.get(origin.key)
        if begun is None or begun.effect == "none":
            self._live.turnstile.enter()
            return await work(origin)
        origin = origin._replace(attempts=begun.attempts)
        return await Doubt(self._service, self._live, begun).settled(origin, work, recovery)

    def _watched(self, work: Work) -> Work:
        """The same work, with somebody listening."""
        service, bus = self._service, self._service.bus

        async def watched(origin: Origin) -> Outcome:
            failure = None
            if bus.hears(SyscallBegan):
                pid = self._live.record.pid
                await service.publish(SyscallBegan(pid=pid, key=origin.key, kind=origin.kind))
            began = bus.time()
            try:
                return await work(origin)
            except Exception as error:
                failure = error
                raise
            finally:
                if not self._live.sealed:  # else it goes on in the process's next stay
                    await self._tell(origin, failure, bus.time() - began)

        return watched

    async def _tell(self, origin: Origin, failure: Exception | None, seconds: float) -> None:
        done = SyscallDone(
            pid=self._live.record.pid,
            key=origin.key,
            kind=origin.kind,
            failed=failure is not None,
            seconds=seconds,
        )
        await self._service.publish(done)


def _write(value: Any) -> str:
    if isinstance(value, BaseModel):
        return value.model_dump_json(exclude_defaults=True)
    return to_json(value).decode()


def _read(reply: Any, body: str) -> Any:
    return from_json(body) if reply is None else _adapter(reply).validate_json(body)


@cache
def _adapter(reply: Any) -> TypeAdapter[Any]:
    return TypeAdapter(reply)
