"""A claim of processes, which is exact although connections get lost."""

from typing import Any

from ...subsystems.storage import driver as d
from ._postgres_sql import SEALING, sql


class Claim:
    """What to take over, and what was taken.

    In a transaction, so that what is taken is known before it holds: when the answer to the
    `commit` is lost, the leases say whether it did.
    """

    def __init__(self, claim: d.ClaimProcesses, kernel: int, namespace: str) -> None:
        self.kernel = kernel
        self.rows: list[Any] = []
        which = claim.programs
        names = None if which is None else [name for name, _ in which]
        versions = None if which is None else [version for _, version in which]
        whose = (namespace, claim.pid, names, versions, kernel)
        self._asked = (*whose, claim.limit, list(claim.states), claim.due_by)

    async def take(self, connection: Any) -> list[Any]:
        """The rows of what is this kernel's now. May be called again when that was cut short."""
        if self.rows and await connection.fetch(sql("confirm"), *self.which()):
            return self.rows
        async with connection.transaction():
            await connection.execute(sql("wait_for_seals"), SEALING)
            self.rows = await connection.fetch(sql("claim"), *self._asked)
        return self.rows

    def which(self) -> tuple[int, list[int], list[int]]:
        """Of which kernel, which processes, in which epochs."""
        pids, epochs = [row["pid"] for row in self.rows], [row["epoch"] for row in self.rows]
        return self.kernel, pids, epochs
