"""Storage in a PostgreSQL server, by its DSN."""

from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from typing import TypeVar

from pydantic import SecretStr

from ...subsystems.storage import driver as d
from ._postgres_database import Database, Settings
from ._postgres_dsn import place
from ._postgres_survey import survey
from ._postgres_trail import trail

T = TypeVar("T")


@dataclass(kw_only=True)
class Postgres:
    """The log in a database of yours, PostgreSQL 15 or newer with pgvector 0.7 or newer.

        [services.storage]
        driver = "postgres"
        dsn = { env = "DATABASE_URL" }

    TLS is the DSN's `sslmode`, e.g. `?sslmode=verify-full&sslrootcert=/etc/ssl/ca.pem`. Kernels
    with the same `namespace` share their processes; each table is in the schema `schema_name`. A
    kernel that is silent for `lease_s` seconds loses its processes to the others. With `audit`
    what is written is chained and sealed. `patience_s`: how long a call waits for a server that
    is away. It opens `connections` for reading and two more.
    """

    dsn: SecretStr
    namespace: str = "default"
    schema_name: str = "aoskernel"
    connections: int = 4
    lease_s: float = 10.0
    patience_s: float = 30.0
    audit: bool = True
    _database: Database = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        dsn = self.dsn.get_secret_value()
        self._database = Database(
            Settings(
                where=place(dsn),
                connect={"dsn": dsn},
                namespace=self.namespace,
                schema=self.schema_name,
                connections=self.connections,
                lease_s=self.lease_s,
                patience_s=self.patience_s,
                audit=self.audit,
            )
        )

    async def start(self) -> None:
        """Connect, and bring the schema up to date. Raises StorageError."""
        await self._database.start()

    async def run(self, ring: d.Ring) -> None:
        """Write commits and keep the lease."""
        await self._database.run(ring)

    async def stop(self) -> None:
        """Give up the processes and the connections."""
        await self._database.stop()

    async def survey(self) -> d.Survey:
        """Look, over a connection of its own. Raises StorageError."""
        return await survey(self._database.settings)

    def trail(self, pid: d.Pid | None = None) -> AsyncGenerator[d.Item, None]:
        """Over a connection of its own. Raises StorageError."""
        return trail(self._database.settings, pid)

    async def erase(self, order: d.EraseBodies) -> int:
        return await self._database.erase(order)

    async def new_pid(self) -> d.Pid:
        return await self._database.new_pid()

    async def commit(self, commit: d.Commit) -> None:
        await self._database.commit(commit)

    async def claim(self, claim: d.ClaimProcesses) -> tuple[d.ProcessRecord, ...]:
        return await self._database.claim(claim)

    async def forget(self, order: d.ForgetExpired) -> tuple[d.Expired, ...]:
        return await self._database.forget(order)

    async def draw(self, draw: d.DrawRate) -> d.Drawn:
        return await self._database.draw(draw)

    async def hold(self, hold: d.HoldSeats) -> d.Held:
        return await self._database.hold(hold)

    async def hear_seats(self, tell: d.TellSeats) -> None:
        await self._database.hear_seats(tell)

    async def read(self, query: d.Query[T]) -> T:
        return await self._database.read(query)
