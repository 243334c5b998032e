"""Processes work while the database writes what others have put."""

from collections.abc import Sequence
from typing import Any

import anyio
import pytest

from aoskernel.drivers.storage._postgres_commits import MANY, Commits
from aoskernel.drivers.storage._postgres_pending import Pending
from aoskernel.drivers.storage._postgres_written import Written
from aoskernel.subsystems.storage.driver import (
    Commit,
    Fenced,
    Intend,
    Pid,
    StorageError,
    StorageUnavailable,
)

ROUNDS = 10


def intent(pid: int, n: int) -> Commit:
    write = Intend(key=f"0:{n}", kind="k", fingerprint="ab", effect="once")
    return Commit(pid=Pid(pid), epoch=0, writes=(write,))


class Database:
    """Takes some rounds of the loop for a statement, and notes who worked meanwhile."""

    def __init__(self) -> None:
        self.statements = 0
        self.worked = 0
        self.meanwhile: list[int] = []

    async def run(self, statement: str, *values: Any) -> Sequence[dict[str, int]]:
        self.statements += 1
        before = self.worked
        for _ in range(5):
            await anyio.lowlevel.checkpoint()
        self.meanwhile.append(self.worked - before)
        return [{"pid": pid} for pid in range(1, 1 + MANY * 2)]


async def talked(agents: int) -> Database:
    """So many processes, each of which works, commits, and works on."""
    database = Database()
    commits = Commits(database, "test", audit=False)  # type: ignore[arg-type]

    async def agent(pid: int) -> None:
        for n in range(ROUNDS):
            database.worked += 1
            await commits.put(intent(pid, n))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(commits.run)
        with anyio.fail_after(20):
            async with anyio.create_task_group() as working:
                for pid in range(1, 1 + agents):
                    working.start_soon(agent, pid)
        tasks.cancel_scope.cancel()
    return database


async def test_of_many_that_wait_half_work_while_the_others_are_written() -> None:
    database = await talked(2 * MANY)
    assert database.meanwhile[1:-1] == [MANY] * (2 * ROUNDS - 3)


async def test_a_few_are_written_together() -> None:
    database = await talked(MANY - 1)
    assert database.statements == ROUNDS


@pytest.mark.parametrize("error", [None, Fenced("no"), StorageUnavailable("away")])
async def test_whoever_asks_late_how_a_commit_came_out_is_told(error: StorageError | None) -> None:
    pending = Pending(Written(intent(1, 0), 1))
    pending.tell(error)
    with anyio.fail_after(1):
        if error is None:
            await pending.settled()
        else:
            with pytest.raises(type(error)):
                await pending.settled()
