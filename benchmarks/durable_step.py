"""A conversation grows by a message, durably: at its beginning and at its thousandth step.

The floor appends a row for each message. Through storage alone, `note` is one commit of an
outcome and its page; `think`, of two messages, an intent before the model is called, and the
outcome with both pages after it; each is on the disk when it returns. Through a whole kernel,
`call` has an intent and an outcome, on the disk; of `think` the outcome goes there with the
next intent, so that each step pays for one commit, and it holds all messages in its prompt.
What ends in `_x` is a multiple of appending as many rows.
"""

from collections.abc import Awaitable, Callable
from typing import Any

from aoskernel import Kernel, Process, program, spawn
from aoskernel.drivers.storage.embedded import Embedded
from aoskernel.subsystems.llm.messages import Complete
from aoskernel.subsystems.storage.messages import (
    AddPage,
    AddProcess,
    Commit,
    Intend,
    NewPid,
    Page,
    ProcessRecord,
    Settle,
    Write,
)
from aoskernel.subsystems.storage.service import Storage

from .case import Effort, Figures, Goal, case
from .composition import default_kernel
from .durable import Beside, Database, Step, appending, database, quantile, text

STEPS, WINDOW = 1000, 100
GOALS = (
    Goal("step_1000_x", value=2),
    Goal("wal_1000_x", value=2.5),
    Goal("growth_x", value=1.2),
)
MARK = "00" * 12


def _windows(effort: Effort) -> tuple[range, range, range]:
    """The early steps, those between that nobody looks at, and the last ones."""
    steps, window = (60, 20) if effort.seconds == 0 else (STEPS, WINDOW)
    return range(10, 10 + window), range(10 + window, steps - window), range(steps - window, steps)


async def _figures(effort: Effort, at: Database, messages: int, ours: Step) -> Figures:
    """Of a way to make so many messages durable."""
    connection = await at.connect()
    append = await appending(connection)

    async def floor(step: int) -> None:
        for number in range(messages):
            await append(step * messages + number)

    early, between, late = _windows(effort)
    for step in range(early.start):
        await ours(step)
    first, last = (Beside(connection, "floor", "ours") for _ in range(2))
    await first.run(early, floor=floor, ours=ours)
    for step in between:
        await ours(step)
    await last.run(late, floor=floor, ours=ours)
    return {
        "step_1000_ms": last.ms("ours"),
        "floor_ms": last.ms("floor"),
        "p99_1000_ms": quantile(last.seconds["ours"], 0.99) * 1e3,
        "step_10_x": first.ms("ours") / first.ms("floor"),
        "step_1000_x": last.ms("ours") / last.ms("floor"),
        "growth_x": last.ms("ours") / first.ms("ours") * first.ms("floor") / last.ms("floor"),
        "wal_1000_bytes": last.bytes("ours"),
        "wal_1000_x": last.bytes("ours") / last.bytes("floor"),
    }


Put = Callable[..., Awaitable[None]]


async def _by_driver(effort: Effort, messages: int, way: Callable[[Put, int], Any]) -> Figures:
    """Through the storage service alone, so that nothing but commits is measured."""
    async with database() as at, Kernel(Storage(Embedded(folder=at.folder))) as kernel:
        pid = await kernel.request(NewPid())

        async def put(*writes: Write) -> None:
            await kernel.request(Commit(pid=pid, epoch=0, writes=writes))

        born = ProcessRecord(pid=pid, program="p", version="1", state_json="{}")
        await put(AddProcess(record=born))
        return await _figures(effort, at, messages, lambda step: way(put, step))


def _outcome(kind: str, key: str, body: str) -> Settle:
    return Settle(key=key, kind=kind, fingerprint=MARK, body=body, took_s=1.5)


async def _note(put: Put, step: int) -> None:
    page = Page(role="user", text=text(step))
    await put(_outcome("note", f"0:{step}", "null"), AddPage(page=page))


async def _think(put: Put, step: int) -> None:
    key = f"0:{step}"
    await put(Intend(key=key, kind="think", fingerprint=MARK, effect="idempotent"))
    asked, said = Page(role="user", text=text(step)), Page(role="assistant", entry=key)
    body = f'{{"text":"{text(-step)}","model":"scripted"}}'
    await put(_outcome("think", key, body), AddPage(page=asked), AddPage(page=said))


@case("durable_step", "storage: note", goals=GOALS)
async def note_by_driver(effort: Effort) -> Figures:
    return await _by_driver(effort, 1, _note)


@case("durable_step", "storage: think", goals=GOALS)
async def think_by_driver(effort: Effort) -> Figures:
    return await _by_driver(effort, 2, _think)


Saying = Callable[[Process, int], Awaitable[Any]]
MEASURED: dict[str, tuple[Effort, Database, int, Saying]] = {}
"""What the program is to measure; a program's own parameters are data."""


@program
async def growing(self: Process, name: str) -> Figures:
    """Says one thing after another in one step, and measures it."""
    effort, at, messages, saying = MEASURED[name]
    return await _figures(effort, at, messages, lambda step: saying(self, step))


async def _by_kernel(effort: Effort, messages: int, saying: Saying) -> Figures:
    async with database() as at:
        MEASURED["it"] = effort, at, messages, saying
        services: dict[str, dict[str, Any]] = {
            "storage": {"driver": "embedded", "folder": at.folder},
            "llm.default": {"driver": "scripted", "script": _reply, "context_window": 10_000_000},
        }
        async with default_kernel(**services) as kernel:
            return await (await spawn(kernel, growing(name="it")))


def _reply(ask: Complete) -> str:
    return text(-len(ask.messages))


@case("durable_step", "kernel: call", goals=GOALS)
async def call_by_kernel(effort: Effort) -> Figures:
    return await _by_kernel(effort, 2, lambda process, step: process.call("add", a=1, b=step))


@case("durable_step", "kernel: think", goals=GOALS)
async def think_by_kernel(effort: Effort) -> Figures:
    return await _by_kernel(effort, 2, lambda process, step: process.think(text(step)))
