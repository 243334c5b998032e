"""What a log and its seals are checked by, read as of one moment, while everything goes on."""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

import asyncpg

from ...subsystems.storage import driver as d
from . import _postgres_errors as errors
from . import _postgres_migrations as migrations
from ._postgres_connections import CONNECT_S, Settings
from ._postgres_sql import sql

AHEAD = 500
"""Rows that are fetched at once."""
NUMBER = 7
"""Of the migration without which there are no chains."""


async def trail(at: Settings, pid: d.Pid | None) -> AsyncGenerator[d.Item, None]:
    """Seals, standings, links, over a connection of its own. Raises StorageError."""
    try:
        connection = await asyncpg.connect(
            **at.connect, timeout=CONNECT_S, server_settings={"application_name": "aoskernel"}
        )
        try:
            async with (
                connection.transaction(isolation="repeatable_read", readonly=True),
                aclosing(_read(connection, at, pid)) as items,
            ):
                async for item in items:
                    yield item
        finally:
            connection.terminate()
    except errors.VENDOR as error:
        raise errors.unusable(error, at.where) from error


async def _read(connection: Any, at: Settings, pid: d.Pid | None) -> AsyncGenerator[d.Item, None]:
    found = await migrations.status(connection, at.schema, migrations.known())
    if not any(one.number == NUMBER for one in found.applied):
        raise d.SchemaMismatch(f"{at.where} has no audit yet: `aosk db migrate` makes it")
    path = migrations.quoted(at.schema)
    await connection.execute("select set_config('search_path', $1, true)", path)
    async for row in connection.cursor(sql("read_seals"), prefetch=AHEAD):
        yield d.Seal(**row)
    async for row in connection.cursor(sql("read_standings"), pid, prefetch=AHEAD):
        yield d.Standing(**row)
    async for row in connection.cursor(sql("read_links"), pid, prefetch=AHEAD):
        yield _link(row)


def _link(row: Any) -> d.Link:
    pid, seq, epoch, kind, key, mark, failed, took_s, body, rest, erased, made, salt = row
    return d.Link(
        pid=pid,
        seq=seq,
        epoch=epoch,
        kind=kind,
        key=key,
        fingerprint=mark,
        failed=failed,
        took_s=took_s,
        body=None if erased else (body or b"") + rest,
        mark=rest if erased else b"",
        salt=salt,
        hash=made,
    )
