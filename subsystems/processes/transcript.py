"""A process's side of the log: it answers from what is known, and commits what is new."""

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, TypeAdapter
from pydantic_core import from_json, to_json

from ...kernel.errors import KernelError
from ..storage.messages import Entry, Fenced, Key, Settle, Write
from .messages import Origin, ProgramDiverged, SyscallBegan, SyscallDone
from .syscall import Branch, Suspended, branch, check, fingerprint, freeze, thaw

if TYPE_CHECKING:
    from .live import Live
    from .service import Processes

Outcome = tuple[Any, tuple[Write, ...]]
"""What a syscall gives (as JSON data), and the effects that are committed with it."""
Work = Callable[[Origin], Awaitable[Outcome]]


def _no_effects(error: Exception) -> tuple[Write, ...]:
    return ()


UNJOURNALED = (Fenced, ProgramDiverged)
"""No outcomes: after these the process says nothing more here."""


class Transcript:
    """What the program has said in this step, and how each of it came out."""

    __slots__ = ("_live", "_log", "_service")

    def __init__(self, service: "Processes", live: "Live") -> None:
        self._service, self._live = service, live
        self._log: dict[Key, Entry] = {}

    def begin(self, step: int, log: dict[Key, Entry]) -> None:
        """A step begins here; `log` is what is known of it already."""
        self._log = log
        branch.set(Branch(f"{step}:"))

    @contextmanager
    def place(self, kind: str) -> Iterator[Key]:
        """The key of what is made of other syscalls: a parallel, a race, a timeout."""
        place = branch.get()
        key = self._take(place, kind)
        try:
            yield key
        finally:
            place.free()

    def _take(self, place: Branch, kind: str) -> Key:
        if self._live.sealed:
            raise Suspended
        return place.take(kind)

    @contextmanager
    def busy(self) -> Iterator[None]:
        """Something is going on that cannot be parked."""
        self._live.open += 1
        try:
            yield
        finally:
            self._live.open -= 1

    def known(self, key: Key, kind: str, mark: str) -> Entry | None:
        """The log's entry for this place if it is settled; it must say the same."""
        entry = self._log.get(key)
        if entry is not None:
            check(entry, kind, mark)
        return entry if entry is not None and entry.settled else None

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
        )

    async def settle(self, origin: Origin, body: str, *writes: Write, failed: bool = False) -> None:
        """One commit: the outcome and its effects."""
        outcome = Settle(
            key=origin.key,
            kind=origin.kind,
            fingerprint=origin.fingerprint,
            failed=failed,
            body=body,
        )
        if self._live.sealed:
            raise Suspended
        await self._service.commit(self._live.record, outcome, *writes)

    async def syscall(
        self,
        kind: str,
        said: Any,
        work: Work,
        reply: Any = None,
        *,
        failed: Callable[[Exception], tuple[Write, ...]] = _no_effects,
    ) -> Any:
        """Answer from the log, or do the work and commit how it came out."""
        place, entry = branch.get(), None
        key = self._take(place, kind)
        self._live.open += 1
        try:
            mark = fingerprint(kind, said)
            entry = self.known(key, kind, mark)
            if entry is None:
                origin = self.origin(key, kind, mark)
                bus = self._service.bus
                if bus.hears(SyscallBegan) or bus.hears(SyscallDone):
                    work = self._watched(work)
                value, writes = await work(origin)
                body = _write(value)
                await self.settle(origin, body, *writes)
                return value if isinstance(value, BaseModel | str | None) else _read(reply, body)
            if entry.failed:
                raise thaw(entry.body)
            return _read(reply, entry.body)
        except (KernelError, TimeoutError) as error:
            if self._live.sealed or self._service.ending:
                raise Suspended from error
            if entry is None and not isinstance(error, UNJOURNALED):
                await self.settle(origin, freeze(error), *failed(error), failed=True)
            raise
        except BaseException as cut:
            if self._live.sealed and not isinstance(cut, Suspended):
                raise Suspended from cut
            raise
        finally:
            place.free()
            self._live.open -= 1
            if self._live.taking:  # committed with its letter, or free for others again
                self._live.taking.pop(key, None)

    def _watched(self, work: Work) -> Work:
        """The same work, with somebody listening."""
        service = self._service

        async def watched(origin: Origin) -> Outcome:
            failure = None
            await service.publish(
                SyscallBegan(pid=self._live.record.pid, key=origin.key, kind=origin.kind)
            )
            began = service.bus.time()
            try:
                return await work(origin)
            except Exception as error:
                failure = error
                raise
            finally:
                await self._tell(origin, failure, service.bus.time() - began)

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
