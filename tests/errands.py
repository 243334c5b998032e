"""Programs that tests leave to a daemon, in an operating-system process of its own."""

import gc
import os
import time
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Self

import anyio

from aoskernel import Exit, Process, Program, Touches, program, tool


@program
async def brief(self: Process, topic: str) -> str:
    """Thinks once, notes its letter, and is done."""
    await self.note("Answer in one word.")
    reply = await self.think(f"When is {topic}?")
    return f"{topic}: {reply.text}"


@program
async def listen(self: Process) -> str:
    """Waits for a letter, and thinks about it."""
    letter = await self.receive()
    reply = await self.think(f"I was sent {letter}.")
    return f"{letter}, {reply.text}"


@program
async def choose(self: Process) -> str:
    """Asks a human."""
    return f"chosen: {await self.ask('Which one?', choices=['red', 'green'])}"


@program
async def look_up(self: Process, path: str) -> str:
    """Lets the model choose a tool, and calls it."""
    reply = await self.think(f"What does {path} say?", tools=["read_file"])
    for call in reply.tool_calls:
        await self.attempt(call)
    return (await self.think()).text


@program
async def stray(self: Process) -> str:
    """Looks at a clock that no log has."""
    await self.note("What time is it?")
    moment = time.time()
    await self.receive()
    return f"{moment:.0f}"


class Count(Program[int], name="count"):
    """Steps of a file's line each; the lines show who did which step."""

    to: int
    file: str
    pause_s: float = 0.05
    done: int = 0

    async def step(self, process: Process) -> Self | Exit[int]:
        if self.done == self.to:
            return Exit(self.done)
        await process.call("write_line", file=self.file, line=f"{process.pid} {self.done}")
        await process.sleep(self.pause_s)
        return self.next(done=self.done + 1)


@program
async def fail(self: Process) -> None:
    """Ends badly."""
    await self.call("write_line", file="/", line="never")


@program
async def order(self: Process, file: str) -> str:
    """Calls a tool that is cut by its kernel's end, and cannot tell what became of it."""
    return str(await self.call("order_item", file=file))


@program
async def order_twice(self: Process) -> list[str]:
    """Calls a tool twice at once, which never comes to an end."""
    return await self.parallel(self.call("hang"), self.call("hang"))


@program
async def family(self: Process, deep: int) -> None:
    """Has a child, which has one, and so on; the last one waits for a letter."""
    if deep:
        await self.wait(await self.spawn(family(deep=deep - 1)))
    await self.receive()


@program
async def wait_for_nothing(self: Process, file: str) -> None:
    """Is at work for ever, once the file is there."""
    await self.call("write_line", file=file, line="hangs")
    await self.call("hang")


@tool(effect="idempotent")
def write_line(file: str, line: str) -> None:
    """Append a line, and whose process wrote it."""
    with Path(file).open("a") as lines:
        lines.write(f"{line} {os.getpid()}\n")


@tool
def order_item(file: str) -> str:
    """Order an item; the first time, the kernel is lost while it is ordered."""
    seen = Path(file)
    if not seen.exists():
        seen.write_text("ordered")
        os.kill(os.getpid(), 9)
    return "ordered again"


@tool
async def pay(amount: Annotated[Decimal, Touches("spend", currency="EUR")]) -> str:
    """Pay somebody."""
    return f"paid {amount}"


@tool
async def hang() -> None:
    """Never comes to an end."""
    await anyio.sleep_forever()


@program
async def patience(self: Process) -> int:
    """New objects that come before this interpreter looks for circles."""
    return gc.get_threshold()[0]
