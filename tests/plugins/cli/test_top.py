"""`aosk top` and the log of a daemon: what goes on, for people and for scripts."""

import json
from collections.abc import Callable
from io import StringIO
from pathlib import Path
from typing import Any

import anyio
import pytest
from daemons import leave, run, up
from errands import brief, fail, listen, wait_for_nothing
from rich.console import Console

from aoskernel.kernel import Event
from aoskernel.kernel.testing import Bench
from aoskernel.plugins.cli.desk import configured, looking, opened
from aoskernel.plugins.cli.top import Picture, picture
from aoskernel.plugins.cli.top_view import render
from aoskernel.plugins.console.service import COLLECTION
from aoskernel.plugins.console.service import Console as KernelConsole
from aoskernel.subsystems.llm.messages import (
    Completed,
    CompletionFailed,
    Describe,
    ModelCard,
    Price,
    Usage,
)
from aoskernel.subsystems.processes.messages import Doing, ReadLive
from aoskernel.subsystems.scheduler.messages import LaneState, ReadLanes
from aoskernel.subsystems.storage.messages import (
    Commit,
    DropRecord,
    Pid,
    PutRecord,
    StorageUnavailable,
)

from .conftest import Aosk, Durable


def until(look: Callable[[], Any], found: Callable[[Any], bool]) -> Any:
    """The first of what is seen that is what was looked for."""
    seen: Any = None
    for _ in range(100):
        seen = look()
        if found(seen):
            return seen
    raise AssertionError(seen)


def test_without_a_kernel_the_processes_are_shown(durable: Durable, aosk: Aosk) -> None:
    config = durable()
    (waiting,) = run(config, listen())
    seen = aosk("top", "--once", "-c", str(config))
    assert seen.code == 0
    assert "none runs; `aosk up` starts one" in seen.out
    row = next(line.split() for line in seen.out.splitlines() if "listen" in line)
    assert row[:3] == [str(waiting), "listen", "stranded"]
    assert "processes  1 parked" in seen.out
    assert "receive" in row


def test_of_a_running_kernel_it_tells_what_it_does(durable: Durable, aosk: Aosk) -> None:
    config = durable()
    busy, done = leave(
        config, wait_for_nothing(file=str(config.parent / "file")), brief(topic="the standup")
    )
    with up(config) as daemon:
        daemon.logs(f"process.exited pid={done}")

        def look() -> Any:
            return aosk("top", "--json", "-c", str(config)).document

        def is_told(seen: Any) -> bool:
            doing = {one["pid"]: one["doing"] for one in seen["processes"]}
            return doing.get(busy) == "call" and bool(seen["models"])

        seen = until(look, is_told)
        assert [kernel["os_pid"] for kernel in seen["kernels"]] == [daemon.pid]
        (model,) = seen["models"]
        assert (model["address"], model["os_pid"]) == ("llm.default", daemon.pid)
        assert model["used"]["calls"] == 1
        assert model["used"]["completion"] > 0
        assert model["used"]["money"] is None  # nobody said what it costs
        shown = aosk("top", "-c", str(config)).out
        assert f"process {daemon.pid}" in shown
        assert "llm.default" in shown
    assert busy in [one["pid"] for one in look()["processes"]]


def test_a_log_in_json_says_where_each_line_belongs(durable: Durable) -> None:
    config = durable()
    config.write_text(config.read_text() + '\n[kernel]\nlog_format = "json"\n')
    done, failed = leave(config, brief(topic="the standup"), fail())
    with up(config) as daemon:
        for state in ("exited", "failed"):
            daemon.logs(f'"state": "{state}"')
        told = [json.loads(line) for line in daemon.lines]
    assert all({"time", "level", "event"} <= line.keys() for line in told)
    (exit_,) = [x for x in told if x["event"] == "process.exited" and x["pid"] == done]
    assert exit_["program"] == "brief"
    assert exit_["service"] == "processes"
    assert len(exit_["trace"]) == 32
    assert len(exit_["span"]) == 16
    (other,) = [x for x in told if x["event"] == "process.exited" and x["pid"] == failed]
    assert other["state"] == "failed"


# The view


async def seen(config: Path) -> Picture:
    loaded = configured(config)
    async with looking(loaded) as look, opened(loaded) as kernel:
        return await picture(look, kernel)


def text(shown: Picture, height: int | None = None) -> str:
    console = Console(width=120, record=True, file=StringIO())
    console.print(render(shown, height))
    return console.export_text()


def test_a_small_terminal_shows_the_first_and_how_many_more(durable: Durable) -> None:
    config = durable()
    run(config, *(listen() for _ in range(12)))
    shown = text(anyio.run(seen, config), height=12)
    assert 0 < shown.count("receive") < 12
    assert " more" in shown
    assert len(shown.splitlines()) <= 12


# The console's record

CARD = ModelCard(
    model="m",
    driver="scripted",
    context_window=100,
    price=Price(currency="USD", prompt=1, completion=2),
)
USAGE = Usage(prompt=1_000_000, completion=500_000)
CALL = {"call": "c", "caller": "app", "address": "llm.fast", "model": "m", "usage": USAGE}


class Opened(Event, topic="breaker.opened"):
    """A guard that this test makes up."""

    address: str


def bench(card: ModelCard = CARD) -> Bench:
    opened = Bench(KernelConsole(every_s=0.02))
    opened.answer(Commit, None)
    opened.answer(Describe, card, at="llm.fast")
    lane = LaneState(address="llm.fast", slots=4, busy=3, waiting={"batch": 2})
    opened.answer(ReadLanes, (lane,))
    opened.answer(ReadLive, (Doing(pid=Pid(7), doing="think"),))
    return opened


async def record(opened: Bench) -> Any:
    """The next that is written."""
    written = len(opened.asked(Commit))
    while len(opened.asked(Commit)) <= written + 1:
        await anyio.sleep(0.01)
    (put,) = opened.asked(Commit)[-1].writes
    assert isinstance(put, PutRecord)
    assert put.collection == COLLECTION
    assert put.lasts_s is not None
    return put.body


async def test_what_models_use_is_added_up_with_its_price() -> None:
    with anyio.fail_after(20):
        async with bench() as opened:
            told = Completed(**CALL, finish="stop", seconds=1, first_token_s=None)
            await opened.publish(told)
            await opened.publish(CompletionFailed(**CALL, error="RateLimited", seconds=1))
            body = await record(opened)
    (model,) = body["models"]
    assert (model["slots"], model["busy"], model["waiting"]) == (4, 3, {"batch": 2})
    assert model["used"] == {
        "calls": 2,
        "failed": 1,
        "prompt": 2_000_000,
        "completion": 1_000_000,
        "money": {"USD": 4.0},
    }
    assert body["processes"] == [{"pid": 7, "doing": "think", "used": None}]


async def test_a_price_that_nobody_knows_makes_the_sum_unknown() -> None:
    with anyio.fail_after(20):
        async with bench(CARD.model_copy(update={"price": None})) as opened:
            await opened.publish(Completed(**CALL, finish="stop", seconds=1, first_token_s=None))
            body = await record(opened)
    assert body["models"][0]["used"]["money"] is None


async def test_what_a_breaker_last_said_is_shown() -> None:
    with anyio.fail_after(20):
        async with bench() as opened:
            await opened.publish(Opened(address="llm.fast"))
            body = await record(opened)
    (guard,) = body["guards"]
    assert (guard["guard"], guard["address"], guard["told"]) == ("breaker", "llm.fast", "opened")


async def test_a_kernel_that_ends_takes_its_record_away() -> None:
    with anyio.fail_after(20):
        async with bench() as opened:
            await record(opened)
        (drop,) = opened.asked(Commit)[-1].writes
    assert isinstance(drop, DropRecord)


async def test_a_console_outlives_a_database_that_is_away() -> None:
    with anyio.fail_after(20):
        opened = bench()
        opened.answer(Commit, StorageUnavailable("away"))
        async with opened:
            while len(opened.asked(Commit)) < 3:
                await anyio.sleep(0.01)


def test_how_often_is_more_than_never() -> None:
    with pytest.raises(ValueError, match="more than 0"):
        KernelConsole(every_s=0)
