"""Subscriptions: a bounded queue each, so that a slow or failing subscriber hurts nobody."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from fnmatch import fnmatchcase
from typing import Any, Self

from .call import Envelope, current
from .log import log
from .message import Event
from .service import Overflow

Item = tuple[Event, Envelope]


class Subscription:
    """One subscriber's queue: urgent events first, in order within a lane.

    Iterate it to take events (an application's `listen`), or `serve` a handler from it.
    `dropped` counts what was lost for good; nothing is dropped uncounted.
    """

    __slots__ = (
        "_room",
        "_sleeper",
        "_waiters",
        "closed",
        "dropped",
        "failed",
        "lagging",
        "name",
        "normal",
        "overflow",
        "pattern",
        "size",
        "urgent",
    )

    def __init__(self, name: str, pattern: str, size: int, overflow: Overflow) -> None:
        self.name, self.pattern, self.size, self.overflow = name, pattern, size, overflow
        self.normal: deque[Item] = deque()
        self.urgent: deque[Item] = deque()
        self.dropped = 0
        self.failed = 0
        self.lagging = False
        self.closed = False
        self._sleeper: asyncio.Future[None] | None = None
        self._waiters: deque[asyncio.Future[None]] = deque()
        self._room = size

    def matches(self, topic: str) -> bool:
        return self.pattern == topic or fnmatchcase(topic, self.pattern)

    def __len__(self) -> int:
        return len(self.normal) + len(self.urgent)

    @property
    def has_room(self) -> bool:
        """Is there room, and nobody who waits for it already?"""
        return self._room > 0 and not self._waiters

    def put(self, item: Item) -> None:
        """Append; the caller has seen to it that there is room, or overdraws knowingly."""
        (self.urgent if item[0].urgent else self.normal).append(item)
        self._room -= 1
        sleeper = self._sleeper
        if sleeper is not None:
            self._sleeper = None
            if not sleeper.done():
                sleeper.set_result(None)

    def drop_oldest(self) -> None:
        """Make room; an urgent event goes only when there is nothing else."""
        (self.normal or self.urgent).popleft()
        self.dropped += 1
        self._room += 1

    async def wait_for_room(self) -> None:
        """Queue up behind the publishers that wait already; returns early when closed."""
        while not self.closed:
            waiter = asyncio.get_running_loop().create_future()
            self._waiters.append(waiter)
            try:
                await waiter
            except asyncio.CancelledError:
                if waiter.done() and not waiter.cancelled():
                    self._wake_a_publisher()
                raise
            finally:
                if waiter in self._waiters:
                    self._waiters.remove(waiter)
            if self._room > 0:
                return

    def _wake_a_publisher(self) -> None:
        while self._waiters:
            waiter = self._waiters.popleft()
            if not waiter.done():
                waiter.set_result(None)
                return

    def take(self) -> Item:
        """The next event; IndexError when there is none."""
        item = self.urgent.popleft() if self.urgent else self.normal.popleft()
        self._room += 1
        if self._waiters:
            self._wake_a_publisher()
        return item

    async def more(self) -> bool:
        """Wait until there is an event; False when closed and empty."""
        while not (self.normal or self.urgent):
            self.lagging = False
            if self.closed:
                return False
            self._sleeper = asyncio.get_running_loop().create_future()
            try:
                await self._sleeper
            finally:
                self._sleeper = None
        return True

    def close(self) -> None:
        """No more events; what is queued may still be taken."""
        self.closed = True
        for future in (self._sleeper, *self._waiters):
            if future is not None and not future.done():
                future.set_result(None)
        self._waiters.clear()

    def adopt(self, old: "Subscription") -> None:
        """Take over the queue of the subscription this one replaces."""
        self.urgent, self.normal, self._room = old.urgent, old.normal, self.size - len(old)
        self.dropped, old.normal, old.urgent = old.dropped, deque(), deque()

    async def serve(self, deliver: Callable[[Any], Awaitable[None]]) -> None:
        """Hand events to `deliver` one by one, in order, until closed and empty."""
        while await self.more():
            while self.normal or self.urgent:
                event, envelope = self.take()
                current.set(envelope)
                try:
                    await deliver(event)
                except Exception:  # noqa: BLE001 - the deliver border: one event, one subscriber
                    self.failed += 1
                    log.exception("subscriber.failed", subscriber=self.name, topic=event.topic)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Event:
        if not await self.more():
            raise StopAsyncIteration
        return self.take()[0]
