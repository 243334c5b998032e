"""A trial: one application's namespace and world, run and killed until its program has ended."""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TypeVar
from uuid import uuid4

import anyio
import asyncpg
from chaos.wire import Order
from chaos.world import Call, Life, World

from aoskernel.drivers.storage._embedded_cluster import Cluster

T = TypeVar("T")
TESTS = Path(__file__).parents[1]
SIDE_BY_SIDE = 4
PATIENCE_S = 60
"""For one run of the application, on a slow machine."""


@dataclass
class Ground:
    """What trials share: a warm server, and whoever starts applications on it."""

    folder: Path
    cluster: Cluster
    settings: dict[str, str]
    zygote: "subprocess.Popen[str]"

    def order(self, **more: Any) -> Order:
        """For an application here."""
        return Order(folder=str(self.folder / "data"), **{"settings": self.settings, **more})

    def fork(self, order: Order) -> int:
        """Start an application; gives its pid. The first is the parent of the others."""
        assert self.zygote.stdin is not None
        assert self.zygote.stdout is not None
        self.zygote.stdin.write(json.dumps(asdict(order)) + "\n")
        self.zygote.stdin.flush()
        return int(self.zygote.stdout.readline())

    async def connect(self, **other: Any) -> asyncpg.Connection:
        """A session of ours with the server."""
        at = self.cluster
        given = {"user": at.user, "password": at.password, "database": at.database, **other}
        return await asyncpg.connect(host=str(at.socket_dir), port=at.port, **given)

    def postmaster(self) -> int:
        return int((self.folder / "data/cluster/postmaster.pid").read_text().split()[0])


@contextmanager
def ground(**settings: str) -> Iterator[Ground]:
    """Keep a server warm by holding a lease on it; afterwards nothing of it is left."""
    folder = Path(tempfile.mkdtemp(prefix="aosk-chaos-", dir="/tmp"))
    folder.chmod(0o711)  # a server started by root is another user
    cluster = anyio.run(lambda: Cluster.attach(folder / "data", settings=settings))
    try:
        with _zygote() as zygote:
            on = Ground(folder, cluster, settings, zygote)
            on.fork(on.order(world="", namespace="rehearsal"))
            yield on
    finally:
        anyio.run(cluster.detach)
        anyio.run(until_gone, folder)
        shutil.rmtree(folder)


@contextmanager
def _zygote() -> Iterator["subprocess.Popen[str]"]:
    environment = {**os.environ, "PYTHONPATH": str(TESTS)}
    command = (sys.executable, "-m", "chaos.zygote")
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, env=environment) as zygote:
        yield zygote
        assert zygote.stdin is not None
        zygote.stdin.close()


async def until_gone(folder: Path) -> None:
    """Wait until no process of this folder is left: no server, no watchdog, no application."""
    with anyio.fail_after(30):
        while str(folder) in await _commands():
            await anyio.sleep(0.02)


async def _commands() -> str:
    return (await anyio.run_process(("ps", "-axww", "-o", "args="))).stdout.decode()


@dataclass
class Trial:
    """The same application again and again, in a namespace of its own."""

    ground: Ground
    world: World
    namespace: str = field(default_factory=lambda: uuid4().hex)
    kills: int = 0

    def begin(self, **more: Any) -> int:
        """Start the application; gives its pid."""
        told = {"world": str(self.world.path), "namespace": self.namespace, **more}
        application = self.ground.fork(self.ground.order(**told))
        self.world.lives.setdefault(application, Life())
        return application

    async def over(self, application: int) -> Life:
        """Wait for its end or its death."""
        life = self.world.lives[application]
        with anyio.fail_after(PATIENCE_S):
            await life.over.wait()
        assert not life.crash, life.crash
        return life

    async def wait(self, application: int, event: anyio.Event) -> None:
        """Wait for something that comes before the application's end."""
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._until_over, application, tasks.cancel_scope)
            with anyio.fail_after(PATIENCE_S):
                await event.wait()
            tasks.cancel_scope.cancel()
        assert event.is_set(), await self.over(application)

    async def _until_over(self, application: int, scope: anyio.CancelScope) -> None:
        await self.world.lives[application].over.wait()
        scope.cancel()

    async def kill(self, application: int) -> None:
        """Kill -9, if it has not ended before."""
        if not self.world.lives[application].over.is_set():
            _kill(application)
        life = await self.over(application)
        self.kills += not life.ended

    async def kill_inside(self, *names: str, **more: Any) -> None:
        """Kill it while the world holds the calls of these names, when the last has come."""
        awaited, all_there = set(names), anyio.Event()

        async def hold(call: Call) -> None:
            if call.name in names:
                awaited.discard(call.name)
                if not awaited:
                    all_there.set()
                await anyio.sleep_forever()

        before, self.world.hold = self.world.hold, hold
        application = self.begin(**more)
        await self.wait(application, all_there)
        await self.kill(application)
        self.world.hold = before

    async def run_to_death(self, **more: Any) -> Life:
        """A run that kills itself, or ends before that."""
        life = await self.over(self.begin(**more))
        self.kills += not life.ended
        return life

    async def run_to_the_end(self, **more: Any) -> Life:
        """A run that nobody disturbs."""
        life = await self.over(self.begin(**more))
        assert life.ended
        return life


@asynccontextmanager
async def trial(ground: Ground) -> AsyncIterator[Trial]:
    with tempfile.TemporaryDirectory(prefix="aosk-world-", dir="/tmp") as folder:
        async with World(Path(folder) / "world").open() as world:
            try:
                yield Trial(ground, world)
            finally:
                for application, life in world.lives.items():
                    if not life.over.is_set():
                        _kill(application)


def _kill(application: int) -> None:
    with suppress(ProcessLookupError):  # it has just ended, and we have not read of it yet
        os.kill(application, signal.SIGKILL)


async def each(work: Callable[[T], Awaitable[None]], of: Iterable[T]) -> None:
    """Do it with each, four at a time, and then tell of all that went wrong."""
    seats, wrong = anyio.CapacityLimiter(SIDE_BY_SIDE), list[Exception]()

    async def seated(one: T) -> None:
        async with seats:
            try:
                await work(one)
            except Exception as error:  # noqa: BLE001 - raised below, with the others
                error.add_note(f"in the trial of {one}")
                wrong.append(error)

    async with anyio.create_task_group() as tasks:
        for one in of:
            tasks.start_soon(seated, one)
    if wrong:
        raise ExceptionGroup("trials", wrong)
