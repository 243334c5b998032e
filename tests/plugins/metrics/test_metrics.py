"""A kernel's figures, as a scraper sees them."""

import re
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import httpx
import prometheus
import pytest
from pydantic import SecretStr
from system import System

from aoskernel import ConfigError, Event, Kernel, Process, assistant, program, spawn
from aoskernel.drivers.llm.scripted import call
from aoskernel.kernel.testing import Bench
from aoskernel.plugins.metrics.meters import MOST, OTHERS
from aoskernel.plugins.metrics.service import Metrics
from aoskernel.subsystems.llm.driver import Unauthorized
from aoskernel.subsystems.processes.messages import (
    CountLive,
    ProcessExited,
    SyscallDone,
    Wait,
)
from aoskernel.subsystems.scheduler.messages import ReadLanes
from aoskernel.subsystems.storage.messages import Pid
from aoskernel.subsystems.tools.messages import ToolCalled


def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


def script(ask: Any) -> Any:
    last = ask.messages[-1]
    if last.text == "be ill":
        raise Unauthorized("not today")
    return f"it is {last.text}" if last.role == "tool" else call("add", a=1, b=2)


@program
async def patient(self: Process) -> None:
    await self.think("be ill")


@program
async def waiter(self: Process) -> str:
    return str(await self.receive())


def watched(system: System, **more: dict[str, Any]) -> Kernel:
    tools = {"driver": "python", "functions": [add]}
    return system(script, **{"metrics": {"port": 0}, "tools.sums": tools, **more})


def metrics_of(kernel: Kernel) -> Metrics:
    service = next(seat.service for seat in kernel.services() if seat.address == "metrics")
    assert isinstance(service, Metrics)
    return service


async def scraped(metrics: Metrics, **headers: str) -> httpx.Response:
    async with httpx.AsyncClient(trust_env=False) as client:
        return await client.get(f"http://127.0.0.1:{metrics.port}/metrics", headers=headers)


async def settled(kernel: Kernel) -> None:
    """What was told has been counted; what is told last are the commits."""
    while "aosk_storage_commits_total{" not in (await scraped(metrics_of(kernel))).text:
        await anyio.sleep(0.02)
    for queue in kernel.bus.subscriptions:
        await queue.settled()


def figure(page: str, series: str) -> float:
    (found,) = re.findall(rf"^{re.escape(series)} (\S+)$", page, re.MULTILINE)
    return float(found)


@asynccontextmanager
async def bench(metrics: Metrics | None = None) -> AsyncIterator[Bench]:
    opened = Bench(metrics or Metrics(port=0))
    opened.answer(ReadLanes, ())
    opened.answer(CountLive, ())
    async with opened:
        yield opened


async def page_of(opened: Bench) -> str:
    assert isinstance(opened.service, Metrics)
    return (await scraped(opened.service)).text


async def test_an_operators_questions_have_figures(system: System) -> None:
    with anyio.fail_after(20):
        async with watched(system) as kernel:
            await (await spawn(kernel, assistant(task="1 + 2?")))
            ill = await spawn(kernel, patient())
            await kernel.request(Wait(pid=ill.pid))
            waiting = await spawn(kernel, waiter())
            await settled(kernel)
            page = (await scraped(metrics_of(kernel))).text
            await waiting.kill("KILL")
    model = 'address="llm.default"'
    assert figure(page, f"aosk_llm_call_seconds_count{{{model}}}") == 3
    assert figure(page, f"aosk_llm_first_token_seconds_count{{{model}}}") == 1
    assert 'outcome="Unauthorized"' in page
    assert figure(page, f'aosk_llm_tokens_total{{{model},kind="completion",model="scripted"}}') > 0
    assert figure(page, 'aosk_tool_call_seconds_count{outcome="done",tool="add"}') == 1
    assert figure(page, 'aosk_syscall_seconds_count{kind="think",outcome="failed"}') == 1
    assert figure(page, 'aosk_processes_ended_total{program="patient",state="failed"}') == 1
    live = 'class="normal",doing="receive",program="waiter"'
    assert figure(page, f"aosk_processes_live{{{live}}}") == 1
    assert figure(page, f"aosk_slots_busy{{{model}}}") == 0
    assert figure(page, 'aosk_storage_commits_total{outcome="done"}') > 5
    assert figure(page, "aosk_storage_commit_seconds_count") > 5


async def test_promtool_has_nothing_against_the_exposition(system: System) -> None:
    prometheus.installed()
    with anyio.fail_after(20):
        async with watched(system) as kernel:
            await (await spawn(kernel, assistant(task="1 + 2?")))
            await settled(kernel)
            page = (await scraped(metrics_of(kernel))).text
    assert "aosk_llm_calls_total" in page
    assert prometheus.lint(page) == ""


QUESTIONS = {
    "Which models are called how often?": (
        "sum by (address) (aosk_llm_calls_total)",
        {"address=llm.default": 3},
    ),
    "What part of the calls fails?": (
        'sum(aosk_llm_calls_total{outcome=~"[A-Z].*"}) / sum(aosk_llm_calls_total)',
        {"": pytest.approx(1 / 3)},
    ),
    "How are the processes ending?": (
        "sum by (program, state) (aosk_processes_ended_total)",
        {"program=assistant state=exited": 1, "program=patient state=failed": 1},
    ),
    "Are all slots taken?": ("aosk_slots_busy / aosk_slots", {"address=llm.default": 0}),
    "How quick are 99 of 100 commits?": (
        "histogram_quantile(0.99, sum by (le) (aosk_storage_commit_seconds_bucket)) < 1",
        {"": pytest.approx(0.05, abs=0.06)},
    ),
}


async def test_a_real_prometheus_scrapes_a_kernel_and_answers(system: System) -> None:
    prometheus.installed()
    with anyio.fail_after(60):
        async with watched(system) as kernel:
            await (await spawn(kernel, assistant(task="1 + 2?")))
            ill = await spawn(kernel, patient())
            await kernel.request(Wait(pid=ill.pid))
            await settled(kernel)
            with prometheus.scraping(metrics_of(kernel).port) as server:
                await server.until("up == 1")
                for question, expected in QUESTIONS.values():
                    assert await server.until(question) == expected


async def test_two_kernels_in_one_process_have_figures_of_their_own(system: System) -> None:
    with anyio.fail_after(20):
        async with watched(system) as one, watched(system) as other:
            await (await spawn(one, assistant(task="1 + 2?")))
            await settled(one)
            ours, theirs = metrics_of(one), metrics_of(other)
            assert ours.port != theirs.port
            assert 'program="assistant"' in (await scraped(ours)).text
            assert 'program="assistant"' not in (await scraped(theirs)).text


# The port


@pytest.mark.parametrize("host", ["0.0.0.0", "192.0.2.1", "::", "example.org"])
def test_a_port_that_others_reach_needs_a_token(host: str) -> None:
    with pytest.raises(ValueError, match="without a token anybody may read there"):
        Metrics(host=host)
    assert Metrics(host=host, token=SecretStr("let me in"))


async def test_with_a_token_only_whoever_says_it_may_read() -> None:
    with anyio.fail_after(20):
        async with bench(Metrics(port=0, token=SecretStr("let-me-in"))) as opened:
            assert isinstance(opened.service, Metrics)
            assert (await scraped(opened.service)).status_code == 401
            wrong = await scraped(opened.service, authorization="Bearer let-me-out")
            assert wrong.status_code == 401
            right = await scraped(opened.service, authorization="Bearer let-me-in")
            assert right.status_code == 200


async def test_there_is_nothing_but_get_metrics() -> None:
    with anyio.fail_after(20):
        async with bench() as opened, httpx.AsyncClient(trust_env=False) as client:
            assert isinstance(opened.service, Metrics)
            at = f"http://127.0.0.1:{opened.service.port}"
            assert (await client.get(f"{at}/")).status_code == 404
            assert (await client.post(f"{at}/metrics")).status_code == 405


@pytest.mark.parametrize("said", [b"", b"\x00\xff\r\n\r\n", b"GET / HTTP/1.1\r\n" * 4000])
async def test_what_is_no_request_hurts_nobody(said: bytes) -> None:
    with anyio.fail_after(20):
        async with bench() as opened:
            assert isinstance(opened.service, Metrics)
            async with await anyio.connect_tcp("127.0.0.1", opened.service.port) as stream:
                with anyio.move_on_after(0.2):
                    await stream.send(said)
                    await stream.receive()
            assert (await scraped(opened.service)).status_code == 200


async def test_a_port_that_is_taken_is_named(system: System) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(OSError, match=f"127.0.0.1:{port}.*set another port"):
            async with watched(system, metrics={"port": port}):
                pass


def test_the_configuration_says_what_is_wrong_with_it(system: System) -> None:
    with pytest.raises(ConfigError, match="without a token"):
        watched(system, metrics={"host": "0.0.0.0"})


# Bounds


async def test_names_that_a_program_makes_up_do_not_make_a_series_each() -> None:
    with anyio.fail_after(20):
        async with bench() as opened:
            for number in range(MOST + 100):
                await opened.kernel.publish(
                    ProcessExited(pid=Pid(1), program=f"p{number}", state="exited", error=None)
                )
            await opened.settle()
            page = await page_of(opened)
    assert page.count("aosk_processes_ended_total{") == MOST + 1
    ended = f'aosk_processes_ended_total{{program="{OTHERS}",state="exited"}}'
    assert figure(page, ended) == 100


async def test_names_that_a_model_makes_up_are_not_shown() -> None:
    with anyio.fail_after(20):
        async with bench() as opened:
            told = SyscallDone(pid=Pid(1), key="0:0", kind="call:hunter2", failed=True, seconds=0.1)
            await opened.publish(told)
            await opened.publish(
                ToolCalled(
                    caller="app", address="tools", name="hunter2", error="UnknownTool", seconds=0
                )
            )
            page = await page_of(opened)
    assert 'aosk_syscall_seconds_count{kind="call",outcome="failed"}' in page
    assert 'outcome="UnknownTool",tool=""' in page
    assert "hunter2" not in page


class Opened(Event, topic="breaker.opened"):
    """A guard that this test makes up."""

    address: str


async def test_what_a_guard_tells_is_counted_though_nobody_here_knows_it() -> None:
    with anyio.fail_after(20):
        async with bench() as opened:
            await opened.publish(Opened(address="llm.fast"))
            page = await page_of(opened)
    assert figure(page, 'aosk_guard_events_total{address="llm.fast",topic="breaker.opened"}') == 1


async def test_events_that_a_slow_subscriber_lost_are_shown() -> None:
    with anyio.fail_after(20):
        async with bench() as opened:
            async with opened.kernel.listen("breaker.*", size=1):
                for _ in range(3):
                    await opened.kernel.publish(Opened(address="llm.fast"))
                page = await page_of(opened)
    assert figure(page, 'aosk_bus_dropped_total{subscriber="listen:breaker.*"}') == 2
