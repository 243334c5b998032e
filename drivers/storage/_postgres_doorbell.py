"""The doorbell: what other kernels commit is heard on a connection of its own."""

from typing import Any, NamedTuple

import anyio

from ...subsystems.storage import driver as d
from . import _postgres_errors as errors
from ._postgres_connections import Connections
from ._postgres_seats import called

CHECK_S = 15.0
"""How often a silent connection is asked whether it is still one."""
PAUSE_S = 0.5
"""Between two attempts to connect."""


class _Line(NamedTuple):
    connection: Any
    lost: anyio.Event


class Doorbell:
    """Hears `pg_notify`: of commits "KERNEL PID", 0 for what no kernel knows by itself; of claims
    "only KERNEL PID", which is for the kernel that has lost the process; and on a channel of
    their own, of shared places "HOLDER WANTED FREED SHARE NAME".
    """

    def __init__(self, connections: Connections, namespace: str) -> None:
        self._connections, self._namespace = connections, namespace
        self._ring: d.Ring | None = None
        self._early: list[d.Pid] = []  # heard while nobody was there to be told
        self._line: _Line | None = None
        self.kernel = 0
        self.tell: d.TellSeats | None = None

    async def open(self) -> None:
        """Hear from now on; what is heard before `listen` is kept for it. Raises StorageError."""
        connection = await self._connections.another()
        line = self._line = _Line(connection, anyio.Event())
        connection.add_termination_listener(lambda _: line.lost.set())
        digest = "select md5(current_schema || '/' || $1)"
        place = await connection.fetchval(digest, self._namespace)
        await connection.add_listener(f"aosk_{place}", self._hear)
        await connection.add_listener(f"aosk_seats_{place}", self._hear_seats)

    def _hear(self, _connection: Any, _process: int, _channel: str, told: str) -> None:
        *only, kernel, pid = told.split()
        if (int(kernel) == self.kernel) != bool(only):
            return
        if self._ring is None:
            self._early.append(d.Pid(int(pid)))
        else:
            self._ring((d.Pid(int(pid)),))

    def _hear_seats(self, _connection: Any, _process: int, _channel: str, told: str) -> None:
        if self.tell is not None:
            self.tell(called(told))

    async def listen(self, ring: d.Ring) -> None:
        """Ring until cancelled: at once for what was heard before, and for whatever may have been
        missed when the line is back.
        """
        self._ring = ring
        early, self._early = self._early, []
        ring(early)
        try:
            while True:
                try:
                    if self._line is None:
                        await self.open()
                        ring(None)
                    assert self._line is not None
                    await self._watch(*self._line)
                except (*errors.VENDOR, d.StorageError):
                    await anyio.sleep(PAUSE_S)
                finally:
                    self.close()
        finally:
            self._ring = None

    def close(self) -> None:
        line, self._line = self._line, None
        if line is not None:
            line.connection.terminate()

    async def _watch(self, connection: Any, lost: anyio.Event) -> None:
        while not lost.is_set():
            with anyio.move_on_after(CHECK_S):
                await lost.wait()
                return
            await connection.execute("select 1", timeout=CHECK_S)
