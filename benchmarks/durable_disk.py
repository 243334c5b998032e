"""A thousand turns on the disk: bytes of all tables with their keys, and the time to load them.

A turn is a prompt and a reply of the same size, as `think` journals them: an intent, the
outcome, a page with the prompt, a page that points to the outcome. The messages cannot be
compressed. `disk_x` is all bytes of the log over those of the messages; indexes that only serve
to search are reported beside it, and so is what is left after a vacuum.

What a resume reads is the log and the pages, so the replies twice. The floor reads the same
bytes from a table that has nothing else.
"""

import statistics
import time

from aoskernel import Kernel
from aoskernel.drivers.storage.embedded import Embedded
from aoskernel.subsystems.storage.messages import (
    AddPage,
    AddProcess,
    Commit,
    Intend,
    NewPid,
    Page,
    Pid,
    ProcessRecord,
    ReadLog,
    ReadPages,
    Settle,
)
from aoskernel.subsystems.storage.service import Storage

from .case import Effort, Figures, Goal, case
from .durable import database, noise

TURNS = 1000
MARK = "00" * 12
AROUND = '{"text":"","model":"scripted","usage":{"input_tokens":0,"output_tokens":0}}'

SIZES = """
select
    coalesce(sum(pg_total_relation_size(oid)), 0)::bigint as all_bytes,
    coalesce(sum((
        select sum(pg_relation_size(indexrelid)) from pg_index
        where indrelid = pg_class.oid and not indisunique
    )), 0)::bigint as search
from pg_class where relkind = 'r' and relnamespace = 'aoskernel'::regnamespace
"""


def _turns(effort: Effort) -> int:
    return 20 if effort.seconds == 0 else TURNS


async def _converse(kernel: Kernel, turns: int, size: int) -> Pid:
    """A process with so many turns in its log."""
    pid = await kernel.request(NewPid())
    born = ProcessRecord(pid=pid, program="p", version="1", state_json="{}")
    await kernel.request(Commit(pid=pid, epoch=0, writes=(AddProcess(record=born),)))
    for turn in range(turns):
        key = f"0:{turn}"
        intent = Intend(key=key, kind="think", fingerprint=MARK, effect="idempotent")
        await kernel.request(Commit(pid=pid, epoch=0, writes=(intent,)))
        body = noise(size - len(AROUND)).join(AROUND.split('""', 1))
        writes = (
            Settle(key=key, kind="think", fingerprint=MARK, body=body, took_s=1.5),
            AddPage(page=Page(role="user", text=noise(size))),
            AddPage(page=Page(role="assistant", entry=key)),
        )
        await kernel.request(Commit(pid=pid, epoch=0, writes=writes))
    return pid


async def _on_disk(effort: Effort, size: int) -> Figures:
    turns = _turns(effort)
    async with database() as at, Kernel(Storage(Embedded(folder=at.folder))) as kernel:
        connection = await at.connect()
        empty = await connection.fetchrow(SIZES)
        await _converse(kernel, turns, size)
        sizes = [await connection.fetchrow(SIZES)]
        await connection.execute("vacuum")
        sizes.append(await connection.fetchrow(SIZES))
        log, vacuumed = (row["all_bytes"] - row["search"] for row in sizes)
        none = empty["all_bytes"] - empty["search"]
        payload = 2 * size * turns
        return {
            "disk_x": (log - none) / payload,
            "vacuumed_x": (vacuumed - none) / payload,
            "turn_bytes": (log - none) / turns,
            "search_bytes": (sizes[-1]["search"] - empty["search"]) / turns,
        }


@case("durable_disk", "messages of 0.5 KB")
async def half(effort: Effort) -> Figures:
    return await _on_disk(effort, 512)


@case("durable_disk", "messages of 2 KB", goals=[Goal("disk_x", value=1.3)])
async def two(effort: Effort) -> Figures:
    return await _on_disk(effort, 2048)


@case("durable_disk", "messages of 8 KB")
async def eight(effort: Effort) -> Figures:
    return await _on_disk(effort, 8192)


FLAT = """
create table flat as
select body, seq from aoskernel.entry
union all
select coalesce(text, body), number from aoskernel.page left join aoskernel.entry using (pid, step, path)
"""
TIMES = 15


@case("durable_disk", "load of 2 KB", goals=[Goal("load_x", value=2)])
async def load(effort: Effort) -> Figures:
    turns = _turns(effort)
    async with database() as at:
        async with Kernel(Storage(Embedded(folder=at.folder))) as kernel:
            pid = await _converse(kernel, turns, 2048)
        async with Kernel(Storage(Embedded(folder=at.folder))) as kernel:
            connection = await at.connect()
            await connection.execute(FLAT)
            await connection.execute("vacuum analyze")
            seconds: dict[str, list[float]] = {"floor": [], "ours": []}
            cpu: dict[str, list[float]] = {"floor": [], "ours": []}

            async def floor() -> None:
                assert (
                    len(await connection.fetch("select body from flat order by seq")) == 3 * turns
                )

            async def ours() -> None:
                assert len(await kernel.request(ReadLog(pid=pid))) == turns
                assert len(await kernel.request(ReadPages(pid=pid))) == 2 * turns

            for _ in range(3 if effort.seconds == 0 else TIMES):
                for name, way in (("floor", floor), ("ours", ours)):
                    began, busy = time.perf_counter(), time.process_time()
                    await way()
                    seconds[name].append(time.perf_counter() - began)
                    cpu[name].append(time.process_time() - busy)
            floor_s, ours_s = (statistics.median(seconds[name]) for name in ("floor", "ours"))
            return {
                "load_ms": ours_s * 1e3,
                "floor_ms": floor_s * 1e3,
                "load_x": ours_s / floor_s,
                "load_cpu_x": statistics.median(cpu["ours"]) / statistics.median(cpu["floor"]),
            }
