"""The chains of the processes that this kernel writes for: each goes on from where it ended.

The hashes are made here, of the very bytes that are sent: a database that made them itself would
vouch for itself. That nobody else adds to a chain meanwhile is what the lease is for; where its
end is known wrongly, because the answer to a commit was lost, the statement writes nothing.
"""

import os
from collections.abc import Iterable, Mapping, Sequence

from ...subsystems.storage import driver as d
from ._postgres_chaining import SALT, Chain
from ._postgres_connections import Connections
from ._postgres_sql import sql
from ._postgres_written import Written


class Chains:
    """Their ends, as far as this kernel knows them."""

    def __init__(self, connections: Connections, kept: bool) -> None:
        self._connections, self._kept = connections, kept
        self._known: dict[d.Pid, Chain] = {}
        self.gone_on = False  # since somebody has looked

    async def ends(self, commits: Sequence[Written]) -> Mapping[d.Pid, Chain] | None:
        """Of all that these add to; None where nothing is chained. Raises StorageError."""
        if not self._kept:
            return None
        pids = {one.commit.pid for one in commits if one.links}
        if missing := pids.difference(self._known):
            self._known.update(await self._read(missing))
        return {pid: self._known[pid] for pid in pids if pid in self._known}

    async def _read(self, pids: Iterable[d.Pid]) -> dict[d.Pid, Chain]:
        """From the database; who was born when nothing was chained is given a salt."""
        asked = sorted(pids)
        rows = await self._connections.run(sql("read_heads"), asked)
        bare = [row["pid"] for row in rows if row["salt"] is None]
        if bare:
            salts = [os.urandom(SALT) for _ in bare]
            await self._connections.run(sql("make_salts"), bare, salts)
            rows = await self._connections.run(sql("read_heads"), asked)
        return {row["pid"]: Chain(row["head"], row["salt"]) for row in rows}

    def follow(self, after: Mapping[d.Pid, Chain], commits: Iterable[Written]) -> None:
        """These are written, and chains end there."""
        for one in commits:
            for pid in (one.commit.pid, *one.bears):
                if pid in after:
                    self._known[pid], self.gone_on = after[pid], True
            if one.leaves:
                self._known.pop(one.commit.pid, None)

    def forget(self, commits: Iterable[Written]) -> None:
        """Whether these are written is not known, or they were not."""
        for one in commits:
            for pid in (one.commit.pid, *one.bears):
                self._known.pop(pid, None)

    async def have_moved(
        self, before: Mapping[d.Pid, Chain] | None, commits: Sequence[Written]
    ) -> bool:
        """Does a chain that these were to add to end elsewhere by now?"""
        pids = {one.commit.pid for one in commits if one.links}
        if before is None or not pids:
            return False
        self._known.update(found := await self._read(pids))
        return any(found[pid] != before.get(pid) for pid in pids.intersection(found))
