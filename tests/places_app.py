"""An application whose model is called within places that kernels share.

Run as `python places_app.py FOLDER NAMESPACE PORT`: a call is a connection to that port, so that
whoever listens there sees how many are under way, also when the application is killed.
The call is over when that answers.
"""

import sys
from typing import Any

import anyio
from limited import ask
from system import scripted_kernel

from aoskernel import Kernel

PLACES, CALLERS, LEASE_S = 3, 6, 2.0


def kernel(folder: str, namespace: str, port: int, name: bytes) -> Kernel:
    storage = {
        "driver": "embedded",
        "folder": folder,
        "namespace": namespace,
        "settings": {"fsync": "off"},
        "lease_s": LEASE_S,
    }
    limits = [{"of": "llm.*", "concurrency": PLACES, "shared": True}]

    async def call(_: Any) -> str:
        async with await anyio.connect_tcp("127.0.0.1", port) as line:
            await line.send(name)
            await anyio.sleep(0.03)
            await line.send(b".")
            await line.receive()
        return "ok"

    slots = {"slots": 2 * CALLERS}
    return scripted_kernel(
        call, storage=storage, limiter={"limits": limits}, **{"llm.default": slots}
    )


async def demand(kernel: Kernel, over: anyio.Event) -> None:
    """Calls, one after the other, until it is over."""

    async def caller() -> None:
        while not over.is_set():
            await ask(kernel, "go")

    async with anyio.create_task_group() as tasks:
        for _ in range(CALLERS):
            tasks.start_soon(caller)


async def main(folder: str, namespace: str, port: str) -> None:
    async with kernel(folder, namespace, int(port), b"a") as ours:
        await demand(ours, anyio.Event())


if __name__ == "__main__":
    _, folder, namespace, port = sys.argv
    anyio.run(main, folder, namespace, port)
