import anyio
from aoskernel import Kernel, assistant, spawn

async def main() -> None:
    async with Kernel.from_config("aosk.toml") as kernel:
        agent = await spawn(kernel, assistant(task="What does notes.txt say about Friday?"), priority=10)
        print(await agent)

anyio.run(main)
