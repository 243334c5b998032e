"""A commit on its way, and why one was not written."""

import asyncio
from dataclasses import dataclass, field
from typing import NamedTuple

from ...subsystems.storage import driver as d
from ._postgres_written import Written


@dataclass(slots=True)
class Pending:
    """A commit, and those who wait for it and have not stopped to."""

    written: Written
    waiting: "list[asyncio.Future[None]]" = field(default_factory=list)
    told: bool = False
    error: Exception | None = None

    async def settled(self) -> None:
        """Wait for it. Raises StorageError."""
        if not self.told:
            self.waiting.append(asyncio.get_running_loop().create_future())
            await self.waiting[-1]
        elif self.error is not None:
            raise self.error

    def tell(self, error: Exception | None = None) -> None:
        """It is written, or why it is not."""
        self.told, self.error = True, error
        for done in self.waiting:
            if done.done():
                continue
            if error is None:
                done.set_result(None)
            else:
                done.set_exception(error)


class Lease(NamedTuple):
    """What a process's row says: of which epoch and commit, and whether it is this kernel's."""

    epoch: int
    seq: int
    ours: bool | None
    left: bool


def fault(written: Written, lease: Lease | None) -> d.StorageError | None:
    """None where the lease, or the kernel's row for what comes from outside, says it is there."""
    pid, epoch = written.commit.pid, written.commit.epoch
    match lease:
        case None if pid == 0:
            return d.StorageUnavailable(
                "this kernel was away for so long that the database has forgotten it; a commit "
                "from outside of all processes may or may not be written"
            )
        case None:
            return d.Fenced(f"there is no process {pid}")
        case (current, seq, ours, left) if (
            current == epoch and seq >= written.seq and (ours or (left and written.leaves))
        ):
            return None
        case (current, *_) if current != epoch:
            return d.Fenced(f"process {pid} belongs to epoch {current}, this was {epoch}")
        case _ if pid in written.bears:
            return d.Fenced(f"there is a process {pid} already")
    return d.Fenced(f"process {pid} is not this kernel's in epoch {epoch}, or not any more")
