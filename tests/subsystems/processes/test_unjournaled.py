"""What a program takes from outside of its log is named with its line, and nothing else is."""

import asyncio
import datetime
import inspect
import logging
import os
import random
import secrets
import socket
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import date
from time import monotonic as ticks
from typing import Any

import anyio
import anyio.to_thread
import httpx
import pytest
import structlog
from pydantic import BaseModel, Field, PastDatetime
from system import scripted_kernel

from aoskernel import Process, program, spawn, tool
from aoskernel.subsystems.processes.unjournaled import Unjournaled, unjournaled

Deed = Callable[[Process, int], Awaitable[Any]]
DEEDS: dict[str, Deed] = {}
NOW = datetime.datetime.now


def deed(work: Deed) -> Deed:
    DEEDS[work.__name__] = work
    return work


@program
async def do(self: Process, name: str, port: int) -> None:
    await self.note("before")
    await DEEDS[name](self, port)
    await self.note("behind")


class Stamped(BaseModel):
    at: float = Field(default_factory=lambda: time.time())
    seen: PastDatetime | None = None


# What a resume would not see again


@deed
async def time_time(self: Process, port: int) -> None:
    time.time()


@deed
async def time_monotonic(self: Process, port: int) -> None:
    ticks()  # by another name


@deed
async def datetime_now(self: Process, port: int) -> None:
    NOW(datetime.UTC)


@deed
async def date_today(self: Process, port: int) -> None:
    date.today()


@deed
async def random_random(self: Process, port: int) -> None:
    random.random()


@deed
async def random_choice(self: Process, port: int) -> None:
    await self.think(random.choice(["heads", "tails"]))


@deed
async def os_urandom(self: Process, port: int) -> None:
    os.urandom(4)


@deed
async def uuid_uuid4(self: Process, port: int) -> None:
    uuid.uuid4()


@deed
async def secrets_token_hex(self: Process, port: int) -> None:
    secrets.token_hex(4)


@deed
async def socket_connect(self: Process, port: int) -> None:
    socket.create_connection(("127.0.0.1", port)).close()


@deed
async def socket_connect_by_asyncio(self: Process, port: int) -> None:
    _, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.close()
    await writer.wait_closed()


@deed
async def socket_connect_by_a_library(self: Process, port: int) -> None:
    async with httpx.AsyncClient(trust_env=False) as client:
        await client.get(f"http://localhost:{port}/")


@deed
async def random_random_in_an_arm(self: Process, port: int) -> None:
    async def arm() -> None:
        random.random()

    await self.parallel(arm(), self.now())


# What is nothing to say anything about


@deed
async def innocent_time_of_logs(self: Process, port: int) -> None:
    logging.getLogger("quiet").warning("an event with its time")
    structlog.get_logger().debug("another", id=3)


@deed
async def innocent_loop(self: Process, port: int) -> None:
    await asyncio.sleep(0.001)
    with anyio.move_on_after(0.001):
        await anyio.sleep(0.01)
    await anyio.to_thread.run_sync(len, "abc")


@deed
async def innocent_pydantic(self: Process, port: int) -> None:
    Stamped.model_validate({"at": 1.0, "seen": "2020-01-01T00:00:00"})
    Stamped.model_json_schema()


@deed
async def innocent_seed(self: Process, port: int) -> None:
    dice = random.Random(7)
    dice.shuffle([1, 2, 3])
    uuid.uuid5(uuid.NAMESPACE_DNS, "a name")
    datetime.datetime.fromtimestamp(await self.now(), datetime.UTC)


@deed
async def innocent_syscalls(self: Process, port: int) -> None:
    async def own() -> float:
        return time.time() + random.random()

    await self.run_once("own", own)
    await self.random()
    await self.timeout(5, self.sleep(0.001))
    await self.call("look", port=port)
    await self.think("anything")


@tool(effect="none")
async def look(port: int) -> float:
    socket.create_connection(("127.0.0.1", port)).close()
    return time.time()


SINS = [name for name in DEEDS if not name.startswith("innocent")]
INNOCENT = [name for name in DEEDS if name.startswith("innocent")]


@asynccontextmanager
async def listening() -> AsyncIterator[int]:
    async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readline()
        writer.write(b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n")
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(hang_up, "localhost", 0) as server:
        yield server.sockets[0].getsockname()[1]


async def found(name: str) -> list[Unjournaled]:
    """Run it once."""
    tools = {"driver": "aoskernel.drivers.tools.python:PythonTools", "functions": [look]}
    with anyio.fail_after(20):
        async with listening() as port, scripted_kernel(**{"tools.own": tools}) as kernel:
            with unjournaled() as all_found:
                await (await spawn(kernel, do(name=name, port=port)))
    return all_found


@pytest.mark.parametrize("name", SINS)
async def test_what_no_log_has_is_found_with_its_line(name: str) -> None:
    (one,) = await found(name)
    what, _, _ = name.replace("_", ".", 1).partition("_by_")
    assert one.what == what.removesuffix("_in_an_arm")
    lines, first = inspect.getsourcelines(DEEDS[name])
    assert one.file == __file__
    assert first < one.line < first + len(lines)
    assert "process." in one.instead


@pytest.mark.parametrize("name", INNOCENT)
async def test_what_changes_nothing_is_not_accused(name: str) -> None:
    assert await found(name) == []


async def test_nothing_is_seen_before_and_behind_it() -> None:
    with unjournaled() as all_found:
        time.time()
    await found("time_time")
    assert all_found == []
    assert str(Unjournaled("time.time", "f.py", 3, "`now()`")).startswith("f.py:3: time.time")
