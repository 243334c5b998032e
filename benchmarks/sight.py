"""What watching costs: the turn of `turn`, with metrics, traces and the console beside it.

The collector that takes the spans is a process of its own, so that its work is not ours. A
log at level info is written too, as JSON, into nothing.
"""

import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import anyio.lowlevel
import httpx

from aoskernel import Service, assistant, spawn
from aoskernel.plugins.cli.lines import Json
from aoskernel.plugins.cli.reporter import Reporter
from aoskernel.plugins.console.service import Console
from aoskernel.plugins.metrics.service import Metrics
from aoskernel.plugins.traces.service import Traces

from .case import Effort, Figures, Goal, case, cpu_us
from .composition import default_kernel
from .turn import BATCH, TASK

COLLECTOR = """
from http.server import BaseHTTPRequestHandler, HTTPServer
class Collector(BaseHTTPRequestHandler):
    def do_POST(self):
        self.rfile.read(int(self.headers["content-length"]))
        self.send_response(200)
        self.send_header("content-length", "0")
        self.end_headers()
    def log_message(self, *words): ...
server = HTTPServer(("127.0.0.1", 0), Collector)
print(server.server_port, flush=True)
server.serve_forever()
"""
"""Takes what is posted, and looks at none of it."""


@contextmanager
def collector() -> Iterator[str]:
    """Its address."""
    command = [sys.executable, "-c", COLLECTOR]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield f"http://127.0.0.1:{process.stdout.readline().strip()}/v1/traces"
        finally:
            process.kill()


async def turn_us(effort: Effort, *watching: Service, scrape: Metrics | None = None) -> float:
    async with default_kernel(*watching) as kernel, httpx.AsyncClient() as client:

        async def turns(times: int) -> None:
            for _ in range(times):
                agent = await spawn(kernel, assistant(task=TASK))
                assert await agent == "the sum is 3"
            await anyio.lowlevel.checkpoint()

        measured = await cpu_us(turns, effort, batch=BATCH)
        if scrape is not None:
            page = await client.get(f"http://127.0.0.1:{scrape.port}/metrics")
            assert 'aosk_processes_ended_total{program="assistant",state="exited"}' in page.text
        return measured


@case("sight", "floor: nobody watches", floor=True)
async def unwatched(effort: Effort) -> Figures:
    return {"turn_us": await turn_us(effort)}


@case("sight", "metrics")
async def with_metrics(effort: Effort) -> Figures:
    metrics = Metrics(port=0)
    return {"turn_us": await turn_us(effort, metrics, scrape=metrics)}


@case("sight", "console")
async def with_console(effort: Effort) -> Figures:
    return {"turn_us": await turn_us(effort, Console())}


@case("sight", "traces, each")
async def with_traces(effort: Effort) -> Figures:
    with collector() as address:
        return {"turn_us": await turn_us(effort, Traces(endpoint=address))}


@case("sight", "log")
async def with_log(effort: Effort) -> Figures:
    to_nothing()
    return {"turn_us": await turn_us(effort, Reporter(debug=False))}


@case("sight", "all of it, one trace in ten", goals=[Goal("turn_us", ratio=1.2)])
async def with_all_sampled(effort: Effort) -> Figures:
    return {"turn_us": await everything(effort, sample=0.1)}


@case("sight", "all of it, each trace", goals=[Goal("turn_us", ratio=1.2)])
async def with_all(effort: Effort) -> Figures:
    return {"turn_us": await everything(effort, sample=1.0)}


async def everything(effort: Effort, *, sample: float) -> float:
    to_nothing()
    metrics = Metrics(port=0)
    with collector() as address:
        traces = Traces(endpoint=address, sample=sample)
        watching = (metrics, traces, Console(), Reporter(debug=False))
        return await turn_us(effort, *watching, scrape=metrics)


def to_nothing() -> None:
    """A log as `aosk up --log-format json` has it."""
    handler = logging.FileHandler(os.devnull)
    handler.setFormatter(Json())
    logging.getLogger().handlers = [handler]
    logging.getLogger("aoskernel").setLevel(logging.INFO)
