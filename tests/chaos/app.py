"""The application that is killed: its main spawns its program by key, or meets it again."""

import os
import socket
import traceback
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, Literal

import anyio
from chaos import mortal, wire
from chaos.devices import TOOLS, model
from chaos.programs import Agent, Job, buy, shop

from aoskernel import Kernel, spawn
from aoskernel.subsystems.processes.messages import (
    Answer,
    DoubtfulCall,
    Kill,
    ListDoubts,
    ListProcesses,
    ListQuestions,
    NoSuchQuestion,
    NotInDoubt,
    Resolve,
)
from aoskernel.subsystems.scheduler.messages import Waiting

AGENTS = 100
OVER = {"exited", "failed", "killed", "stopped"}


async def job(kernel: Kernel) -> Any:
    """One job, which stops where it cannot know what it has done, and is told."""
    agent = await spawn(kernel, Job(), key="job")
    async with anyio.create_task_group() as tasks:
        if wire.order.tells_the_truth:
            tasks.start_soon(_settle, kernel)
        result = await agent
        tasks.cancel_scope.cancel()
        return result


async def _settle(kernel: Kernel) -> None:
    """Be the human who asks the world, and says of a call in doubt how it came out."""
    while True:
        for status in await kernel.request(ListProcesses()):
            record = status.record
            assert record.state != "stopped" or record.error_kind == "OutcomeUnknown", record.error
        for call in await kernel.request(ListDoubts()):
            await _tell_the_truth(kernel, call)
        await anyio.sleep(0.02)


async def _tell_the_truth(kernel: Kernel, call: DoubtfulCall) -> None:
    truth = await wire.ask(kind="truth", key=f"{call.pid}/{call.key}")
    outcome: Literal["again", "done"] = "again" if truth is None else "done"
    said = Resolve(pid=call.pid, outcome=outcome, result=truth, keys=(call.key,))
    with suppress(NotInDoubt):  # another application has said so since
        await kernel.request(said)


async def purchase(kernel: Kernel) -> Any:
    """One order that a human may have to approve; the world is told once it is under way."""
    buyer = await spawn(kernel, buy(), key="purchase")
    await wire.ask(kind="mark", name="under way", key="")
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(_settle, kernel)
        if wire.order.approves:
            tasks.start_soon(_approve, kernel)
        result = await buyer
        tasks.cancel_scope.cancel()
        return result


async def _approve(kernel: Kernel) -> None:
    """Be the human who approves whatever is asked."""
    while True:
        for question in await kernel.request(ListQuestions()):
            with suppress(NoSuchQuestion):  # it was answered before
                await kernel.request(Answer(number=question.number, text="approve"))
        await anyio.sleep(0.02)


async def shopping(kernel: Kernel) -> Any:
    """Orders, of which the world is told when all of them wait for a slot."""
    async with kernel.listen("scheduler.waiting") as waiting:
        shopper = await spawn(kernel, shop(), key="shop")
        async for event in waiting:
            if isinstance(event, Waiting) and event.depth == 10:
                break
        await wire.ask(kind="mark", name="ten wait", key="")
        return await shopper


async def shopped(kernel: Kernel) -> Any:
    """The same orders, quietly."""
    return await (await spawn(kernel, shop(), key="shop"))


async def agents(kernel: Kernel) -> Any:
    """A hundred agents, until each has ended or been stopped: how, and why."""
    for number in range(AGENTS):
        await spawn(kernel, Agent(number=number), key=f"agent {number}")
    while True:
        found = await kernel.request(ListProcesses(ended=True))
        if all(status.record.state in OVER for status in found):
            return [[s.record.key, s.record.state, s.record.error] for s in found]
        await anyio.sleep(0.02)


async def mended(kernel: Kernel) -> Any:
    """The agents again; those that were stopped may go on."""
    for number in range(AGENTS):
        agent = await spawn(kernel, Agent(number=number), key=f"agent {number}")
        if (await agent.status()).record.state == "stopped":
            await kernel.request(Kill(pid=agent.pid, signal="CONT"))
    return await agents(kernel)


MAINS: dict[str, Callable[[Kernel], Awaitable[Any]]] = {
    "job": job,
    "purchase": purchase,
    "shopping": shopping,
    "shopped": shopped,
    "agents": agents,
    "mended": mended,
}


def kernel() -> Kernel:
    order = wire.order
    storage = {
        "driver": "chaos.mortal:Mortal",
        "folder": order.folder,
        "settings": order.settings,
        "namespace": order.namespace,
        "lease_s": order.lease_s,
        "dies": order.dies,
        "dies_at": order.dies_at,
    }
    return Kernel.from_config(
        services={
            "storage": storage,
            "llm.default": {"driver": "scripted", "script": model, "slots": 10},
            "tools.devices": {"driver": "python", "functions": TOOLS},
            "memory": {"use": "memory_by_words"},
            "policy": {"allow": ("llm.complete:*", "tools.call:*"), "ask": order.asks},
            "processes": {"adopt_every_s": 0.05},
            "scheduler": {"slots": {"tools.devices": order.slots}},
        },
        routes={"tools.call": {"guards": ("policy", "scheduler", "journal")}},
    )


async def main() -> dict[str, Any]:
    """Run to the end; gives the result, and what was used."""
    before = _descriptors()
    async with kernel() as running:
        result = await MAINS[wire.order.main](running)
    leaked = _descriptors() - before
    return {"result": result, "commits": mortal.counted, "leaked": leaked}


def _descriptors() -> int:
    return len(os.listdir("/dev/fd"))


def live(order: wire.Order) -> None:
    """An application's whole life, as the world sees it."""
    wire.order = order
    with socket.socket(socket.AF_UNIX) as line:
        line.connect(order.world)
        line.sendall(wire.line({"kind": "life", "application": os.getpid()}))
        try:
            said = anyio.run(main)
        except BaseException:  # noqa: BLE001 - the test tells of it
            said = {"crash": traceback.format_exc()}
        line.sendall(wire.line(said))
