"""Connections to a PostgreSQL, and statements on them that outlive the loss of one."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar

import anyio
import asyncpg

from ...subsystems.storage import driver as d
from . import _postgres_errors as errors
from . import _postgres_migrations as migrations
from ._postgres_line import Connection, Line, Work
from ._postgres_sql import sql

T = TypeVar("T")

CONNECT_S = 10.0
"""For one attempt."""
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.05, 1.0
OURS = 2
"""Connections beside those for reading: commits and the lease never wait for readers."""
_SESSION = {
    "application_name": "aoskernel",
    "jit": "off",  # compiling takes longer than any statement here
}
IDLE = "idle_in_transaction_session_timeout"
"""In milliseconds."""
OURS_PLAN = {
    "plan_cache_mode": "force_generic_plan",  # a commit takes less time than its planning
    "enable_seqscan": "off",  # so the plan is right for tables that have grown since
    "enable_hashjoin": "off",
    "enable_mergejoin": "off",
}
"""A commit finds rows by their keys, however many there are."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """`connect` is what asyncpg.connect takes, `where` what may be said of it.

    `revive` brings a dead server back. `connections` are for reading. Times in seconds.
    """

    connect: dict[str, Any] = field(repr=False)  # a password is in it
    where: str = "the database"
    revive: Callable[[], Awaitable[None]] | None = None
    namespace: str = "default"
    schema: str = "aoskernel"
    connections: int = 4
    lease_s: float = 10.0
    patience_s: float = 30.0
    audit: bool = True

    def __post_init__(self) -> None:
        for name in ("connections", "lease_s", "patience_s"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} must be more than 0, it is {getattr(self, name)}")
        if not self.schema or "\0" in self.schema + self.namespace:
            raise ValueError("schema_name and namespace are names, without NUL")


class Connections:
    """Those of a kernel, with patience: what a lost one has cut short is done again."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._path = ""
        self._readers: Line | None = None
        self._ours: Line | None = None
        self._reviving = anyio.Lock()

    async def open(self, first: Work[T]) -> T:
        """Connect, bring the schema up to date, and do this `first`. Raises StorageError."""
        at = self._settings
        try:
            self._path, done = await self._prepare(first)
        except errors.VENDOR as error:
            raise errors.unusable(error, at.where) from error
        self._readers = Line(at.connections, self._connect)
        self._ours = Line(OURS, partial(self._connect, **OURS_PLAN))
        return done

    async def _connect(self, **session: str) -> Connection:
        return await asyncpg.connect(
            **self._settings.connect,
            timeout=CONNECT_S,
            server_settings={**self._session(), **session, "search_path": self._path},
        )

    def _session(self) -> dict[str, str]:
        """A kernel that stops in a transaction loses it with its lease, and the locks in it."""
        return {**_SESSION, IDLE: str(max(1, round(self._settings.lease_s * 1000)))}

    async def another(self) -> Connection:
        """One that is nobody else's; who takes it ends it."""
        return await self._connect()

    async def _prepare(self, first: Work[T]) -> tuple[str, T]:
        connection = await self._first()
        try:
            path = await migrations.migrate(connection, self._settings.schema, migrations.known())
            await connection.execute("select set_config('search_path', $1, false)", path)
            return path, await first(connection)
        finally:
            connection.terminate()

    async def _first(self) -> Connection:
        """A connection to a server that may still be starting."""
        deadline = anyio.current_time() + self._settings.patience_s
        while True:
            try:
                return await asyncpg.connect(
                    **self._settings.connect, timeout=CONNECT_S, server_settings=self._session()
                )
            except asyncpg.CannotConnectNowError:
                if anyio.current_time() > deadline:
                    raise
            await anyio.sleep(FIRST_PAUSE_S)

    async def close(self) -> None:
        """End the connections; whoever uses one is told."""
        lines, self._readers, self._ours = (self._readers, self._ours), None, None
        for line in filter(None, lines):
            await line.close()

    async def read(self, name: str, *values: Any) -> list[Any]:
        """The rows of a statement of somebody who asks. Raises StorageError."""
        return await self.use(lambda connection: connection.fetch(sql(name), *values))

    async def use(self, work: Work[T]) -> T:
        """Have it done with a connection, again if that is lost. Raises StorageError."""
        return await self._patiently(self._readers, work)

    async def run(self, statement: str, *values: Any) -> list[Any]:
        """The rows of a statement of the kernel's own, which never waits for those who ask."""
        return await self._patiently(self._ours, lambda c: c.fetch(statement, *values))

    async def _patiently(self, line: Line | None, work: Work[T]) -> T:
        if line is None:
            raise d.StorageUnavailable("storage is not started")
        last: BaseException | None = None
        pause, patience_s = FIRST_PAUSE_S, self._settings.patience_s
        with anyio.move_on_after(patience_s):
            async with line.turns:
                while True:
                    try:
                        return await line.use(work)
                    except errors.VENDOR as error:
                        if not errors.passes(error):
                            raise errors.refusal(error) from error
                        last = error
                    await anyio.sleep(pause)
                    pause = min(pause * 2, LONGEST_PAUSE_S)
                    await self._revive()
        raise errors.unavailable(last, patience_s) from last

    async def _revive(self) -> None:
        """One at a time, and only as long as the server is away."""
        if self._settings.revive is None:
            return
        async with self._reviving:
            await self._settings.revive()
