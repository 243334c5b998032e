"""The parent of applications: it has imported what they need, and forks one for each order.

An application that begins this way costs a tenth of one that imports everything. Orders are
lines of JSON on standard input; each is answered with the child's pid.
"""

import json
import os
import signal
import sys

from chaos import app, wire


def main() -> None:
    app.kernel()  # made and thrown away: it has imported the services
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for them: they leave no zombies
    for line in sys.stdin:
        if (pid := os.fork()) == 0:
            _become(line)
        print(pid, flush=True)


def _become(line: str) -> None:
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    os.dup2(2, 1)  # standard output is for pids
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    app.live(wire.Order(**json.loads(line)))
    os._exit(0)


if __name__ == "__main__":
    main()
