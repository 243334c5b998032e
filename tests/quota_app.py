"""An application whose process thinks under a quota, with a model that never answers it.

Run as `python quota_app.py FOLDER NAMESPACE REACHED`: the file is made when the model is asked.
"""

import sys
from pathlib import Path
from typing import Any

import anyio
from system import scripted_kernel

from aoskernel import Kernel, Process, program, spawn
from aoskernel.subsystems.llm.messages import Complete
from aoskernel.subsystems.processes.program import ProcessRef
from aoskernel.subsystems.quota.messages import Quota

WORDS, MAX_TOKENS = "one two three four", 500


@program
async def thinker(self: Process) -> str:
    return (await self.think(WORDS, max_tokens=MAX_TOKENS)).text


def kernel(folder: str, namespace: str, script: Any) -> Kernel:
    storage = {
        "driver": "embedded",
        "folder": folder,
        "namespace": namespace,
        "settings": {"fsync": "off"},
        "lease_s": 2.0,
    }
    tenants = {"acme": {"tokens": 10_000}}
    processes = {"adopt_every_s": 0.2}
    return scripted_kernel(script, storage=storage, quota={"tenants": tenants}, processes=processes)


async def begin(kernel: Kernel) -> ProcessRef[str]:
    """The same process for whoever calls."""
    return await spawn(kernel, thinker(), key="thinker", tenant="acme", quota=Quota(tokens=2000))


async def main(folder: str, namespace: str, reached: str) -> None:
    async def never(ask: Complete) -> str:
        Path(reached).touch()
        await anyio.sleep_forever()
        return ""

    async with kernel(folder, namespace, never) as ours:
        await (await begin(ours))


if __name__ == "__main__":
    _, folder, namespace, reached = sys.argv
    anyio.run(main, folder, namespace, reached)
