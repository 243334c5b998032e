"""Processes that change hands while their former kernel lives, and has only fallen silent."""

from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import anyio
from one_storage import OneStorage, processes_of, until

from aoskernel import Kernel, Process, program, spawn
from aoskernel.drivers.storage.embedded import Embedded
from aoskernel.drivers.storage.memory import MemoryStorage
from aoskernel.subsystems.processes.messages import ProcessExited, Send
from aoskernel.subsystems.storage.driver import ClaimProcesses, Commit, StorageUnavailable
from aoskernel.subsystems.storage.messages import ProcessRecord, SaveProcess

SILENCE = """
update kernel set until = now() - interval '1 second' where id <> $1 and namespace = $2
"""


class Impatient(Embedded):
    """To whom all others have fallen silent."""

    async def claim(self, claim: ClaimProcesses) -> tuple[ProcessRecord, ...]:
        at = self._running()
        await at._connections.run(SILENCE, at._commits.kernel, self.namespace)
        return await super().claim(claim)


@program
async def listener(self: Process) -> str:
    return str(await self.receive())


async def waiting(owner: Kernel) -> int:
    agent = await spawn(owner, listener(), key="k")
    await until(lambda: processes_of(owner).live[agent.pid].only_waits)
    return agent.pid


async def taken(owner: Kernel, taker: Kernel, pid: int) -> None:
    """The owner notices that it does not own it any more, and waits for it like anybody."""
    again = await spawn(taker, listener(), key="k")
    assert again.pid in processes_of(taker).live
    await until(lambda: pid not in processes_of(owner).live, seconds=10)
    await taker.request(Send(to=again.pid, body="hello"))
    with anyio.fail_after(20):
        assert await again == "hello"
        assert await (await spawn(owner, listener(), key="k")) == "hello"


async def test_who_only_waits_notices_that_its_process_was_taken_over() -> None:
    one = OneStorage()
    async with one.kernel() as owner, one.kernel() as taker:
        pid = await waiting(owner)
        one.memory.lapse()
        await taken(owner, taker, pid)


def in_turn(folder: Path) -> Iterator[Embedded]:
    given = {"folder": str(folder), "namespace": uuid4().hex, "settings": {"fsync": "off"}}
    yield Embedded(**given)
    yield Impatient(**given)


async def test_who_only_waits_notices_it_through_the_database(server_folder: Path) -> None:
    drivers = in_turn(server_folder)
    one = OneStorage(lambda: next(drivers))
    async with one.kernel() as owner, one.kernel() as taker:
        await taken(owner, taker, await waiting(owner))


class Forgetful(MemoryStorage):
    """Whose answer is lost when a process ends, once."""

    lost = 0

    async def commit(self, commit: Commit) -> None:
        await super().commit(commit)
        saved = (write.record.state for write in commit.writes if isinstance(write, SaveProcess))
        if not self.lost and "exited" in saved:
            self.lost += 1
            raise StorageUnavailable("no answer")


async def test_an_end_whose_answer_was_lost_is_told_all_the_same() -> None:
    driver = Forgetful()
    one = OneStorage(lambda: driver)
    async with one.kernel() as kernel, kernel.listen("process.exited") as events:
        agent = await spawn(kernel, listener())
        await kernel.request(Send(to=agent.pid, body="hello"))
        with anyio.fail_after(20):
            assert await agent == "hello"
            ended = await anext(events)
    assert isinstance(ended, ProcessExited)
    assert (ended.pid, driver.lost) == (agent.pid, 1)
