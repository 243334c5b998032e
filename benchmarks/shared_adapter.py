"""Our side of the comparison with other frameworks; `peers.py` passes this file to their harness.

The harness (see README.md) brings the modules `common` and `bench_*`, drives every framework with
the same loops, and checks every answer. Ours makes a pydantic message for each, as its users do.
"""

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib import import_module
from pathlib import Path
from typing import Any
from uuid import uuid4

from pydantic import SecretStr

from aoskernel import (
    Event,
    Kernel,
    Process,
    Request,
    Service,
    assistant,
    handles,
    program,
    spawn,
    subscribes,
)
from aoskernel.drivers.storage.postgres import Postgres
from aoskernel.subsystems.storage.messages import (
    AddPage,
    AddProcess,
    Commit,
    NewPid,
    Page,
    ProcessRecord,
    ReadPages,
    Settle,
)
from aoskernel.subsystems.storage.service import Storage

sys.path.append(str(Path(__file__).resolve().parent.parent))
from benchmarks.composition import default_kernel, script
from benchmarks.request import PassThrough

impl = import_module("common").impl
Metrics = dict[str, tuple[float, str]]


class Said(Event, topic="bench.said"):
    """What is published."""

    seq: int
    text: str


class Asked(Request[int], topic="bench.asked", effect="none"):
    """What is asked: the number after this one."""

    n: int


class Answering(Service, name="answering"):
    """Knows the next number."""

    @handles(Asked)
    async def answer(self, request: Asked) -> int:
        return request.n + 1


class Hearing(Service, name="hearing"):
    """Counts what it hears."""

    def __init__(self, count: Any) -> None:
        self._count = count

    @subscribes(Said)
    async def hear(self, event: Said) -> None:
        self._count.hit()


@program
async def idle(self: Process, number: int) -> int:
    """Waits for a letter."""
    letter: int = await self.receive()
    return number + letter


@impl("bus_pubsub", "aoskernel")
async def bus_pubsub(parameters: dict[str, Any]) -> Metrics:
    bench = import_module("bench_bus_pubsub")
    count = bench.Count()
    hearers = [Hearing(count).named(f"hearing_{n}") for n in range(parameters["subs"])]
    async with Kernel(*hearers) as kernel:
        return await bench.drive(
            parameters, kernel.publish, count, make=lambda seq, text: Said(seq=seq, text=text)
        )


async def _requests(parameters: dict[str, Any], guards: int) -> Metrics:
    stack = [PassThrough().named(f"guard_{number}") for number in range(guards)]
    routes = {Asked.topic: [guard.address for guard in stack]}
    async with Kernel(Answering(), *stack, routes=routes) as kernel:
        return await import_module("bench_bus_request").drive(
            parameters, kernel.request, make=lambda n: Asked(n=n), get=lambda reply: reply
        )


@impl("bus_request", "aoskernel")
async def bus_request(parameters: dict[str, Any]) -> Metrics:
    return await _requests(parameters, guards=0)


@impl("bus_request", "aoskernel-5-guards")
async def bus_request_guarded(parameters: dict[str, Any]) -> Metrics:
    return await _requests(parameters, guards=5)


@impl("turn", "aoskernel")
async def turn(parameters: dict[str, Any]) -> Metrics:
    """Each turn is a process of its own, spawned, journaled and ended."""
    async with default_kernel() as kernel:

        async def conversation(number: int) -> None:
            pass

        async def one(state: None, text: str) -> str:
            return await (await spawn(kernel, assistant(task=text)))

        return await import_module("bench_turn").drive(parameters, conversation, one)


@impl("idle_agents", "aoskernel")
async def idle_agents(parameters: dict[str, Any]) -> Metrics:
    async with default_kernel() as kernel:

        async def make(number: int) -> None:
            await spawn(kernel, idle(number=number))

        return await import_module("bench_turn").spawn(parameters, make)


MARK = "00" * 12
LOG = ["lease", "process", "intent", "entry", "page"]


@impl("checkpoint_growth", "aoskernel")
async def growth(parameters: dict[str, Any]) -> Metrics:
    """Each message is a commit, on the disk when it returns: an outcome and its page."""
    storage = Postgres(dsn=SecretStr(import_module("common").PG_DSN))
    async with Kernel(Storage(storage)) as kernel:
        pid = await kernel.request(NewPid())

        async def put(*writes: Any) -> None:
            await kernel.request(Commit(pid=pid, epoch=0, writes=writes))

        async def step(number: int, message: dict[str, str]) -> None:
            key = f"0:{number}"
            outcome = Settle(key=key, kind="think", fingerprint=MARK, body=json.dumps(message))
            role = "assistant" if message["role"] == "assistant" else "user"
            await put(outcome, AddPage(page=Page(role=role, entry=key)))

        async def load() -> list[Any]:
            pages = await kernel.request(ReadPages(pid=pid))
            return [json.loads(page.text) for page in pages]

        born = ProcessRecord(pid=pid, program="p", version="1", state_json="{}")
        await put(AddProcess(record=born))
        tables = [f"aoskernel.{table}" for table in LOG]
        bench = import_module("bench_checkpoint")
        return await bench.growth(step, load, tables, len)


class Talk:
    """What is said to a conversation, and what it answers."""

    def __init__(self) -> None:
        self.said: asyncio.Queue[str] = asyncio.Queue()
        self.answers: asyncio.Queue[str] = asyncio.Queue()

    async def turn(self, text: str) -> str:
        self.said.put_nowait(text)
        return await self.answers.get()


TALKS: list[Talk] = []


@program
async def conversing(self: Process, number: int) -> None:
    """Answers what it is told; each prompt is in the log with its reply."""
    talk = TALKS[number]
    while True:
        reply = await self.think(await talk.said.get(), tools=None)
        while reply.tool_calls:
            for call in reply.tool_calls:
                await self.call(call)
            reply = await self.think(tools=None)
        talk.answers.put_nowait(reply.text)


@asynccontextmanager
async def _durable() -> AsyncIterator[Kernel]:
    storage = {"driver": "postgres", "dsn": SecretStr(import_module("common").PG_DSN)}
    services: dict[str, dict[str, Any]] = {
        # In a namespace of its own, or it would go on with the processes of the last run.
        "storage": storage | {"namespace": uuid4().hex},
        "llm.default": {"driver": "scripted", "script": script, "slots": 64},
    }
    async with default_kernel(processes={"drain_s": 0}, **services) as kernel:
        yield kernel


@impl("turn_durable", "aoskernel")
async def turn_durable(parameters: dict[str, Any]) -> Metrics:
    """A conversation is a process."""
    async with _durable() as kernel:

        async def conversation(number: int) -> Talk:
            TALKS.append(talk := Talk())
            await spawn(kernel, conversing(number=len(TALKS) - 1))
            return talk

        return await import_module("bench_turn").drive(parameters, conversation, Talk.turn)


@impl("turn_durable", "aoskernel-assistant")
async def turn_durable_assistant(parameters: dict[str, Any]) -> Metrics:
    """Each turn is a process of its own, spawned, journaled and ended."""
    async with _durable() as kernel:

        async def conversation(number: int) -> None:
            pass

        async def one(state: None, text: str) -> str:
            return await (await spawn(kernel, assistant(task=text)))

        return await import_module("bench_turn").drive(parameters, conversation, one)
