"""An embedded PostgreSQL: one server per data directory, shared by all who attach to it.

    cluster = await Cluster.attach(Path("~/.local/share/aoskernel"))
    await asyncpg.connect(host=str(cluster.socket_dir), port=cluster.port, user=cluster.user, ...)
    await cluster.detach()

Whoever comes first makes the cluster and starts the server; when the last one has left, or
died, a watchdog stops it. `_embedded_watchdog` has the locks and their order.
"""

import os
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Self

from anyio import from_thread, to_thread

from . import _embedded_server as server
from . import _embedded_watchdog as files
from ._embedded_account import Account, ClusterError, last_lines, run
from ._embedded_binaries import find_binaries, within_reach
from ._embedded_home import default_data_dir, make_home

if sys.platform != "win32":
    import fcntl

__all__ = ["Cluster", "ClusterError", "default_data_dir"]

POLL_S = 0.01


class Cluster:
    """A lease on a running server, and what a client needs to connect to it.

    A child made by `os.fork` without exec shares the lease, which then ends with the last of
    both.
    """

    port = int(files.PORT)
    user = server.USER
    database = server.DATABASE

    def __init__(self, home: Path, lease: int) -> None:
        self.home = home
        self.socket_dir = files.recorded_socket_dir(home)
        self.password = (home / files.CLUSTER / server.PASSWORD).read_text()
        self._lease = lease

    @classmethod
    async def attach(
        cls,
        data_dir: str | Path,
        *,
        settings: Mapping[str, str] | None = None,
        patience_s: float = 60,
    ) -> Self:
        """Take a lease on the server of this folder; make its cluster and start it if need be.

        Who starts the server decides its `settings` (as in `postgres -c`). `patience_s` bounds
        the wait for other processes and for a recovery. Raises ClusterError.
        """
        if sys.platform == "win32":
            raise ClusterError(
                "the embedded PostgreSQL runs on Linux and macOS only: install a server, and "
                "use the storage driver 'postgres', or 'memory', which keeps nothing"
            )
        home = Path(data_dir).expanduser().absolute()
        attaching = _Attaching(home, dict(settings or {}), _Patience(patience_s))
        try:
            return await to_thread.run_sync(cls._attach, attaching)
        except OSError as error:
            raise ClusterError(
                f"the data directory {home} cannot be used: {error}; choose another, or change "
                f"what is in the way"
            ) from error

    @classmethod
    def _attach(cls, attaching: "_Attaching") -> Self:
        lease = attaching.lease()
        try:
            return cls(attaching.home, lease)
        except BaseException:
            os.close(lease)
            raise

    async def detach(self) -> None:
        """Give the lease back; the server stops when nobody holds one."""
        lease, self._lease = self._lease, -1
        if lease >= 0:
            os.close(lease)


class _Patience:
    """How long to wait in all, in a thread whose caller may be cancelled."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._end = time.monotonic() + seconds

    def lasts(self) -> bool:
        """Wait a moment; False when that was the last."""
        from_thread.check_cancelled()
        time.sleep(POLL_S)
        return time.monotonic() < self._end


class _Attaching:
    """One application on its way to a lease. All of it blocks, so it runs in a thread."""

    def __init__(self, home: Path, settings: dict[str, str], patience: _Patience) -> None:
        self.home = home
        self._cluster = home / files.CLUSTER
        self._settings = settings
        self._patience = patience

    def lease(self) -> int:
        """Return the lease's descriptor, with a server that takes connections."""
        make_home(self.home)
        self._account = Account.for_server(self.home, self._cluster)
        lease = files.open_file(self.home / files.LEASE)
        try:
            while not self._serve(lease):
                pass
        except BaseException:
            os.close(lease)
            raise
        return lease

    def _serve(self, lease: int) -> bool:
        """See to it that there is a server; False if one that others started has ended."""
        with self._opened(files.RUNNING) as running:
            with self._opened(files.LOCK) as lock:
                self._take(lock, fcntl.LOCK_EX)
                self._take(lease, fcntl.LOCK_SH)
                started = self._is_down(running)
                self._start() if started else self._watch()
            if self._is_ready(running):
                return True
        if started:
            raise ClusterError(
                f"the server in {self.home} ended while it started; its log ends:{self._log()}"
            )
        return False

    def _take(self, file: int, kind: int) -> None:
        while not files.try_lock(file, kind):
            if not self._patience.lasts():
                raise ClusterError(
                    f"another process has been starting or stopping the server in {self.home} "
                    f"for {self._patience.seconds:g} s: wait longer, or see who has "
                    f"{self.home / files.LOCK} open; the log ends:{self._log()}"
                )

    def _is_down(self, running: int) -> bool:
        """Whether no process of a server is left, or one listens."""
        while not files.is_free(running):
            if files.serves(self.home):
                return False
            if not self._patience.lasts():
                raise ClusterError(
                    f"the former server in {self.home} is dead, but processes of it were left "
                    f"after {self._patience.seconds:g} s: end those that have "
                    f"{self.home / files.RUNNING} open"
                )
        return True

    def _is_ready(self, running: int) -> bool:
        """Wait for the server; False if it has ended."""
        while not server.is_ready(self.home):
            if files.is_free(running):
                return False
            if not self._patience.lasts():
                raise ClusterError(
                    f"the server in {self.home} was not ready after {self._patience.seconds:g} "
                    f"s: a recovery may need more patience_s; its log ends:{self._log()}"
                )
        return True

    def _start(self) -> None:
        account = self._account
        account.require(self.home)
        binaries = within_reach(find_binaries(), self.home, account)
        with self._opened(files.RUNNING) as running, self._log_file(files.SERVER_LOG) as log:
            self._take(running, fcntl.LOCK_EX)
            server.sweep(self.home)
            if not self._cluster.exists():
                sync = self._settings.get("fsync") != "off"
                server.make_cluster(self.home, account, binaries, running=running, sync=sync)
            server.check_version(self._cluster, binaries)
            server.refuse_foreign_server(self._cluster)
            socket_dir = server.make_socket_dir(self.home, account)
            self._watch()
            server.start_server(
                self.home, socket_dir, account, binaries, self._settings, running=running, log=log
            )

    def _watch(self) -> None:
        """Start a watchdog if there is none."""
        with (
            self._opened(files.WATCHDOG) as alive,
            self._log_file(files.SERVER_LOG),
            self._log_file(files.WATCHDOG_LOG) as log,
        ):
            if not files.is_free(alive):
                return
            command = (sys.executable, "-I", "-S", files.__file__, self.home)
            user = (str(self._account.uid), str(self._account.gid))
            ended = run((*command, *user), output=log)
        if ended.code:
            told = last_lines((self.home / files.WATCHDOG_LOG).read_text())
            raise ClusterError(f"the watchdog of {self.home} did not start:{told}")

    def _log(self) -> str:
        log = self.home / files.SERVER_LOG
        return last_lines(log.read_text(errors="replace")) if log.exists() else " (there is none)"

    @contextmanager
    def _opened(self, name: str, flags: int = 0) -> Iterator[int]:
        file = files.open_file(self.home / name, flags)
        try:
            yield file
        finally:
            os.close(file)

    @contextmanager
    def _log_file(self, name: str) -> Iterator[int]:
        with self._opened(name, os.O_APPEND) as log:
            files.trim(log)
            yield log
