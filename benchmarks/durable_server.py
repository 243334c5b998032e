"""The embedded server: making and starting it, joining it, and its end when its user dies."""

import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import anyio

from aoskernel.drivers.storage import _embedded_watchdog as files
from aoskernel.drivers.storage._embedded_cluster import Cluster

from .case import Effort, Figures, Goal, case
from .durable import Database

USER = """
import anyio, sys
from aoskernel.drivers.storage._embedded_cluster import Cluster
async def main():
    await Cluster.attach(sys.argv[1])
    print("attached", flush=True)
    await anyio.sleep_forever()
anyio.run(main)
"""
GONE_S = 2.0


@case("durable_server", "embedded", goals=[Goal("killed_to_gone_ms", value=GONE_S * 1e3)])
async def embedded(effort: Effort) -> Figures:
    with tempfile.TemporaryDirectory(prefix="durable-", ignore_cleanup_errors=True) as folder:
        Path(folder).chmod(0o711)
        first = await _started_ms(folder)
        await _gone(folder)
        warm = await _started_ms(folder)
        await _gone(folder)
        user = _another(folder)
        began = time.perf_counter()
        joined = await Cluster.attach(folder)
        attach = time.perf_counter() - began
        connection = await Database(folder, joined).connect()
        connected = time.perf_counter() - began
        await connection.close()
        await joined.detach()
        user.send_signal(signal.SIGKILL)
        user.wait()
        killed = await _gone(folder)
        return {
            "first_start_ms": first,
            "warm_start_ms": warm,
            "attach_ms": attach * 1e3,
            "attach_and_connect_ms": connected * 1e3,
            "killed_to_gone_ms": killed,
        }


async def _started_ms(folder: str) -> float:
    """Until it takes connections."""
    began = time.perf_counter()
    cluster = await Cluster.attach(folder)
    took = time.perf_counter() - began
    await cluster.detach()
    return took * 1e3


def _another(folder: str) -> "subprocess.Popen[str]":
    """A program that uses the server, and is about to be killed."""
    command = [sys.executable, "-c", USER, folder]
    user = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert user.stdout is not None
    user.stdout.readline()
    return user


async def _gone(folder: str) -> float:
    """Milliseconds until no process of the server is left."""
    began = time.perf_counter()
    lock = files.open_file(Path(folder) / files.RUNNING)
    while not files.is_free(lock):
        await anyio.sleep(0.005)
    return (time.perf_counter() - began) * 1e3
