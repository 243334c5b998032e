"""The schema, brought up to date by numbered files: `migrations/0001_log.sql` and so on.

A file is applied once, under a lock, in one transaction with its line in the ledger, and may not
change afterwards: its checksum is kept. A database that is newer than this code is used as it
is, so that kernels can be replaced one by one, unless a newer file is marked `-- breaking` in
its first line.

In a transaction there is no `create index concurrently`, and without one a failure would leave
half of a file behind; so an index is made with `create index if not exists`, which blocks
writers while it is built. Whoever has a table too large for that builds the index of that name
concurrently beforehand, and the migration finds it done: `status` tells what is to come.
"""

import hashlib
import re
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...subsystems.storage import driver as d
from ._postgres_sql import sql

FOLDER = Path(__file__).with_name("migrations")
NAME = re.compile(r"(?P<number>\d{4})_(?P<name>\w+)\.sql")
LOCK = 0x0A05_0001
"""The advisory lock of whoever migrates."""

LEDGER = """
create table {ledger} (
    number integer primary key,
    name text not null,
    checksum text not null,
    breaking boolean not null,
    applied_at timestamptz not null default now()
)
"""


@dataclass(frozen=True)
class Migration:
    """A file that changes the schema."""

    number: int
    name: str
    text: str

    @property
    def checksum(self) -> str:
        return hashlib.sha256(self.text.encode()).hexdigest()

    @property
    def breaking(self) -> bool:
        """Older code cannot work with what it makes."""
        return self.text.startswith("-- breaking")


@dataclass(frozen=True)
class Applied:
    """What the ledger says of a migration."""

    number: int
    name: str
    checksum: str
    breaking: bool


@dataclass(frozen=True)
class Status:
    """How a database and this code stand to each other.

    `unknown` are those that newer code has applied. `fault` is why this code cannot work with
    the database, and what to do.
    """

    applied: tuple[Applied, ...]
    missing: tuple[Migration, ...]
    unknown: tuple[Applied, ...]
    fault: str | None


def known(folder: Path = FOLDER) -> tuple[Migration, ...]:
    """The files that this code has, by number."""
    found = ((NAME.fullmatch(path.name), path) for path in sorted(folder.iterdir()))
    return tuple(
        Migration(int(name["number"]), name["name"], path.read_text("utf-8"))
        for name, path in found
        if name is not None
    )


async def migrate(connection: Any, schema: str, files: Sequence[Migration]) -> str:
    """Apply what is missing; gives the search path to what is there. Raises SchemaMismatch.

    Where nothing is missing no rights are needed but those to read and write the tables.
    """
    if await _missing(connection, schema, files):
        async with _alone(connection):
            await _apply(connection, schema, files)
    return await _search_path(connection, schema)


@asynccontextmanager
async def _alone(connection: Any) -> AsyncIterator[None]:
    """In a transaction that begins under the lock: one that waited for it would still see in
    the server's caches what was not there before.
    """
    await connection.execute("select pg_advisory_lock($1)", LOCK)
    try:
        async with connection.transaction():
            yield
    finally:
        await connection.execute("select pg_advisory_unlock($1)", LOCK)


async def status(connection: Any, schema: str, files: Sequence[Migration]) -> Status:
    """What is applied, and what is missing; changes nothing."""
    ledger = _ledger(schema)
    there = await connection.fetchval("select to_regclass($1) is not null", ledger)
    rows = await connection.fetch(f"select * from {ledger} order by number") if there else ()
    applied = tuple(
        Applied(row["number"], row["name"], row["checksum"], row["breaking"]) for row in rows
    )
    ours, theirs = {file.number: file for file in files}, {one.number for one in applied}
    return Status(
        applied=applied,
        missing=tuple(file for file in files if file.number not in theirs),
        unknown=tuple(one for one in applied if one.number not in ours),
        fault=next(filter(None, (_fault(one, ours.get(one.number)) for one in applied)), None),
    )


def _fault(applied: Applied, ours: Migration | None) -> str | None:
    told = f"the database has migration {applied.number} ({applied.name})"
    if ours is None and applied.breaking:
        return (
            f"{told}, which this version of aoskernel does not know and cannot work with: "
            "install the version that made it, or a newer one"
        )
    if ours is not None and ours.checksum != applied.checksum:
        return (
            f"{told} from another text than this version of aoskernel has: install the one that "
            "made the database, or name another `schema_name` to begin a new one"
        )
    return None


async def _missing(
    connection: Any, schema: str, files: Sequence[Migration]
) -> tuple[Migration, ...]:
    found = await status(connection, schema, files)
    if found.fault is not None:
        raise d.SchemaMismatch(found.fault)
    return found.missing


async def _apply(connection: Any, schema: str, files: Sequence[Migration]) -> None:
    """In a transaction, under the lock."""
    missing = await _missing(connection, schema, files)
    if not await connection.fetchval("select to_regnamespace($1) is not null", quoted(schema)):
        await connection.execute(f"create schema {quoted(schema)}")
    path = await _search_path(connection, schema)
    await connection.execute("select set_config('search_path', $1, true)", path)
    ledger = _ledger(schema)
    if not await connection.fetchval("select to_regclass($1) is not null", ledger):
        await connection.execute(LEDGER.format(ledger=ledger))
    for file in missing:
        await connection.execute(file.text)
        await connection.execute(
            f"insert into {ledger} (number, name, checksum, breaking) values ($1, $2, $3, $4)",
            *(file.number, file.name, file.checksum, file.breaking),
        )


async def _search_path(connection: Any, schema: str) -> str:
    """Our tables first, then pgvector, which somebody may have put anywhere."""
    vectors = await connection.fetchval(sql("where_vectors_are"))
    places = dict.fromkeys((schema, vectors or "public", "public"))
    return ", ".join(map(quoted, places))


def _ledger(schema: str) -> str:
    return f"{quoted(schema)}.migration"


def quoted(name: str) -> str:
    """As an identifier."""
    return '"' + name.replace('"', '""') + '"'
