"""What a database says of itself to whoever looks: its schema, kernels, processes."""

from typing import Any

import asyncpg

from ...subsystems.storage import driver as d
from . import _postgres_errors as errors
from . import _postgres_migrations as migrations
from ._postgres_connections import CONNECT_S, Settings
from ._postgres_database import SEPARATOR
from ._postgres_sql import sql


async def survey(at: Settings) -> d.Survey:
    """Over a connection of its own. Raises StorageError."""
    try:
        connection = await asyncpg.connect(
            **at.connect, timeout=CONNECT_S, server_settings={"application_name": "aoskernel"}
        )
        try:
            async with connection.transaction(readonly=True):
                return await _look(connection, at)
        finally:
            connection.terminate()
    except errors.VENDOR as error:
        raise errors.unusable(error, at.where) from error


def unmade(where: str, namespace: str) -> d.Survey:
    """Of a database that is still to be made."""
    missing = tuple(map(_named, migrations.known()))
    return d.Survey(
        where=where,
        server="",
        namespace=namespace,
        applied=(),
        missing=missing,
        unknown=(),
        fault=None,
        states={},
    )


async def _look(connection: Any, at: Settings) -> d.Survey:
    found = await migrations.status(connection, at.schema, migrations.known())
    usable = found.applied and not found.missing and found.fault is None
    kernels: list[Any] = []
    states: list[Any] = []
    if usable:
        path = migrations.quoted(at.schema)
        await connection.execute("select set_config('search_path', $1, true)", path)
        kernels = await connection.fetch(sql("read_kernels"), at.namespace)
        states = await connection.fetch(sql("count_states"), at.namespace)
    return d.Survey(
        where=at.where,
        server=await connection.fetchval("show server_version"),
        namespace=at.namespace,
        applied=tuple(map(_named, found.applied)),
        missing=tuple(map(_named, found.missing)),
        unknown=tuple(map(_named, found.unknown)),
        fault=found.fault,
        kernels=tuple(map(_kernel, kernels)),
        states={row["state"]: row["number"] for row in states},
    )


def _kernel(row: Any) -> d.KernelSeen:
    return d.KernelSeen(
        number=row["number"],
        until=row["until"],
        lives=row["lives"],
        os_pid=int(row["os_process"].partition(" ")[0] or 0),
        processes=row["processes"],
        programs=tuple(_program(one) for one in row["programs"]),
    )


def _program(told: str) -> tuple[str, str]:
    name, _, version = told.partition(SEPARATOR)
    return name, version


def _named(migration: migrations.Migration | migrations.Applied) -> str:
    return f"{migration.number:04}_{migration.name}"
