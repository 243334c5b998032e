"""Servers that the tests of storage share, each test in a database or a namespace of its own."""

from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest
from postgres import Make, Server, carried, debian, postgres, serving

from aoskernel.drivers.storage.embedded import Embedded
from aoskernel.drivers.storage.memory import MemoryStorage
from aoskernel.subsystems.storage.driver import StorageDriver

SERVERS = [
    "embedded",
    "postgres",
    pytest.param("debian", marks=[pytest.mark.slow, pytest.mark.debian]),
]


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    """PostgreSQL on 127.0.0.1, with a password."""
    extra = {"shared_preload_libraries": "pg_stat_statements", "max_connections": "60"}
    with serving(carried(), **extra) as server:
        yield server


@pytest.fixture(scope="session")
def debian_server() -> Iterator[Server]:
    """Debian's PostgreSQL 15."""
    with serving(debian()) as server:
        yield server


@pytest.fixture
async def database(server: Server) -> str:
    """An empty one."""
    return await server.new_database()


@pytest.fixture(scope="session")
def folder(server_folder: Path) -> Path:
    """Of the embedded server."""
    return server_folder


@pytest.fixture(params=SERVERS)
def make(request: pytest.FixtureRequest) -> Make:
    """Drivers that share a database, in a namespace of the test's own."""
    return maker(request)


@pytest.fixture(params=["memory", *SERVERS])
def driver(request: pytest.FixtureRequest) -> StorageDriver:
    """One of each kind."""
    return MemoryStorage() if request.param == "memory" else maker(request)()


def maker(request: pytest.FixtureRequest) -> Make:
    namespace = uuid4().hex
    if request.param == "embedded":
        given = {"folder": str(request.getfixturevalue("folder")), "settings": {"fsync": "off"}}
        return lambda **more: Embedded(**{"namespace": namespace, **given, **more})
    at = {"postgres": "server", "debian": "debian_server"}[request.param]
    dsn = request.getfixturevalue(at).dsn("postgres")
    return lambda **more: postgres(dsn, **{"namespace": namespace, **more})
