"""An application in a process of its own: it buys something, and is killed or frozen on the way.

`python shop_app.py FOLDER NAMESPACE WORLD`: WORLD is a folder, the world outside: each file in it
is an order; while there is a file `shut` in it the shop keeps whoever calls waiting.
"""

import sys
from pathlib import Path

import anyio

from aoskernel import Kernel, Process, program, spawn, tool
from aoskernel.subsystems.tools.messages import Reconciled, done, not_done
from aoskernel.subsystems.tools.tool import IdempotencyKey


def kernel(folder: str, namespace: str, world: Path) -> Kernel:
    def look_up(key: str) -> Reconciled:
        order = world / f"order {key.replace('/', ' ')}"
        return done("by the books") if order.exists() else not_done

    @tool(effect="once", reconcile=look_up)
    async def buy(what: str, key: IdempotencyKey) -> str:
        (world / "reached").touch()
        while (world / "shut").exists():
            await anyio.sleep(0.01)
        with (world / f"order {key.replace('/', ' ')}").open("a") as order:
            order.write(f"{what}\n")
        return f"bought {what}"

    storage = {
        "driver": "embedded",
        "folder": folder,
        "namespace": namespace,
        "settings": {"fsync": "off"},
        "lease_s": 1.0,
    }
    services = {
        "storage": storage,
        "memory": {"use": "memory_by_words"},
        "policy": {"allow": ("tools.call:*",)},
        "llm.default": {"driver": "scripted", "script": ["nothing"]},
        "processes": {"adopt_every_s": 0.2},
        "tools.shop": {
            "driver": "aoskernel.drivers.tools.python:PythonTools",
            "functions": [buy],
        },
    }
    return Kernel.from_config(services=services)


@program(name="errand")
async def errand(self: Process) -> str:
    return str(await self.call("buy", what="tea"))


async def main(folder: str, namespace: str, world: str) -> None:
    async with kernel(folder, namespace, Path(world)) as running:
        print(await (await spawn(running, errand(), key="errand")), flush=True)


if __name__ == "__main__":
    anyio.run(main, sys.argv[1], sys.argv[2], sys.argv[3])
