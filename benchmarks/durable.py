"""A PostgreSQL of a benchmark's own, and work measured beside its floor, turn by turn.

Commits wait for the disk, so these are wall times. Floor and ours take turns in one process,
a few steps each: a slow disk falls on both.
"""

import base64
import json
import os
import random
import statistics
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import asyncpg

from aoskernel.drivers.storage._embedded_cluster import Cluster
from aoskernel.kernel.service import Proceed, Service

BLOCK = 10
"""Steps before the other has its turn."""
MESSAGE_BYTES = 458
WORDS = [
    "the",
    "agent",
    "reads",
    "a",
    "file",
    "and",
    "writes",
    "its",
    "plan",
    "then",
    "calls",
    "a",
    "tool",
    "shows",
    "the",
    "result",
]

Step = Callable[[int], Awaitable[Any]]


@asynccontextmanager
async def database() -> AsyncIterator["Database"]:
    """An embedded server that is as it always is, and stops afterwards."""
    with tempfile.TemporaryDirectory(prefix="durable-", ignore_cleanup_errors=True) as folder:
        Path(folder).chmod(0o711)  # a server that root starts is another user
        cluster = await Cluster.attach(folder)
        try:
            yield Database(folder, cluster)
        finally:
            await cluster.detach()


class Database:
    """Where the log is, and connections to it that go past us."""

    def __init__(self, folder: str, cluster: Cluster) -> None:
        self.folder, self._cluster = folder, cluster  # also kept by the kernel that is measured

    async def connect(self) -> Any:
        return await asyncpg.connect(**self._address())

    async def pool(self, connections: int) -> Any:
        return await asyncpg.create_pool(
            **self._address(), min_size=connections, max_size=connections
        )

    def _address(self) -> dict[str, Any]:
        at = self._cluster
        return {
            "host": str(at.socket_dir),
            "port": at.port,
            "user": at.user,
            "password": at.password,
            "database": at.database,
        }


async def appending(connection: Any) -> Step:
    """The floor: each step appends a row and commits it."""
    await connection.execute(
        "create table floor (thread text, seq bigint, body bytea, primary key (thread, seq))"
    )
    insert = await connection.prepare("insert into floor values ($1, $2, $3)")
    place = iter(range(1_000_000))

    async def append(step: int) -> None:
        body = json.dumps({"role": "user", "content": text(step)}).encode()
        await insert.fetch("t", next(place), body)

    return append


class Counting(Service, name="counting"):
    """Stands before storage and counts what is committed."""

    def __init__(self) -> None:
        self.count = 0

    async def guard(self, call: Any, proceed: Proceed[Any]) -> Any:
        self.count += 1
        return await proceed(call)


class Beside:
    """Several ways of one step, and what each took in its turns: seconds, and bytes of WAL."""

    def __init__(self, watching: Any, *names: str) -> None:
        self._watching = watching
        self.seconds: dict[str, list[float]] = {name: [] for name in names}
        self.wal: dict[str, list[float]] = {name: [] for name in names}

    async def run(self, steps: range, **ways: Step) -> None:
        """Each way takes all of these steps, some at a time."""
        for first in range(steps.start, steps.stop, BLOCK):
            for name, way in ways.items():
                before = await wal_bytes(self._watching)
                block = range(first, min(first + BLOCK, steps.stop))
                self.seconds[name] += [await _timed(way, step) for step in block]
                written = await wal_bytes(self._watching) - before
                self.wal[name].append(written / len(block))

    def ms(self, name: str) -> float:
        return statistics.median(self.seconds[name]) * 1e3

    def bytes(self, name: str) -> float:
        return statistics.median(self.wal[name])


async def _timed(way: Step, step: int) -> float:
    began = time.perf_counter()
    await way(step)
    return time.perf_counter() - began


async def wal_bytes(connection: Any) -> float:
    """How much the server has ever written to its write-ahead log."""
    return float(await connection.fetchval("select pg_current_wal_lsn() - '0/0'::pg_lsn"))


async def transactions(connection: Any) -> int:
    """How many transactions have written something."""
    return int(await connection.fetchval("select pg_snapshot_xmax(pg_current_snapshot())::text"))


def text(seed: int, size: int = MESSAGE_BYTES) -> str:
    """So many bytes of what an agent might say: words and numbers."""
    chance = random.Random(seed)
    parts = (
        chance.choice(WORDS) if chance.random() < 0.8 else f"{chance.getrandbits(40):x}"
        for _ in range(size // 2)
    )
    return " ".join(parts)[:size]


def noise(size: int) -> str:
    """So many bytes that do not get smaller when they are packed as text."""
    return base64.b85encode(os.urandom(size)).decode()[:size]


def quantile(values: Iterable[float], share: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]
