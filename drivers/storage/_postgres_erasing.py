"""The erasure of bodies: what stands for one in its link takes its place."""

import os
from typing import Any

from ...subsystems.storage import driver as d
from ._postgres_chaining import SALT
from ._postgres_line import Connection
from ._postgres_sql import sql
from ._postgres_values import place


class Erasure:
    """Of one body, or of all that a process has said. May be done again."""

    def __init__(self, order: d.EraseBodies, namespace: str) -> None:
        self._pid, self._key, self._namespace = order.pid, order.key, namespace

    async def do(self, connection: Connection) -> int:
        """In one transaction, in which nobody takes the process over."""
        async with connection.transaction():
            salt = await self._held(connection)
            at = (None, None) if self._key is None else place(self._key)
            rows = await connection.fetch(sql("read_bodies"), self._pid, *at)
            if self._key is not None and not rows:
                raise d.StorageRefused(
                    f"process {self._pid} has no outcome at {self._key} that is not erased"
                )
            for row in rows:
                await self._erase(connection, row, salt)
            if self._key is None:
                await self._erase_around(connection)
            return len(rows)

    async def _held(self, connection: Connection) -> bytes | None:
        """The salt of the process, which nobody owns and nobody takes."""
        row = await connection.fetchrow(sql("hold_process"), self._namespace, self._pid)
        if row is None:
            raise d.StorageRefused(f"there is no process {self._pid} in this namespace")
        if row["owned"]:
            raise d.StorageRefused(
                f"a kernel has process {self._pid}, which would go on with what is erased: stop it "
                "first (`aosk stop`)"
            )
        salt: bytes | None = row["salt"]
        return salt

    async def _erase(self, connection: Connection, row: Any, salt: bytes | None) -> None:
        """Without its hash it is in no chain, and nothing need stand for it."""
        chained = row["hash"] is not None and salt is not None
        body = (row["body"] or b"") + row["rest"]
        mark = d.body_mark(salt, body) if chained and salt is not None else b""
        name = "erase_mark" if row["path"] is None else "erase_entry"
        where = (row["seq"],) if row["path"] is None else (row["step"], row["path"])
        await connection.execute(sql(name), self._pid, *where, mark)

    async def _erase_around(self, connection: Connection) -> None:
        """With another salt nobody can try which body it was."""
        for name in ("erase_pages", "erase_letters", "erase_questions", "erase_notes"):
            await connection.execute(sql(name), self._pid)
        await connection.execute(sql("erase_process"), self._pid)
        await connection.execute(sql("renew_salt"), self._pid, os.urandom(SALT))
