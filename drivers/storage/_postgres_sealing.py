"""Seals: where processes stand is hashed into one chain, within a second after it has changed."""

from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import anyio

from ...subsystems.storage import driver as d
from ._postgres_chains import Chains
from ._postgres_connections import Connections
from ._postgres_line import Connection
from ._postgres_sql import SEALING, sql

EVERY_S = 0.5
MOST = 10_000
"""Leaves of a seal; what is left over goes into the next."""
IDLE = 10
"""A kernel that writes nothing seals one time in so many what others have left."""


class Sealer:
    """Seals what stands in the database, whoever wrote it."""

    def __init__(self, connections: Connections, chains: Chains) -> None:
        self._connections, self._chains = connections, chains

    async def run(self) -> None:
        idle = 0
        while True:
            await anyio.sleep(EVERY_S)
            idle = 0 if self._chains.gone_on else idle + 1
            if self._chains.gone_on or idle % IDLE == 1:
                with suppress(d.StorageError):  # it is not lost by that: the next seal has it
                    await self.seal()

    async def seal_last(self) -> None:
        """What was written since the last one; whoever comes next seals it otherwise."""
        with suppress(d.StorageError):
            if self._chains.gone_on:
                await self.seal()

    async def seal(self) -> None:
        """Until there is nothing left that can be sealed now. Raises StorageError."""
        self._chains.gone_on = False
        while await self._connections.use(_seal) == MOST:
            pass


async def _seal(connection: Connection) -> int:
    """The lock first: only a statement that comes after it sees the seal before this one."""
    async with connection.transaction():
        if not await connection.fetchval(sql("lock_seals"), SEALING):
            return 0
        rows = await connection.fetch(sql("take_unsealed"), MOST)
        if rows:
            await _write(connection, rows)
        return len(rows)


async def _write(connection: Connection, rows: Sequence[Any]) -> None:
    former = await connection.fetchrow(sql("read_last_seal"))
    number, before, at = former["number"] + 1, former["hash"] or d.ROOT, former["now"]
    leaves = b"".join(d.leaf(d.Standing(**row)) for row in rows)
    made = d.sealed(before, number, at, leaves)
    await connection.execute(sql("add_seal"), number, at, leaves, made)
