"""Your own program: an async function whose every word to the world is in one log.

It reads a file through a tool, has a model summarise it, and remembers the summary; a second
program finds it again by its tag; what former runs remembered is there too, so it asks for the
newest. The model is scripted, so this runs offline.
"""

from pathlib import Path

import anyio

from aoskernel import Kernel, Process, program, spawn

MODEL = {
    "driver": "scripted",
    "rules": [{"when": "Friday: ([^,]+)", "say": "On Friday {1}."}],
}
FILES = {"root": Path(__file__).parent / "hello"}


@program
async def brief(self: Process, topic: str) -> str:
    notes = await self.call("read_file", path=f"{topic}.txt")
    reply = await self.think(f"Summarise in one sentence:\n{notes}")
    await self.remember(reply.text, tags=[topic])
    return reply.text


@program
async def look_up(self: Process, topic: str) -> list[str]:
    return [memory.text for memory in await self.recall(tags=[topic], limit=1)]


async def main() -> None:
    services = {"llm.default": MODEL, "tools.files": FILES}
    async with Kernel.from_config(services=services) as kernel:
        summary = await (await spawn(kernel, brief(topic="notes")))
        print("brief said: ", summary)

        remembered = await (await spawn(kernel, look_up(topic="notes")))
        print("remembered: ", *remembered)


if __name__ == "__main__":
    anyio.run(main)
