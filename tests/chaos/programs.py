"""The programs that are killed.

The job uses the kernel in another way in each of its parts, and each part gives lines that are
the same in every run, whatever happened on the way.
"""

from typing import Any, Self

from chaos import wire
from chaos.devices import WITH_TOOLS

from aoskernel import Exit, Process, Program, program

Lines = list[str]


async def conversation(self: Process) -> Lines:
    await self.note("You are tested.", role="system")
    first = await self.think("hello")
    asked = await self.think(WITH_TOOLS, tools=["peek", "put", "book"])
    await self.parallel(*(self.attempt(one) for one in asked.tool_calls))
    last = await self.think("and now")
    await self.remember("we talked", tags=["job"])
    return [first.text, last.text]


async def devices(self: Process) -> Lines:
    return [
        await self.call("peek", item="1"),
        await self.call("put", item="2"),
        await self.call("book", item="3"),
        await self.call("reserve", item="4"),
        await self.call("order_item", item="5"),
        (await self.think("after the devices")).text,
    ]


async def ten(self: Process) -> Lines:
    def arm(number: int) -> Any:
        match number % 5:
            case 0:
                return self.call("peek", item=f"ten {number}")
            case 1:
                return self.call("put", item=f"ten {number}")
            case 2:
                return self.call("book", item=f"ten {number}")
            case 3:
                return self.call("order_item", item=f"ten {number}")
        return self.think(f"ten {number}")

    said = await self.parallel(*map(arm, range(10)))
    return [str(getattr(one, "text", one)) for one in said]


async def race(self: Process) -> Lines:
    won = await self.race(self.think("held: loses"), self.think("wins"))
    also = await self.race(self.sleep(60), self.call("put", item="race"))
    return [won.text, str(also)]


async def timeout(self: Process) -> Lines:
    in_time = await self.timeout(60, self.think("in time"))
    try:
        await self.timeout(0.1, self.think("held: late"))
    except TimeoutError as error:
        return [in_time.text, str(error)]
    return [in_time.text]


@program
async def child(self: Process, number: int, parent: int) -> str:
    """Thinks, writes three letters to its parent, and waits for one."""
    reply = await self.think(f"child {number}")
    await self.sleep(0.002)
    for page in range(3):
        await self.send(parent, [number, page])
    await self.remember(f"child {number}", tags=["job"])
    return f"{reply.text}, {await self.receive()}"


async def family(self: Process) -> Lines:
    children = [await self.spawn(child(number=n, parent=self.pid)) for n in range(2)]
    children.append(await self.spawn(child(number=2, parent=self.pid), key=f"{self.pid}'s third"))
    letters = [await self.receive() for _ in range(9)]
    for number, one in enumerate(children):
        await one.send(f"thanks {number}")
    pages = [[page for sender, page in letters if sender == n] for n in range(3)]
    return [str(pages), *[await one for one in children]]


async def chance(self: Process) -> Lines:
    """What chance gave goes into a prompt: given anew on resume, it would diverge."""
    drawn = await self.think(f"drawn: {await self.random()}")
    clock = await self.think(f"clock: {await self.now()}")
    return [drawn.text, clock.text]


async def memory(self: Process) -> Lines:
    await self.remember("the end", tags=["job"])
    return sorted(found.text for found in await self.recall(tags=["job"], limit=100))


PARTS = (conversation, devices, ten, race, timeout, family, chance, memory)


class Job(Program[Lines], name="job"):
    """Part after part, each a step."""

    part: int = 0
    told: tuple[str, ...] = ()

    async def step(self, process: Process) -> Self | Exit[Lines]:
        told = (*self.told, *await PARTS[self.part](process))
        done = self.part + 1
        return Exit(list(told)) if done == len(PARTS) else self.next(part=done, told=told)


@program
async def shop(self: Process) -> Lines:
    """Ten orders, and before them something that takes the only slot."""
    items = [self.call("order_item", item=str(n)) for n in range(10)]
    return await self.parallel(self.call("peek", item="first"), *items)


@program
async def buy(self: Process) -> str:
    """One order, of which nobody can tell afterwards whether it was made."""
    return str(await self.call("order_item", item="wine"))


class Agent(Program[int], name="agent"):
    """Three steps of three thoughts. In version 2 those of odd numbers think otherwise."""

    number: int
    done: int = 0

    async def step(self, process: Process) -> Self | Exit[int]:
        who = f"agent {self.number} step {self.done}"
        await process.think(f"{who} first")
        otherwise = wire.order.version == 2 and self.number % 2
        await process.think(f"{who} otherwise" if otherwise else f"{who} second")
        await process.think(f"{who} third")
        done = self.done + 1
        return Exit(self.number) if done == 3 else self.next(done=done)
