"""How a syscall comes out: one commit for all of it, and word of it to whoever listens."""

from contextlib import suppress
from typing import TYPE_CHECKING

import anyio

from ...kernel.errors import KernelError
from ..storage.messages import (
    Announce,
    Fenced,
    Settle,
    StorageRefused,
    StorageUnavailable,
    Write,
)
from .doubt import Outcome, Work
from .live import LAST_WORDS_S, Live
from .messages import Origin, SyscallBegan, SyscallDone
from .syscall import Suspended

if TYPE_CHECKING:
    from .service import Processes

REPEATABLE = frozenset({"think", "note", "now", "random"})
"""Whose outcome may be lost in a crash, if all that came after it is lost too: see Commit."""


async def commit(service: "Processes", live: Live, *writes: Write, lazy: bool = False) -> None:
    """Whoever cannot write any more says nothing more."""
    if live.sealed:
        raise Suspended
    try:
        await service.commit(live.record, *writes, lazy=lazy)
    except (Fenced, StorageUnavailable) as error:
        raise cut_off(live, error) from error


def cut_off(live: Live, error: Exception) -> Suspended:
    """By a new owner, for good; or by a database that is away, until it is back."""
    live.seal("lost" if isinstance(error, Fenced) else "parked")
    return Suspended()


async def settle(
    service: "Processes",
    live: Live,
    origin: Origin,
    body: str,
    *writes: Write,
    failed: bool = False,
    took_s: float | None = None,
) -> None:
    """One commit: the outcome, its effects, and what guards have left of the syscall."""
    outcome = Settle(
        key=origin.key,
        kind=origin.kind,
        fingerprint=origin.fingerprint,
        failed=failed,
        body=body,
        took_s=took_s,
    )
    if live.followed_until > service.bus.time():
        writes = (*writes, Announce())
    left = () if live.sealed else origin.left()  # sealed, no outcome is committed
    try:
        await commit(service, live, outcome, *left, *writes, lazy=origin.kind in REPEATABLE)
    except StorageRefused:
        if origin.epilogue is not None:
            origin.epilogue.put_back(left)
        raise


async def commit_apart(service: "Processes", live: Live, writes: tuple[Write, ...]) -> None:
    """What guards have left of a syscall that was cut; it has no outcome to go with."""
    with anyio.move_on_after(LAST_WORDS_S, shield=True), suppress(KernelError):
        await service.commit(live.record, *writes, lazy=True)


def watched(service: "Processes", live: Live, work: Work) -> Work:
    """The same work, with somebody listening."""
    bus = service.bus

    async def watched(origin: Origin) -> Outcome:
        failure = None
        if bus.hears(SyscallBegan):
            pid = live.record.pid
            await service.publish(SyscallBegan(pid=pid, key=origin.key, kind=origin.kind))
        began = bus.time()
        try:
            return await work(origin)
        except Exception as error:
            failure = error
            raise
        finally:
            if not live.sealed:  # else it goes on in the process's next stay
                await _tell(service, live, origin, failure, bus.time() - began)

    return watched


async def _tell(
    service: "Processes",
    live: Live,
    origin: Origin,
    failure: Exception | None,
    seconds: float,
) -> None:
    done = SyscallDone(
        pid=live.record.pid,
        key=origin.key,
        kind=origin.kind,
        failed=failure is not None,
        seconds=seconds,
    )
    await service.publish(done)
