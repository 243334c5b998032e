"""The doorbell: what other kernels commit is heard on a connection of its own."""

from typing import Any

import anyio

from ...subsystems.storage import driver as d
from . import _postgres_errors as errors
from ._postgres_connections import Connections

CHECK_S = 15.0
"""How often a silent connection is asked whether it is still one."""
PAUSE_S = 0.5
"""Between two attempts to connect."""


class Doorbell:
    """Hears `pg_notify`: of commits "KERNEL PID", 0 for what no kernel knows by itself; of claims
    "only KERNEL PID", which is for the kernel that has lost the process.
    """

    def __init__(self, connections: Connections, namespace: str) -> None:
        self._connections, self._namespace = connections, namespace
        self.kernel = 0

    async def listen(self, ring: d.Ring) -> None:
        """Ring until cancelled. Whatever may have been missed is rung for when it is back."""
        while True:
            try:
                await self._listen(ring)
            except (*errors.VENDOR, d.StorageError):
                await anyio.sleep(PAUSE_S)

    async def _listen(self, ring: d.Ring) -> None:
        connection, lost = await self._connections.another(), anyio.Event()

        def hear(_connection: Any, _process: int, _channel: str, told: str) -> None:
            *only, kernel, pid = told.split()
            if (int(kernel) == self.kernel) == bool(only):
                ring((d.Pid(int(pid)),))

        try:
            connection.add_termination_listener(lambda _: lost.set())
            channel = "select 'aosk_' || md5(current_schema || '/' || $1)"
            await connection.add_listener(await connection.fetchval(channel, self._namespace), hear)
            ring(None)
            await self._watch(connection, lost)
        finally:
            connection.terminate()

    async def _watch(self, connection: Any, lost: anyio.Event) -> None:
        while not lost.is_set():
            with anyio.move_on_after(CHECK_S):
                await lost.wait()
                return
            await connection.execute("select 1", timeout=CHECK_S)
