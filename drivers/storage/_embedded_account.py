"""Whom the embedded PostgreSQL runs as: it refuses root, and accounts are not ours to make."""

import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from anyio import from_thread

from ...subsystems.storage.driver import StorageError

if sys.platform != "win32":
    import pwd

TICK_S = 0.1
"""How long a cancelled caller may have to wait for a command to be killed."""


class ClusterError(StorageError):
    """The embedded PostgreSQL cannot be had; says why, and what to do."""


@dataclass(frozen=True)
class Account:
    """A user and a group of the operating system, by number."""

    uid: int
    gid: int

    @classmethod
    def for_server(cls, home: Path, cluster: Path) -> Self:
        """Whoever runs this; for root the owner of the data, or `nobody`. Raises ClusterError."""
        if os.geteuid() != 0:
            return cls._ourselves(cluster)
        if cluster.exists() and cluster.stat().st_uid == 0:
            raise ClusterError(
                f"{cluster} belongs to root, and PostgreSQL refuses to run as root: give it to "
                f"another user (chown -R USER {cluster})"
            )
        owner = (cluster if cluster.exists() else home).stat().st_uid
        return cls._numbered(owner) if owner else cls._nobody()

    @classmethod
    def _ourselves(cls, cluster: Path) -> Self:
        if cluster.exists() and cluster.stat().st_uid != os.geteuid():
            raise ClusterError(
                f"{cluster} belongs to user {cluster.stat().st_uid} and this is user "
                f"{os.geteuid()}: run as its owner, or choose another data directory"
            )
        return cls._numbered(os.geteuid())

    @classmethod
    def _numbered(cls, uid: int) -> Self:
        try:
            return cls(uid, pwd.getpwuid(uid).pw_gid)
        except KeyError:
            raise ClusterError(
                f"PostgreSQL would run as user {uid}, who has no account on this machine, and "
                f"it insists on one: add it to /etc/passwd, or run as another user"
            ) from None

    @classmethod
    def _nobody(cls) -> Self:
        try:
            nobody = pwd.getpwnam("nobody")
        except KeyError:
            raise ClusterError(
                "PostgreSQL refuses to run as root, and there is no account 'nobody': run as "
                "another user, or give the data directory to one"
            ) from None
        return cls(nobody.pw_uid, nobody.pw_gid)

    @property
    def is_ours(self) -> bool:
        return self.uid == os.geteuid()

    def give(self, path: Path) -> None:
        """Make this account the owner of what we have just created."""
        if not self.is_ours:
            os.chown(path, self.uid, self.gid, follow_symlinks=False)

    def run(
        self,
        command: Sequence[str | Path],
        *,
        output: int = subprocess.PIPE,
        keep: int | None = None,
    ) -> "Ended":
        """Run it as this account, in a session of its own; kill it when the caller is cancelled."""
        switch: dict[str, Any] = {}
        if not self.is_ours:
            switch = {"user": self.uid, "group": self.gid, "extra_groups": []}
        return _run(command, output, () if keep is None else (keep,), switch)

    def enters(self, folder: Path) -> bool:
        """Whether the way to this folder is open. Raises ClusterError."""
        try:
            return self.is_ours or self._enters(folder)
        except PermissionError:
            raise ClusterError(
                f"PostgreSQL refuses to run as root, and this root may not become user "
                f"{self.uid}: run as an ordinary user, or with the capabilities SETUID and SETGID"
            ) from None

    def require(self, folder: Path) -> None:
        """Raise ClusterError with the first folder on the way that shuts this account out."""
        if self.enters(folder):
            return
        wall = next(one for one in (*reversed(folder.parents), folder) if not self._enters(one))
        name = pwd.getpwuid(self.uid).pw_name
        raise ClusterError(
            f"{wall} does not let the user {name!r} through to {folder}, and PostgreSQL, which "
            f"refuses root, would run as {name!r}: `chmod o+x {wall}` if others may pass, or "
            f"choose another place, or do not run as root"
        )

    def _enters(self, folder: Path) -> bool:
        return self.run(("/bin/sh", "-c", 'cd "$1"', "sh", folder)).code == 0


@dataclass(frozen=True)
class Ended:
    """A command that has ended: its exit code and what it said."""

    code: int
    said: str


def run(command: Sequence[str | Path], *, output: int) -> Ended:
    """Run it as whoever we are, in a session of its own."""
    return _run(command, output, (), {})


def last_lines(text: str) -> str:
    """The end of a log or of an output, for the end of a message."""
    return "".join(f"\n  {line}" for line in text.strip().splitlines()[-12:])


def _run(
    command: Sequence[str | Path], output: int, keep: Sequence[int], switch: dict[str, Any]
) -> Ended:
    process = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=subprocess.STDOUT,
        pass_fds=keep,
        start_new_session=True,
        cwd="/",
        env=_environment(),
        **switch,
    )
    with process:
        try:
            said = _wait(process)
        except BaseException:
            process.kill()
            raise
    return Ended(process.returncode, said)


def _wait(process: subprocess.Popen[bytes]) -> str:
    while True:
        try:
            return (process.communicate(timeout=TICK_S)[0] or b"").decode(errors="replace")
        except subprocess.TimeoutExpired:
            from_thread.check_cancelled()


def _environment() -> dict[str, str]:
    """No secret of the application, and no PG* variable that would change what is run."""
    kept = ("PATH", "TZ", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH")
    return {"LC_ALL": "C"} | {name: os.environ[name] for name in kept if name in os.environ}
