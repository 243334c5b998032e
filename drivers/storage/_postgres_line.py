"""Connections of one kind to a PostgreSQL, and turns at them.

A pool of asyncpg's own costs a task for each use, a tenth of a commit.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import anyio
import asyncpg

from ...subsystems.storage import driver as d

T = TypeVar("T")
Connection = Any
"""asyncpg's connection; its own type is generic in a way that adds nothing here."""
Work = Callable[[Connection], Awaitable[T]]

CLOSE_S = 2.0


class Line:
    """At most so many connections, made when they are needed; the one used last goes first."""

    def __init__(self, most: int, connect: Callable[[], Awaitable[Connection]]) -> None:
        self.turns = anyio.Semaphore(most, fast_acquire=True)
        self._connect = connect
        self._idle: list[Connection] = []
        self._busy: set[Connection] = set()
        self._closed = False

    async def use(self, work: Work[T]) -> T:
        """Do this with a connection, on a turn. Raises whatever asyncpg does.

        A connection whose answer nobody waits for any more is of no use to others.
        """
        connection = await self._take()
        try:
            return await work(connection)
        except (asyncio.CancelledError, asyncpg.ReadOnlySQLTransactionError):
            connection.terminate()  # of a standby too: a new one may find the primary
            raise
        finally:
            self._give_back(connection)

    async def _take(self) -> Connection:
        while self._idle:
            connection = self._idle.pop()
            if not connection.is_closed():
                break
        else:
            connection = await self._connect()
        if self._closed:
            connection.terminate()
            raise d.StorageUnavailable("storage is not started")
        self._busy.add(connection)
        return connection

    def _give_back(self, connection: Connection) -> None:
        self._busy.discard(connection)
        if not connection.is_closed():
            self._idle.append(connection)

    async def close(self) -> None:
        """End the connections; whoever uses one is told."""
        self._closed = True
        for connection in self._busy:
            connection.terminate()
        with anyio.move_on_after(CLOSE_S, shield=True):
            while self._idle:
                await self._idle[-1].close()
                self._idle.pop()
        for connection in self._idle:
            connection.terminate()
