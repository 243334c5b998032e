"""The server of an embedded PostgreSQL: making its cluster, starting it, asking how it is."""

import os
import secrets
import shlex
import shutil
import socket
import stat
import struct
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

from . import _embedded_watchdog as files
from ._embedded_account import Account, ClusterError, last_lines
from ._embedded_binaries import VARIABLE, Binaries

USER = DATABASE = "postgres"
PASSWORD = "aoskernel_password"
"""The file in the cluster that holds the password, so that both appear at once."""

ADDRESS_BYTES = 100
"""A unix socket's path may have 107 bytes on Linux, 103 on macOS."""

CANNOT_CONNECT_NOW = b"C57P03\0"

DEFAULTS = {
    "shared_buffers": "128MB",
    "max_connections": "100",
    "hot_standby": "off",  # a server that is ready can be written to
    "log_checkpoints": "off",
    "log_min_messages": "log",  # what a statement did wrong, its client is told
}
HAS_SYNCFS = sys.platform == "linux"
"""Syncing a file system at once takes 20 ms where syncing a thousand files takes seconds."""


def is_ready(home: Path) -> bool:
    """Whether the server takes connections, by what it wrote down and by one that is tried.

    Only a server that says so is tried: each refusal would be a line in its log.
    """
    return _status(home / files.CLUSTER) == "ready" and _answers(files.recorded_socket_dir(home))


def sweep(home: Path) -> None:
    """Remove what is left of first starts that were killed."""
    for leftover in home.glob(".init-*"):
        shutil.rmtree(leftover)


def make_cluster(
    home: Path, account: Account, binaries: Binaries, *, running: int, sync: bool
) -> None:
    """Make the cluster beside its place and move it there when it is whole.

    initdb inherits the lock `running`, for it may outlive us.
    """
    draft = Path(tempfile.mkdtemp(prefix=".init-", dir=home))
    try:
        _init(draft, account, binaries, running=running, sync=sync)
        (draft / PASSWORD).rename(draft / files.CLUSTER / PASSWORD)
        _sync(draft / files.CLUSTER)
        (draft / files.CLUSTER).rename(home / files.CLUSTER)
        _sync(home)
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def check_version(cluster: Path, binaries: Binaries) -> None:
    """Raise ClusterError if these programs cannot read this cluster."""
    found = (cluster / "PG_VERSION").read_text().strip()
    if found == str(binaries.major):
        return
    raise ClusterError(
        f"{cluster} was made by PostgreSQL {found}, and the programs in {binaries.folder} are "
        f"PostgreSQL {binaries.major}: set {VARIABLE} to those of {found}, or move the data with "
        f"pg_dump or pg_upgrade"
    )


def make_socket_dir(home: Path, account: Account) -> Path:
    """A folder that is the server's alone, inside `home` or where paths are short; recorded."""
    inside = home / "socket"
    if len(os.fsencode(files.address(inside))) > ADDRESS_BYTES:
        folder = _short_dir(home, account)
    else:
        folder = inside
        if not os.path.lexists(inside):
            inside.mkdir(mode=0o700)
            account.give(inside)
        _refuse_foreign(inside, account)
    _empty(folder)
    _record(home / files.SOCKET_DIR, str(folder))
    return folder


def refuse_foreign_server(cluster: Path) -> None:
    """Raise ClusterError if somebody started a server here by other means.

    Called when none of ours is left, so that what else `postmaster.pid` says is stale, though
    its pid may live again as another process, for which PostgreSQL would refuse to start.
    """
    lines = _pid_file(cluster)
    if lines[4:5] > [""] and files.listens(Path(lines[4]), lines[3]):
        raise ClusterError(
            f"a server that was not started by this library, process {lines[0]}, runs in "
            f"{cluster}: stop it (pg_ctl stop -D {shlex.quote(str(cluster))})"
        )
    (cluster / "postmaster.pid").unlink(missing_ok=True)


def start_server(
    home: Path,
    socket_dir: Path,
    account: Account,
    binaries: Binaries,
    settings: Mapping[str, str],
    *,
    running: int,
    log: int,
) -> None:
    """Start a server that nobody has to wait for; its processes inherit the lock `running`."""
    postgres = binaries.folder / "postgres"
    command: list[str | Path] = ["/bin/sh", "-c", '"$@" &', "sh", postgres]
    command += ["-D", home / files.CLUSTER]
    quoted = str(socket_dir).replace('"', '""')
    ours = {"unix_socket_directories": f'"{quoted}"', "port": files.PORT}
    defaults = DEFAULTS | ({"recovery_init_sync_method": "syncfs"} if HAS_SYNCFS else {})
    for name, value in {**defaults, "listen_addresses": "", **settings, **ours}.items():
        command += ["-c", f"{name}={value}"]
    account.run(command, output=log, keep=running)


def _pid_file(cluster: Path) -> list[str]:
    """Its lines: pid, folder, start, port, socket folder, address, shared memory, status."""
    try:
        return (cluster / "postmaster.pid").read_text().splitlines()
    except FileNotFoundError:
        return []


def _status(cluster: Path) -> str:
    return "".join(_pid_file(cluster)[7:8]).strip()


def _answers(socket_dir: Path) -> bool:
    """Begin a session and leave, as pg_isready does."""
    names = b"user\0postgres\0database\0postgres\0\0"
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(2)
        try:
            client.connect(files.address(socket_dir))
            client.sendall(struct.pack("!ii", 8 + len(names), 3 << 16) + names)
            said = client.recv(1024)
        except OSError:
            return False
    return bool(said) and CANNOT_CONNECT_NOW not in said


def _init(draft: Path, account: Account, binaries: Binaries, *, running: int, sync: bool) -> None:
    """Run initdb. Raises ClusterError."""
    password = draft / PASSWORD
    with open(password, "x", opener=_private) as file:
        file.write(secrets.token_urlsafe(32))
        file.flush()
        os.fsync(file.fileno())
    account.give(password)
    account.give(draft)
    command: list[str | Path] = [binaries.folder / "initdb", "--pgdata", draft / files.CLUSTER]
    command += [f"--username={USER}", "--auth=scram-sha-256", "--pwfile", password]
    command += ["--encoding=UTF8", "--locale=C", "--data-checksums", "--no-instructions"]
    if binaries.major >= 17:
        command += ["--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
        command += ["--sync-method=syncfs"] if HAS_SYNCFS else []
    done = account.run(command if sync else [*command, "--no-sync"], keep=running)
    if done.code:
        raise ClusterError(
            f"initdb could not make a cluster in {draft.parent}, where it needs some 60 MB; "
            f"it said:{last_lines(done.said)}"
        )


def _private(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NOFOLLOW, 0o600)


def _short_dir(home: Path, account: Account) -> Path:
    """The recorded folder, if nobody has put another in its place, or a new one."""
    if (home / files.SOCKET_DIR).exists():
        recorded = files.recorded_socket_dir(home)
        if recorded != home / "socket" and _is_private(recorded, account):
            return recorded
    folder = Path(tempfile.mkdtemp(prefix="aosk-", dir=_short_base(account)))
    account.give(folder)
    return folder


def _short_base(account: Account) -> Path:
    own = Path(os.environ.get("XDG_RUNTIME_DIR") or "/nowhere")
    fits = len(os.fsencode(files.address(own / "aosk-12345678"))) <= ADDRESS_BYTES
    if account.is_ours and fits and own.is_dir() and own.stat().st_uid == account.uid:
        return own
    return Path("/tmp")


def _empty(folder: Path) -> None:
    """Remove a dead server's socket and its lock file, whose pid may be another's by now."""
    for file in folder.iterdir():
        file.unlink(missing_ok=True)


def _refuse_foreign(folder: Path, account: Account) -> None:
    if not _is_private(folder, account):
        raise ClusterError(
            f"{folder} is to hold the server's socket and must be a folder of user "
            f"{account.uid}'s with mode 0700: remove it"
        )


def _is_private(folder: Path, account: Account) -> bool:
    try:
        found = folder.lstat()
    except OSError:
        return False
    return (
        stat.S_ISDIR(found.st_mode)
        and found.st_uid == account.uid
        and stat.S_IMODE(found.st_mode) == 0o700
    )


def _record(file: Path, text: str) -> None:
    draft = file.with_name(f".{file.name}")
    draft.unlink(missing_ok=True)
    with open(files.open_file(draft), "w") as opened:
        opened.write(text)
    draft.chmod(0o644)  # the watchdog, which is the server's user, reads it
    draft.replace(file)


def _sync(folder: Path) -> None:
    opened = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)
