"""What a change was about to do, written down before it was done.

A call that is repeated after a crash finds by its key what the first one meant to do, and sees
by the files whether it was done. They lie in the workspace: whoever goes on, here or on another
machine, has them as well.
"""

import json
import os
from contextlib import suppress
from hashlib import blake2b
from typing import Any

from ._files_jail import REGULAR, Jail
from ._files_replace import NEW, OWN

KEPT = 4096
"""So many are kept. One is asked for only while its call is in doubt."""


def recall(jail: Jail, key: str) -> dict[str, Any] | None:
    """What the call with this key was about to do, if it came so far. Raises OSError."""
    if not key:
        return None
    with jail.own(OWN) as own:
        try:
            with open(os.open(_name(key), REGULAR, dir_fd=own), "rb") as file:
                intent: dict[str, Any] = json.load(file)
                return intent
        except (FileNotFoundError, ValueError):  # half of one was never acted upon
            return None


def record(jail: Jail, key: str, intent: dict[str, Any]) -> None:
    """Write down, on the disk when this returns, what comes next. Raises OSError."""
    if not key:
        return
    with jail.own(OWN) as own:
        _write(own, ".gitignore", "*\n")
        _forget(own)
        with suppress(FileNotFoundError):
            os.unlink(_name(key), dir_fd=own)
        _write(own, _name(key), json.dumps(intent))
        os.fsync(own)


def _write(own: int, name: str, text: str) -> None:
    with suppress(FileExistsError):
        with open(os.open(name, NEW, 0o600, dir_fd=own), "w") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())


def _forget(own: int) -> None:
    """The older half, when there are too many."""
    names = [name for name in os.listdir(own) if not name.startswith(".")]
    if len(names) < KEPT:
        return
    ages = sorted((os.stat(name, dir_fd=own).st_mtime_ns, name) for name in names)
    for _, name in ages[: KEPT // 2]:
        with suppress(FileNotFoundError):
            os.unlink(name, dir_fd=own)


def _name(key: str) -> str:
    return blake2b(key.encode(), digest_size=16).hexdigest()
