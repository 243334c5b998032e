"""A process's text as it comes: one bounded queue per reader, complete and back-pressured."""

from collections import deque
from typing import Self

import anyio

from ..llm.messages import Delta

SIZE = 64
"""How many deltas a reader may be behind before the process waits for it."""


class DeltaStream:
    """What one reader iterates over. Dropping it (a `break`) lets the process go on."""

    __slots__ = ("__weakref__", "_closed", "_deltas", "_moved")

    def __init__(self) -> None:
        self._deltas: deque[Delta] = deque()
        self._closed = False
        self._moved = anyio.Event()

    def _move(self) -> None:
        moved, self._moved = self._moved, anyio.Event()
        moved.set()

    def put(self, delta: Delta) -> anyio.Event | None:
        """Append; the event to wait for when the reader is behind."""
        if self._closed:
            return None
        self._deltas.append(delta)
        self._move()
        return self.behind()

    def behind(self) -> anyio.Event | None:
        """The event to wait for while the reader has too much to read."""
        return self._moved if len(self._deltas) >= SIZE and not self._closed else None

    def close(self) -> None:
        """No more deltas; those that are here may still be read."""
        self._closed = True
        self._move()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Delta:
        while not self._deltas:
            if self._closed:
                raise StopAsyncIteration
            await self._moved.wait()
        delta = self._deltas.popleft()
        self._move()
        return delta

    async def aclose(self) -> None:
        self.close()

    def __del__(self) -> None:
        self._closed = True
        self._moved.set()  # a process that waits for this reader must not wait for ever
