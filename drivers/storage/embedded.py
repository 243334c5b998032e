"""Storage in a PostgreSQL of one's own, which pip brings."""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from ...subsystems.storage import driver as d
from ._embedded_cluster import Cluster, default_data_dir
from ._embedded_watchdog import CLUSTER
from ._postgres_database import Database, Settings
from ._postgres_survey import survey, unmade
from ._postgres_trail import trail

T = TypeVar("T")


@dataclass(kw_only=True)
class Embedded:
    """A real PostgreSQL with pgvector, started with the kernel; nothing to install or run.

        [services.storage]
        driver = "embedded"
        folder = "./.aosk"

    Several programs with the same `folder` share one server; it stops when the last of them
    ends, however that ends. `settings` are PostgreSQL's own, as in `postgres -c`. Without a
    `namespace` of its own a program meets the processes of its working directory, not those of
    other projects. The other fields are those of the driver `postgres`.
    """

    folder: str | None = None
    settings: dict[str, str] = field(default_factory=dict)
    namespace: str = field(default_factory=lambda: str(Path.cwd()))
    connections: int = 4
    lease_s: float = 10.0
    patience_s: float = 30.0
    audit: bool = True
    _cluster: Cluster | None = field(default=None, init=False, repr=False, compare=False)
    _database: Database | None = field(default=None, init=False, repr=False, compare=False)

    async def start(self) -> None:
        """Start the server, or join it. Raises StorageError."""
        self._cluster = self._cluster or await self._attach()
        self._database = Database(self._settings(self._cluster))
        await self._database.start()

    async def run(self, ring: d.Ring) -> None:
        """Write commits and keep the lease."""
        await self._running().run(ring)

    async def stop(self) -> None:
        """Give up the processes, and the server if nobody else uses it."""
        database, self._database = self._database, None
        cluster, self._cluster = self._cluster, None
        if database is not None:
            await database.stop()
        if cluster is not None:
            await cluster.detach()

    async def survey(self) -> d.Survey:
        """Look, with the server held until `stop`; makes no database. Raises StorageError."""
        if not (self._folder().expanduser() / CLUSTER).exists():
            return unmade(self._where, self.namespace)
        self._cluster = self._cluster or await self._attach()
        return await survey(self._settings(self._cluster))

    async def trail(self, pid: d.Pid | None = None) -> AsyncGenerator[d.Item, None]:
        """With the server held until `stop`; of no database nothing. Raises StorageError."""
        if not (self._folder().expanduser() / CLUSTER).exists():
            return
        self._cluster = self._cluster or await self._attach()
        async with aclosing(trail(self._settings(self._cluster), pid)) as items:
            async for item in items:
                yield item

    async def erase(self, order: d.EraseBodies) -> int:
        return await self._running().erase(order)

    async def new_pid(self) -> d.Pid:
        return await self._running().new_pid()

    async def commit(self, commit: d.Commit) -> None:
        await self._running().commit(commit)

    async def claim(self, claim: d.ClaimProcesses) -> tuple[d.ProcessRecord, ...]:
        return await self._running().claim(claim)

    async def forget(self, order: d.ForgetExpired) -> tuple[d.Expired, ...]:
        return await self._running().forget(order)

    async def draw(self, draw: d.DrawRate) -> d.Drawn:
        return await self._running().draw(draw)

    async def hold(self, hold: d.HoldSeats) -> d.Held:
        return await self._running().hold(hold)

    async def hear_seats(self, tell: d.TellSeats) -> None:
        await self._running().hear_seats(tell)

    async def read(self, query: d.Query[T]) -> T:
        return await self._running().read(query)

    async def _revive(self) -> None:
        """Nobody else starts a server again that was killed while it was in use."""
        former, self._cluster = self._cluster, await self._attach()
        if former is not None:
            await former.detach()

    async def _attach(self) -> Cluster:
        return await Cluster.attach(self._folder(), settings=self.settings)

    def _settings(self, cluster: Cluster) -> Settings:
        return Settings(
            where=self._where,
            connect=_address(cluster),
            revive=self._revive,
            namespace=self.namespace,
            connections=self.connections,
            lease_s=self.lease_s,
            patience_s=self.patience_s,
            audit=self.audit,
        )

    @property
    def _where(self) -> str:
        return f"the database in {self._folder()}"

    def _folder(self) -> Path:
        return default_data_dir() if self.folder is None else Path(self.folder)

    def _running(self) -> Database:
        if self._database is None:
            raise d.StorageUnavailable("storage is not started")
        return self._database


def _address(cluster: Cluster) -> dict[str, Any]:
    return {
        "host": str(cluster.socket_dir),
        "port": cluster.port,
        "user": cluster.user,
        "password": cluster.password,
        "database": cluster.database,
    }
