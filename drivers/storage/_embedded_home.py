"""The data directory of an embedded PostgreSQL: where it is if nobody says, and making it."""

import os
import sys
from pathlib import Path

from ._embedded_account import ClusterError

VARIABLE = "AOSKERNEL_DATA"
ELSEWHERE = (
    f"choose another data directory, as `folder` of [services.storage] or as {VARIABLE} in the "
    'environment, or keep nothing, with driver = "memory"'
)


def default_data_dir() -> Path:
    """The folder in `AOSKERNEL_DATA`, or where the system keeps a user's data.

    For root that is under /var/lib, for root has no home that the server's user may enter.
    """
    if own := os.environ.get(VARIABLE):
        return Path(own).expanduser().absolute()
    if os.geteuid() == 0:
        return Path("/var/lib/aoskernel")
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Application Support" / "aoskernel"
    return Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share") / "aoskernel"


def make_home(home: Path) -> None:
    """Make what is missing; what is there keeps its owner and its mode. Raises ClusterError.

    The server of a root is another user, who must be able to pass through.
    """
    try:
        for folder in (*reversed(home.parents), home):
            if not folder.exists():
                folder.mkdir(exist_ok=True)
                folder.chmod(0o711 if os.geteuid() == 0 else 0o700)
    except OSError as error:
        raise ClusterError(f"{home} cannot be made: {error}; {ELSEWHERE}") from error
    if not os.access(home, os.R_OK | os.W_OK | os.X_OK):
        raise ClusterError(
            f"user {os.geteuid()} may not write in {home}: change its owner or mode, or {ELSEWHERE}"
        )
