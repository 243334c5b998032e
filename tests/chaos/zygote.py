"""The parent of applications: it has been one itself, and forks one for each order.

An application that begins this way costs a tenth of one that imports everything, and half of one
that has never run: models are built and statements written when they are first used. Orders are
lines of JSON on standard input, the first for the parent's own life; each is answered with a pid.
"""

import gc
import json
import os
import signal
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import anyio
from chaos import app, mortal, wire
from chaos.world import World


def main() -> None:
    anyio.run(_rehearse, wire.Order(**json.loads(sys.stdin.readline())))
    mortal.counted = 0
    gc.collect()
    gc.freeze()  # what is shared with the children stays so
    print(os.getpid(), flush=True)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for them: they leave no zombies
    for line in sys.stdin:
        if (pid := os.fork()) == 0:
            _become(line)
        print(pid, flush=True)


async def _rehearse(order: wire.Order) -> None:
    """A whole life, in a world of its own."""
    with tempfile.TemporaryDirectory(prefix="aosk-world-", dir="/tmp") as folder:
        async with World(Path(folder) / "world").open() as world:
            wire.order = replace(order, world=str(world.path))
            await app.main()


def _become(line: str) -> None:
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    os.dup2(2, 1)  # standard output is for pids
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    app.live(wire.Order(**json.loads(line)))
    os._exit(0)


if __name__ == "__main__":
    main()
