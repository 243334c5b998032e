"""A storage driver that kills its own process at a given commit."""

import asyncio
import os
import signal
from dataclasses import dataclass
from typing import Literal

from aoskernel.drivers.storage.embedded import Embedded
from aoskernel.subsystems.storage.driver import Commit

Instant = Literal["never", "unwritten", "written", "acknowledged"]
"""Of a commit: before the database has it, before anybody knows, or right after somebody does."""

counted = 0
"""The commits of this process so far."""


@dataclass(kw_only=True)
class Mortal(Embedded):
    """The default storage, dying at the commit of this number, counted from 1."""

    dies_at: int = 0
    dies: Instant = "never"

    async def commit(self, commit: Commit) -> None:
        global counted
        counted += 1
        fate = self.dies if counted == self.dies_at else "never"
        if fate == "unwritten":
            die()
        await super().commit(commit)
        if fate == "written":
            die()
        if fate == "acknowledged":
            asyncio.get_running_loop().call_soon(die)


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)
