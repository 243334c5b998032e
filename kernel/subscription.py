"""Subscriptions: a bounded queue each, so that a slow or failing subscriber hurts nobody."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from fnmatch import fnmatchcase
from typing import Any, Literal, Self

from .call import Told, current, hearing
from .gate import Gate, Line, Reason
from .log import log
from .message import Event

Item = tuple[Event, Told]
Overflow = Literal["drop_oldest", "lossless"]


class Subscription:
    """One subscriber's queue: urgent events first, in order within their lane.

    Iterate it to take events (an application's `listen`), or let `serve` deliver them.
    `size` bounds each lane. `dropped` counts what was lost; nothing is dropped uncounted.
    """

    permit = False  # what a gate asks of its visitors: events need no permit
    deliver: Callable[[Any], Awaitable[None]]

    def __init__(self, name: str, patterns: tuple[str, ...], size: int, overflow: Overflow) -> None:
        self.name, self.patterns, self.size, self.overflow = name, patterns, size, overflow
        self.normal: deque[Item] = deque()
        self.urgent: deque[Item] = deque()
        self.dropped = self.failed = 0
        self.lagging = self.closed = self.busy = False
        self.aborted: Reason | None = None
        self.tell_lag: Callable[[Subscription], None] = lambda behind: None
        self._bound = size  # 0 while publishers wait for room, so that nobody overtakes them
        self._sleeper: asyncio.Future[None] | None = None  # the consumer; there is one
        self._publishers, self._settling = Line(), Line()

    def matches(self, topic: str) -> bool:
        return any(fnmatchcase(topic, pattern) for pattern in self.patterns)

    def __len__(self) -> int:
        return len(self.normal) + len(self.urgent)

    @property
    def pending(self) -> bool:
        """Is anything queued or being delivered?"""
        return bool(self.urgent or self.normal or self.busy)

    async def settled(self) -> None:
        """Wait until every queued event has been worked off."""
        await self._settling.wait(lambda: not self.pending)

    def offer(self, item: Item, urgent: bool) -> bool:
        """Take an event without waiting; False when the queue is lossless and full."""
        lane = self.urgent if urgent else self.normal
        queued = len(lane)
        if queued < self._bound:
            lane.append(item)
            if not queued:
                self._wake()
            return True
        if self.overflow == "drop_oldest":
            self._drop_oldest(lane, item)
            return True
        return False

    def _drop_oldest(self, lane: deque[Item], item: Item) -> None:
        lane.popleft()
        lane.append(item)
        self.dropped += 1
        if not self.lagging:
            self.lagging = True
            self.tell_lag(self)

    async def put(self, item: Item) -> None:
        """Take an event once there is room, in the order of asking."""
        lane = self.urgent if item[0].urgent else self.normal
        self._bound = 0
        try:
            await self._publishers.wait(lambda: self.closed or len(lane) < self.size)
        finally:
            if not self._publishers.turns:
                self._bound = self.size
        self.overdraw(item)

    def overdraw(self, item: Item) -> None:
        """Take an event, room or not; where waiting could be for oneself."""
        if self.closed:
            self.dropped += 1
        else:
            (self.urgent if item[0].urgent else self.normal).append(item)
            self._wake()

    def close(self) -> None:
        """No more events; what is queued may still be taken."""
        self.closed = True
        self._publishers.wake()
        self._wake()

    def _wake(self) -> None:
        if self._sleeper is not None and not self._sleeper.done():
            self._sleeper.set_result(None)

    async def _more(self) -> bool:
        """Wait until there is an event; False when closed and empty."""
        while not (self.urgent or self.normal):
            self.lagging = False
            self._settling.wake()
            if self.closed:
                return False
            self._sleeper = asyncio.get_running_loop().create_future()
            await self._sleeper
        return True

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Event:
        if not await self._more():
            raise StopAsyncIteration
        event, _ = (self.urgent or self.normal).popleft()
        self._publishers.wake()
        return event

    async def serve(self, gate: Gate) -> None:
        """Deliver one by one, in order, while the gate is open; until closed and empty."""
        hearing.set(self)
        task = asyncio.current_task()
        assert task is not None
        while await self._more() and (not gate.closed or await gate.opened()):
            gate.inside[self], self.busy = task, True
            try:
                await self._work_off(gate)
            except asyncio.CancelledError:
                if self.aborted is None or task.cancelling() > 1:
                    raise
                self.failed += 1
                log.warning("subscriber.aborted", subscriber=self.name)
            finally:
                self.busy = False
                if gate.plain and self.aborted is None:
                    del gate.inside[self]
                else:
                    gate.leave(self)
            if self.urgent or self.normal:
                await asyncio.sleep(0)  # who tells itself something each time must not hold up all
        self.dropped += len(self)
        self._settling.wake()

    async def _work_off(self, gate: Gate) -> None:
        urgent, normal, deliver = self.urgent, self.normal, self.deliver
        for _ in range(len(self)):
            if gate.closed:
                break
            event, told = (urgent or normal).popleft()
            if not self._bound:
                self._publishers.wake()
            current.set(told)
            try:
                await deliver(event)
            except Exception:  # noqa: BLE001 - the deliver border: one event, one subscriber
                self.failed += 1
                log.exception("subscriber.failed", subscriber=self.name, topic=event.topic)
