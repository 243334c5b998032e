"""Calls whose outcome nobody knows: their kernel or device was lost between intent and outcome.

What may be repeated is. What may not is asked for its outcome, where it can say; else it is
in doubt: nothing new begins in its process, what is under way on other branches may end, so
that no stop makes new doubts, and then the process is stopped, and a human says how all of
them came out.
"""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, JsonValue

from ..storage.messages import Entry, Write
from ..tools.messages import Reconciled, ToolError, ToolFailed, unknown
from .messages import DoubtfulCall, Origin, OutcomeUnknown, SyscallRepeated
from .syscall import Suspended

if TYPE_CHECKING:
    from .live import Live
    from .service import Processes

Outcome = tuple[Any, tuple[Write, ...]]
"""What a syscall gives (as JSON data), and the effects that are committed with it."""
Work = Callable[[Origin], Awaitable[Outcome]]


@dataclass(frozen=True, slots=True)
class Testimony:
    """What the device says of a call, and whether it would refuse the same key again."""

    reconciled: Reconciled = unknown
    refuses_repeats: bool = False
    why: str = "the tool cannot say what became of it"


@dataclass(frozen=True, slots=True)
class Recovery:
    """How a syscall finds out what became of it, and what its result means then."""

    ask: Callable[[Origin], Awaitable[Testimony]]
    told: Callable[[JsonValue, str], Outcome]


class Finding(BaseModel):
    """The note on a call in doubt: what a human has said of it, or why its outcome is unknown."""

    outcome: Literal["done", "failed", "again", "unknown"]
    result: JsonValue = None
    error: str = ""

    @classmethod
    def of(cls, entry: Entry) -> "Finding | None":
        """What is noted on a call that had begun; None where it is settled, or nothing is."""
        if entry.settled or entry.effect == "none" or not entry.note:
            return None
        return cls.model_validate_json(entry.note)


def outcome_unknown(calls: Sequence[DoubtfulCall]) -> OutcomeUnknown:
    """Why a process is stopped, and what to do."""
    told = "; ".join(
        f"nobody knows whether {call.kind!r} at {call.key} was done (attempts: "
        f"{call.attempts}): {call.why}"
        for call in calls
    )
    which = "it" if len(calls) == 1 else "each"
    return OutcomeUnknown(
        f"{told}. Find out, and say so of {which}: done with its result, failed, or to be made "
        "again (Resolve)"
    )


class Doubt:
    """A syscall that had begun, in a life of this process that ended before its outcome."""

    def __init__(self, service: "Processes", live: "Live", entry: Entry) -> None:
        self._service, self._live, self._entry = service, live, entry

    async def settled(self, origin: Origin, work: Work, recovery: Recovery | None) -> Outcome:
        """The outcome: known after all, or of another attempt. Or the process is to stop."""
        entry, said = self._entry, Finding.of(self._entry)
        if said is not None and said.outcome != "unknown":
            return await self._resolved(said, origin, work, recovery)
        if entry.effect != "once" and not self._parks():
            return await self._again(origin, work)
        if entry.effect != "once" or recovery is None:
            raise self._stop("it is not sent again (on_unknown_call)")
        testimony = await _asked(recovery, origin)
        if testimony.reconciled.outcome == "done":
            return recovery.told(testimony.reconciled.result, origin.key)
        if testimony.reconciled.outcome == "unknown":
            raise self._stop(testimony.why)
        if not testimony.refuses_repeats and entry.epoch <= self._live.record.silent:
            raise self._stop(
                "it has not been done, but the kernel that was about to do it has only fallen "
                "silent, and may still do it"
            )
        return await self._again(origin, work)

    async def _resolved(
        self, said: Finding, origin: Origin, work: Work, recovery: Recovery | None
    ) -> Outcome:
        if said.outcome == "done" and recovery is not None:
            return recovery.told(said.result, origin.key)
        if said.outcome == "failed":
            raise ToolFailed(said.error or "a human says that it has failed")
        return await self._again(origin, work)

    def _parks(self) -> bool:
        return self._entry.kind == "think" and self._service.on_unknown_call == "park"

    async def _again(self, origin: Origin, work: Work) -> Outcome:
        entry = self._entry
        self._live.turnstile.enter()
        repeated = SyscallRepeated(
            pid=self._live.record.pid, key=entry.key, kind=entry.kind, attempts=entry.attempts
        )
        await self._service.publish(repeated)
        return await work(origin)

    def _stop(self, why: str) -> Suspended:
        """This branch ends here, and its process as soon as all others have come to an end."""
        entry = self._entry
        call = DoubtfulCall(
            pid=self._live.record.pid,
            key=entry.key,
            kind=entry.kind,
            attempts=entry.attempts,
            why=why,
        )
        self._live.doubt(call)
        return Suspended()


def lost(live: "Live", origin: Origin, why: str) -> Suspended:
    """A call of this life, which its device has lost: the same as one that a crash has cut."""
    assert origin.pid is not None
    call = DoubtfulCall(
        pid=origin.pid, key=origin.key, kind=origin.kind, attempts=origin.attempts + 1, why=why
    )
    live.doubt(call)
    return Suspended()


async def _asked(recovery: Recovery, origin: Origin) -> Testimony:
    """Who cannot say does not know."""
    try:
        return await recovery.ask(origin)
    except ToolError as error:
        return Testimony(why=str(error))
