"""Kernels of this machine: which of those that have fallen silent are dead, and not just slow.

From a distance both look alike. Here the system knows: a process that is gone does nothing
any more, so what it was about to do may be done again.
"""

import os
from pathlib import Path

PROC = Path("/proc")


def myself() -> tuple[str, str]:
    """This machine since its start, and this process in it; empty where that cannot be told."""
    try:
        boot = (PROC / "sys/kernel/random/boot_id").read_text("ascii").strip()
        space = os.readlink(PROC / "self/ns/pid")
    except OSError:
        return "", ""
    return f"{boot} {space}", _named(os.getpid()) or ""


def is_dead(process: str) -> bool:
    """Is that process of this machine gone? A number that is used again is another process."""
    number = process.partition(" ")[0]
    return number.isdecimal() and _named(int(number)) != process


def _named(pid: int) -> str | None:
    """Its number and when it began; None where there is none, or only its remains."""
    try:
        told = (PROC / str(pid) / "stat").read_text("utf-8", "replace")
    except OSError:
        return None
    state, *rest = told.rpartition(")")[2].split()
    return None if state in "ZX" else f"{pid} {rest[STARTED]}"


STARTED = 18
"""Behind the state stand 18 other figures."""
