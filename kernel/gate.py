"""The gate of a service: who is inside, who may enter, and how to get everyone out.

A request runs in its caller's task (a direct switch), so the gate holds no queue of
messages, only of callers that wait to enter. To abort a call means to cancel its task up to
the frame that entered, and to take the cancellation back there: a scope per call would cost
three times the call.
"""

import asyncio
from collections import deque
from typing import Any

import anyio

from .call import Call
from .errors import Unavailable

LAST_WORDS_S = 5.0
"""How long an aborted handler's clean-up may take before it is left behind, in seconds."""


class AskAgain(BaseException):
    """Marks a long wait that is cut by a swap and put to the successor instead."""


class Gate:
    """Admits calls to one service; `limit` permits at once, unbounded when None."""

    __slots__ = (
        "_closed",
        "_emptied",
        "_free",
        "_shut",
        "_waiting",
        "awaited",
        "inside",
        "limit",
        "plain",
    )

    def __init__(self, limit: int | None) -> None:
        self.limit = limit
        self.inside: dict[Call[Any], asyncio.Task[Any]] = {}
        self.plain = False  # open and unlimited: the bus may walk straight through
        self._closed = True
        self._shut: Unavailable | None = None
        self._free = limit or 0
        self._waiting: deque[asyncio.Future[None]] = deque()
        self.awaited = False  # somebody waits for the gate to be empty
        self._emptied = anyio.Event()

    def open(self, limit: int | None) -> None:
        self.limit = limit
        held = sum(1 for call in self.inside if call.permit)
        self._free = (limit or 0) - held
        self._closed, self._shut = False, None
        self.plain = limit is None
        self._wake()

    def close(self) -> None:
        """Newcomers wait from here on; chains that are already inside still pass."""
        self._closed = True
        self.plain = False

    def shut(self, reason: Unavailable) -> None:
        """Newcomers and those who wait are refused from here on."""
        self.close()
        self._shut = reason
        self._wake()

    async def enter(self, call: Call[Any], *, waits: bool) -> None:
        """Wait until the call may enter. A handler that `waits` takes no permit."""
        if call.is_inside(self):  # its own chain must never wait for itself
            if self._shut is not None:
                raise self._shut
            return
        first = True
        while self._shut is None:
            if not self._closed and (waits or self.limit is None):
                return
            if not self._closed and self._free > 0 and (not first or not self._waiting):
                self._free -= 1
                call.permit = True
                return
            first = False
            await self._queue(back=True)
        raise self._shut

    async def _queue(self, *, back: bool) -> None:
        waiter = asyncio.get_running_loop().create_future()
        (self._waiting.append if back else self._waiting.appendleft)(waiter)
        try:
            await waiter
        except asyncio.CancelledError:
            if waiter.done() and not waiter.cancelled():
                self._wake()  # the turn was ours; pass it on
            raise
        finally:
            if not waiter.done():  # pragma: no cover - only when the loop is torn down
                waiter.cancel()

    def _wake(self) -> None:
        """Wake as many callers as may now go on; each looks again for itself."""
        many = self._free if not self._closed and self.limit is not None else len(self._waiting)
        while self._waiting and many > 0:
            waiter = self._waiting.popleft()
            if not waiter.done():
                waiter.set_result(None)
                many -= 1

    def release(self, call: Call[Any]) -> None:
        """Give the call's permit back."""
        call.permit = False
        self._free += 1
        if not self._closed:
            self._wake()

    async def reclaim(self, call: Call[Any]) -> None:
        """Take a lent permit back, before those who have not entered yet."""
        while self._free <= 0 and self._shut is None:
            await self._queue(back=False)
        self._free -= 1
        call.permit = True

    def leave(self, call: Call[Any]) -> None:
        """The call has left (its entry in `inside` is gone)."""
        if call.permit:
            self.release(call)
        if self.awaited and not self.inside:
            self._emptied.set()

    async def empty(self) -> None:
        """Wait until nobody is inside."""
        self.awaited = True
        while self.inside:
            self._emptied = anyio.Event()
            await self._emptied.wait()
        self.awaited = False

    def abort(self, reason: BaseException, *calls: Call[Any]) -> None:
        """Cut these calls; each caller gets `reason` raised."""
        for call in calls:
            if call.aborted is None and call in self.inside:
                call.aborted = reason
                self.inside[call].cancel()

    async def drain(self, grace_s: float, reason: BaseException, waiting: list[Call[Any]]) -> None:
        """Close; cut the long waits at once, and after `grace_s` whoever is still inside."""
        self.close()
        self.abort(AskAgain(), *waiting)
        with anyio.move_on_after(grace_s):
            await self.empty()
        self.abort(reason, *self.inside)
        with anyio.move_on_after(LAST_WORDS_S):
            await self.empty()
