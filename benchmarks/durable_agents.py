"""Agents whose log is on disk: one beside the floor of its own commits, and fifty at once.

A turn is model, tool, model, answer, in a conversation that goes on. The floor of one agent is
as many plain commits of a row as its turn puts into the log; of fifty, three such commits for
each turn, by fifty tasks that share ten connections.
"""

import asyncio
import gc
import time
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from aoskernel import Kernel, Process, program, spawn
from aoskernel.plugins.cli.daemon import ALLOCATED

from .case import Effort, Figures, Goal, case
from .composition import default_kernel, script
from .durable import BLOCK, Beside, Counting, appending, database, quantile, transactions
from .turn import TASK

AGENTS, POOL, COMMITS = 50, 10, 3
TURNS, BLOCKS = 10, 7
CONVERSATIONS = 20
"""Of each agent in a block; blocks of either side."""


def kernel_on(folder: str, *guards: Any) -> Kernel:
    return default_kernel(
        *guards,
        routes={"storage.commit": [guard.address for guard in guards]},
        **{
            "storage": {"driver": "embedded", "folder": folder},
            "llm.default": {"driver": "scripted", "script": script, "slots": AGENTS},
        },
    )


async def _turn(self: Process) -> None:
    reply = await self.think(TASK, tools=None)
    while reply.tool_calls:
        for call in reply.tool_calls:
            await self.call(call)
        reply = await self.think(tools=None)
    assert reply.text == "the sum is 3"


@program
async def conversing(self: Process, turns: int) -> None:
    """Takes so many turns."""
    for _ in range(turns):
        await _turn(self)


Figured = Callable[[Process], Awaitable[Figures]]
MEASURING: list[Figured] = []
"""What a program measures; a program's own parameters are data."""


@program
async def measuring(self: Process) -> Figures:
    """Takes turns, and measures them."""
    return await MEASURING[-1](self)


@case("durable_agents", "one agent", goals=[Goal("turn_x", value=1.25)])
async def one_agent(effort: Effort) -> Figures:
    counting = Counting()
    async with database() as at, kernel_on(at.folder, counting) as kernel:
        connection = await at.connect()
        append = await appending(connection)

        async def count(self: Process) -> Figures:
            await _turn(self)
            counting.count, before = 0, await transactions(connection)
            await _turn(self)
            made = await transactions(connection) - before
            return {"commits": counting.count, "statements": made}

        counted = await _measured(kernel, count)
        commits = int(counted["commits"])

        async def floor(step: int) -> None:
            for _ in range(commits):
                await append(step)

        both = Beside(connection, "floor", "ours")

        async def beside(self: Process) -> Figures:
            await both.run(range(BLOCK), floor=floor, ours=lambda step: _turn(self))
            return {}

        for _ in range(2 if effort.seconds == 0 else CONVERSATIONS):
            await _measured(kernel, beside)
        times = both.ms("ours") / both.ms("floor")
        return counted | {
            "turn_ms": both.ms("ours"),
            "floor_ms": both.ms("floor"),
            "turn_p99_ms": quantile(both.seconds["ours"], 0.99) * 1e3,
            "turn_x": times,
            "statements_x": times * commits / counted["statements"],
            "turn_wal_bytes": both.bytes("ours"),
        }


async def _measured(kernel: Kernel, figured: Figured) -> Figures:
    MEASURING.append(figured)
    return await (await spawn(kernel, measuring()))


@case("durable_agents", "fifty agents", goals=[Goal("turn_x", value=0.5)])
async def fifty_agents(effort: Effort) -> Figures:
    turns, blocks = (1, 1) if effort.seconds == 0 else (TURNS, BLOCKS)
    counting = Counting()
    async with database() as at, kernel_on(at.folder, counting) as kernel:
        connection, pool = await at.connect(), await at.pool(POOL)
        await _with_rows(connection)
        place = iter(range(10_000_000))

        async def floor() -> None:
            for _ in range(COMMITS):
                await pool.fetch("insert into rows values ($1, $2)", next(place), b"x" * 100)

        async def talk() -> None:
            await (await spawn(kernel, conversing(turns=turns)))

        async def raw() -> None:
            for _ in range(turns):
                await floor()

        await at_once(raw)
        await at_once(talk)
        seconds: dict[str, list[float]] = {"floor": [], "ours": []}
        counting.count, statements = 0, 0
        for _ in range(blocks):
            seconds["floor"].append(await at_once(raw))
            before = await transactions(connection)
            seconds["ours"].append(await at_once(talk))
            statements += await transactions(connection) - before
        await pool.close()
        per_s = {name: AGENTS * turns * blocks / sum(took) for name, took in seconds.items()}
        return {
            "turns_per_s": per_s["ours"],
            "floor_turns_per_s": per_s["floor"],
            "turn_x": per_s["floor"] / per_s["ours"],
            "commits_per_turn": counting.count / (AGENTS * turns * blocks),
            "commits_per_statement": counting.count / statements,
        }


@case("durable_agents", "fifty in a daemon", goals=[Goal("turn_x", value=0.5)])
async def fifty_in_a_daemon(effort: Effort) -> Figures:
    """Garbage is looked for as rarely as in `aosk up`."""
    gc.set_threshold(ALLOCATED)
    return await fifty_agents(effort)


async def _with_rows(connection: Any) -> None:
    await connection.execute("create table rows (seq bigint primary key, body bytea)")


async def at_once(talk: Callable[[], Coroutine[Any, Any, None]]) -> float:
    """Seconds for a talk of each of fifty."""
    began = time.perf_counter()
    async with asyncio.TaskGroup() as agents:
        for _ in range(AGENTS):
            agents.create_task(talk())
    return time.perf_counter() - began
