"""The gate of a service: who is inside, who may enter, and how to get everyone out.

A request runs in its caller's task (a direct switch), so the gate holds no messages, only
callers that wait to enter. To abort a call means to cancel its task up to the frame that
entered, and to take the cancellation back there: a scope per call would cost three times the
call. That comes after the grace only, and anyio's shields do not stop it.
"""

import asyncio
import math
from collections import deque
from collections.abc import Callable, Generator, Iterable
from typing import TYPE_CHECKING, Any, TypeAlias

import anyio

from .call import Call, is_within
from .errors import WouldDeadlock

if TYPE_CHECKING:
    from .subscription import Subscription

Visitor: TypeAlias = "Call[Any] | Subscription"
Reason = Callable[[], BaseException]
"""Makes the error for one caller; a shared one would collect everybody's traceback."""

LAST_WORDS_S = 5.0
"""How long an aborted handler's clean-up may take before it is left behind, in seconds."""

# When a cancelled anyio scope and an abort meet in one turn of the loop, asyncio folds them
# into one CancelledError with the later message; by this one the scope still knows its own.
ABORTED = "Cancelled via cancel scope of an aborted call"


class AskAgain(BaseException):
    """Cuts a long wait when its service is swapped; it is put to the successor instead."""


class Line:
    """First come, first served; only the first in line ever looks whether it may go."""

    __slots__ = ("turns",)

    def __init__(self) -> None:
        self.turns: deque[asyncio.Future[None]] = deque()

    def wake(self) -> None:
        """Let the first look; to be called whenever what it waits for may have come true."""
        if self.turns and not self.turns[0].done():
            self.turns[0].set_result(None)

    async def wait(self, may_go: Callable[[], object]) -> None:
        """Stand in line until `may_go()`; take what that allows before the next await."""
        if not self.turns and may_go():
            return
        loop = asyncio.get_running_loop()
        self.turns.append(turn := loop.create_future())
        try:
            await turn
            while not may_go():
                self.turns[0] = turn = loop.create_future()
                await turn
        finally:
            self.turns.remove(turn)
            self.wake()


class Gate:
    """Admits calls to one service."""

    def __init__(self) -> None:
        self.inside: dict[Visitor, asyncio.Task[Any]] = {}
        self.loop = asyncio.get_running_loop()
        self.closed = True
        self.plain = False  # open to all and watched by nobody: calls walk straight through
        self._refusal: Reason | None = None
        self._free = math.inf
        self._newcomers, self._long, self._returning = Line(), Line(), Line()
        self._leaving = Line()

    def open(self, limit: int | None) -> None:
        """Let in so many calls at once, or (None) all who come."""
        self._free = (limit or math.inf) - sum(visitor.permit for visitor in self.inside)
        self.closed, self.plain, self._refusal = False, limit is None, None
        self._wake()

    def close(self, refusal: Reason | None = None) -> None:
        """Newcomers wait from here on, or are refused; chains already inside still pass."""
        self.closed, self.plain, self._refusal = True, False, refusal
        self._wake()

    def _wake(self) -> None:
        for line in (self._returning, self._long, self._newcomers):
            line.wake()

    async def enter(self, call: Call[Any]) -> None:
        """Wait for admission; a call that waits for long needs no permit."""
        if is_within(self):  # a chain must never wait for itself
            return
        if call.lent is not None:
            await self.opened()
        elif self._newcomers.turns or not self._has_room():
            await self._newcomers.wait(self._has_room)
        if self._refusal is not None:
            raise self._refusal()
        if call.lent is None:
            self.take(call)

    def _has_room(self) -> bool:
        free = not self.closed and self._free > 0 and not self._returning.turns
        return free or self._refusal is not None

    async def opened(self) -> bool:
        """Wait until the gate is open; False when it refuses."""
        await self._long.wait(lambda: not self.closed or self._refusal)
        return not self.closed

    def take(self, call: Call[Any]) -> None:
        """Give the call a permit, overdrawing when there is none."""
        call.permit = True
        self._free -= 1

    def release(self, call: Call[Any]) -> None:
        """Take the call's permit back."""
        call.permit = False
        self._free += 1
        self._wake()

    async def reclaim(self, call: Call[Any]) -> None:
        """Get a lent permit back, before any newcomer."""
        await self._returning.wait(lambda: self._free > 0)
        self.take(call)

    def leave(self, visitor: Visitor) -> None:
        """The visitor is out; where the gate is plain, forgetting it is enough."""
        task = self.inside.pop(visitor)
        if isinstance(visitor, Call) and visitor.permit:
            self.release(visitor)
        if visitor.aborted is not None:
            visitor.aborted = None
            task.uncancel()
        self._leaving.wake()

    def abort(self, reason: Reason, visitors: Iterable[Visitor]) -> None:
        """Cut these; each caller gets the reason raised."""
        for visitor in tuple(visitors):
            if visitor.aborted is None:
                visitor.aborted = reason
                self.inside[visitor].cancel(ABORTED)

    async def drain(self, grace_s: float, reason: Reason) -> None:
        """Close; cut the long waits at once, and after the grace whoever is still inside."""
        self.close()
        self.abort(AskAgain, [v for v in self.inside if isinstance(v, Call) and v.lent is not None])
        await self._emptied(grace_s)
        await self.clear(reason)

    async def clear(self, reason: Reason) -> None:
        """Get everyone out of the closed gate."""
        self.abort(reason, self.inside)
        await self._emptied(LAST_WORDS_S)

    async def _emptied(self, within_s: float) -> None:
        with anyio.move_on_after(within_s):
            await self._leaving.wait(lambda: not self.inside)


class Change:
    """Something under way. Await it for the outcome; unawaited, it is done all the same."""

    def __init__(self, what: str, gates: Callable[[], Iterable[Gate]]) -> None:
        """`gates` are those that have to be empty first."""
        self._what, self._gates = what, gates
        self.over = anyio.Event()
        self.error: BaseException | None = None

    def __await__(self) -> Generator[Any, None, None]:
        return self._outcome().__await__()

    async def _outcome(self) -> None:
        if not self.over.is_set() and any(map(is_within, self._gates())):
            raise WouldDeadlock(
                f"{self._what} waits for this very call to return; do not await it from here, "
                "it happens all the same"
            )
        await self.over.wait()
        if self.error is not None:
            raise self.error
