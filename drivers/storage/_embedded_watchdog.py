"""The process that stops an embedded PostgreSQL when its last application is gone.

It is started as a script, by `python -I -S`, and imports nothing but the standard library.
The locks in the data directory are `flock`s, which the operating system gives back whichever
way a process ends:

- `lock`: held by whoever makes, starts or stops the cluster, while doing so.
- `lease`: shared, by every application; alone, by whoever makes sure that there is none.
- `running`: held by the processes of initdb and of the server, which inherit it. That it is free
  proves that none is left, which a pid in a file cannot.
- `watchdog`: held by this process.

Their order is `lock`, then `lease`. The watchdog waits for the lease without the lock, so it
lets go of the lease again before it asks for the lock, and then looks once more.
"""

import os
import signal
import socket
import sys
import time
from contextlib import suppress
from pathlib import Path

if sys.platform != "win32":
    import fcntl

LOCK, LEASE, RUNNING, WATCHDOG = "lock", "lease", "running", "watchdog"
SERVER_LOG, WATCHDOG_LOG = "server.log", "watchdog.log"
CLUSTER = "cluster"

SOCKET_DIR = "socket_dir"
"""The file that tells where the socket is, for everyone who attaches."""

PORT = "5432"
"""Nothing listens on it; it is part of the socket's name."""

LOG_BYTES = 4 << 20
"""A longer log is cut to its last quarter, once a minute and at every attach."""

TRIM_S = 60
POLL_S = 0.01


def open_file(path: Path, flags: int = 0) -> int:
    """Open a file, or make it for whoever owns the folder, private to that user."""
    flags |= os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW
    try:
        made = os.open(path, flags | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return os.open(path, flags)
    if os.geteuid() == 0:
        owner = path.parent.stat()
        os.fchown(made, owner.st_uid, owner.st_gid)
    return made


def try_lock(file: int, kind: int) -> bool:
    """Take it now, `fcntl.LOCK_SH` or `fcntl.LOCK_EX`, or say that somebody is in the way."""
    try:
        fcntl.flock(file, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def is_free(file: int) -> bool:
    """Whether nobody holds it alone. Shared, so that two who ask do not mislead each other."""
    if not try_lock(file, fcntl.LOCK_SH):
        return False
    fcntl.flock(file, fcntl.LOCK_UN)
    return True


def trim(file: int) -> None:
    """Cut a log that has grown too long; its writers append, so they go on at the new end."""
    size = os.fstat(file).st_size
    if size > LOG_BYTES:
        end = os.pread(file, LOG_BYTES // 4, size - LOG_BYTES // 4)
        os.ftruncate(file, 0)
        os.write(file, end)


def address(socket_dir: Path, port: str = PORT) -> str:
    """The path of the server's socket."""
    return str(socket_dir / f".s.PGSQL.{port}")


def recorded_socket_dir(home: Path) -> Path:
    """The folder of the running server's socket."""
    return Path((home / SOCKET_DIR).read_text())


def listens(socket_dir: Path, port: str = PORT) -> bool:
    """Whether a server is behind the socket in this folder, in whatever state."""
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(address(socket_dir, port))
        except BlockingIOError:  # its backlog is full
            return True
        except OSError:
            return False
    return True


def serves(home: Path) -> bool:
    """Whether a server is behind the socket of this data directory."""
    try:
        return listens(recorded_socket_dir(home))
    except FileNotFoundError:
        return False


class Watchdog:
    """Watches over one data directory."""

    def __init__(self, home: Path) -> None:
        # The lowest number is closed first when this process is killed, so nobody who finds
        # the lock free still finds a watchdog.
        self._alive = open_file(home / WATCHDOG)
        self._lock = open_file(home / LOCK)
        self._lease = open_file(home / LEASE)
        self._running = open_file(home / RUNNING)
        self._log = open_file(home / SERVER_LOG, os.O_APPEND)
        self._home = home

    def begin(self) -> bool:
        """Take the watch; False if another watchdog has it."""
        return try_lock(self._alive, fcntl.LOCK_EX)

    def watch(self) -> None:
        """Wait until nobody holds a lease, stop the server, and end."""
        signal.signal(signal.SIGALRM, lambda *_: trim(self._log))
        signal.setitimer(signal.ITIMER_REAL, TRIM_S, TRIM_S)
        while not self._is_over():
            pass

    def _is_over(self) -> bool:
        fcntl.flock(self._lease, fcntl.LOCK_EX)
        fcntl.flock(self._lease, fcntl.LOCK_UN)
        fcntl.flock(self._lock, fcntl.LOCK_EX)
        if over := try_lock(self._lease, fcntl.LOCK_EX):
            self._stop()
            self._sweep()
            os.close(self._alive)
            os.close(self._lease)
        fcntl.flock(self._lock, fcntl.LOCK_UN)
        return over

    def _stop(self) -> None:
        """A fast shutdown: sessions are ended, nothing committed is lost.

        A postmaster that does not listen is starting, and will, or is dead, and its last
        children are leaving; its pid may be another's by now.
        """
        told = False
        while not is_free(self._running):
            if not told and serves(self._home):
                told = self._tell()
            time.sleep(POLL_S)

    def _tell(self) -> bool:
        try:
            if not os.path.samestat(os.fstat(self._running), (self._home / RUNNING).stat()):
                return False  # the folder was removed, and what is there now is not ours
            pid_file = self._home / CLUSTER / "postmaster.pid"
            pid = int(pid_file.read_text().split("\n", 1)[0])
            os.kill(pid, signal.SIGINT)
        except (OSError, ValueError):
            return False
        print(time.strftime("%F %T"), "no lease is left, stopping", pid, flush=True)
        return True

    def _sweep(self) -> None:
        """Remove the socket's folder if it lies outside, where nobody would remove it."""
        with suppress(OSError):
            if (folder := recorded_socket_dir(self._home)).parent != self._home:
                folder.rmdir()


def main(home: str, uid: str, gid: str) -> None:
    """Become a watchdog that nobody has to wait for, as the user of the server."""
    watchdog = Watchdog(Path(home))
    if not watchdog.begin() or os.fork():
        os._exit(0)
    if os.geteuid() == 0:
        os.setgroups([])
        os.setgid(int(gid))
        os.setuid(int(uid))
    watchdog.watch()


if __name__ == "__main__":
    main(*sys.argv[1:])
