"""Renders what `aosk top` shows of a kernel at work: docs/how-to/top.svg.

Run it as `python docs/top.py`. The kernel, its processes and what is counted are real; the
model is scripted, slow on purpose, and its price is made up.
"""

import os
import tempfile
from io import StringIO
from pathlib import Path

import anyio
from rich.console import Console

from aoskernel import Kernel, Process, program, spawn
from aoskernel.drivers.llm.scripted import Scripted
from aoskernel.plugins.cli import desk
from aoskernel.plugins.cli.top import picture
from aoskernel.plugins.cli.top_view import render
from aoskernel.subsystems.llm.driver import ModelCard
from aoskernel.subsystems.llm.messages import Price

HERE = Path(__file__).resolve().parent
TITLE = "aosk top"


class Priced(Scripted):
    """What the script says costs something."""

    def card(self) -> ModelCard:
        price = Price(currency="USD", prompt=3, completion=15, source="made up")
        return super().card().model_copy(update={"price": price})


@program
async def researcher(self: Process, topic: str) -> str:
    """Thinks, again and again."""
    for question in ("What is it?", "Who says so?", "What follows?"):
        await self.think(f"{question} {topic}", max_tokens=200)
    return topic


@program
async def clerk(self: Process) -> str:
    """Waits for a letter."""
    return str(await self.receive())


@program
async def reviewer(self: Process, draft: str) -> str:
    """Asks a human."""
    return await self.ask(f"Send {draft!r}?", choices=["yes", "no"])


def config() -> dict[str, object]:
    settings = {"fsync": "off"}
    scripted = {"driver": f"{__name__}:Priced", "script": ["A short answer, as an example."] * 90}
    return {
        "storage": {
            "driver": "embedded",
            "folder": ".aosk",
            "namespace": "example",
            "settings": settings,
        },
        "llm.default": {**scripted, "name": "small", "slots": 4, "token_s": 0.2},
        "memory": {"use": "memory_by_words"},
        "console": {"every_s": 0.2},  # as often as a script needs it
        "processes": {"park_after_s": 0.3},
    }


async def main() -> None:
    with tempfile.TemporaryDirectory() as home:
        Path(home).chmod(0o711)  # a server started by root is another user
        os.chdir(home)
        services = config()
        async with Kernel.from_config(services=services) as kernel:
            for topic in ("rain", "tides", "salt", "wind", "bees", "dust"):
                await spawn(kernel, researcher(topic=topic), tenant="north")
            await spawn(kernel, researcher(topic="fog"), process_class="interactive", priority=10)
            await spawn(kernel, researcher(topic="ice"), process_class="batch")
            for _ in range(3):
                await spawn(kernel, clerk(), tenant="south")
            await spawn(kernel, reviewer(draft="the report"))
            await anyio.sleep(3)
            await show(services)


async def show(services: dict[str, object]) -> None:
    """Look as the command looks, from outside of the kernel."""
    loaded = desk.Config.load(services=services)
    async with desk.looking(loaded) as look, desk.opened(loaded) as outside:
        shown = await picture(look, outside)
    console = Console(record=True, width=124, force_terminal=True, file=StringIO())
    console.print(render(shown, height=None))
    print(console.export_text(clear=False))
    svg = console.export_svg(title=TITLE)
    (HERE / "how-to" / "top.svg").write_text(svg, "utf-8")


if __name__ == "__main__":
    anyio.run(main)
