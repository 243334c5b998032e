"""A database that others left something in, and `aosk up` as a supervisor starts it."""

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import anyio

from aoskernel import Kernel, spawn
from aoskernel.kernel.config import Config, build
from aoskernel.subsystems.processes.messages import Inspect, ProcessExited, ProcessParked
from aoskernel.subsystems.processes.program import Invocation, Program
from aoskernel.subsystems.storage.messages import (
    AddProcess,
    Commit,
    NewPid,
    Pid,
    ProcessRecord,
    ReadLog,
)

HERE = Path(__file__).parent
NOTES = "The standup moved to Friday at ten.\n"
What = Invocation[Any] | Program[Any]

CONFIG = """\
[services.storage]
driver = "embedded"
folder = "{folder}"
namespace = "{namespace}"
settings = {{ fsync = "off" }}
lease_s = 0.6

[services.processes]
programs = {programs}
adopt_every_s = 0.2
park_after_s = {park_after_s}
drain_s = {drain_s}

[services."llm.default"]
driver = "scripted"

[[services."llm.default".rules]]
when = 'moved to (\\w+)'
say = "It moved to {{1}}."

[[services."llm.default".rules]]
when = 'What does (\\S+) say'
role = "user"
call = "read_file"
arguments = {{ path = "{{1}}" }}

[[services."llm.default".rules]]
say = "Friday"

[services."tools.files"]
root = "{root}"

[services."tools.errands"]
driver = "python"
functions = ["errands:write_line", "errands:order_item", "errands:hang"]

[services.memory]
use = "memory_by_words"

[services.policy]
allow = ["llm.complete:*", "tools.call:*"]
"""


def configure(
    home: Path, folder: Path, programs: tuple[str, ...] = ("errands",), **more: Any
) -> Path:
    """Write an aosk.toml, on the embedded server of this folder."""
    given = {"park_after_s": 300, "drain_s": 5, "namespace": uuid4().hex, **more}
    text = CONFIG.format(folder=folder, programs=json.dumps(list(programs)), root=home, **given)
    (home / "aosk.toml").write_text(text, "utf-8")
    (home / "notes.txt").write_text(NOTES, "utf-8")
    return home / "aosk.toml"


class Daemon:
    """`aosk up` in an operating-system process of its own."""

    def __init__(self, config: Path, home: Path) -> None:
        self._log = home / "log"
        self._line = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._line.settimeout(30)
        self._line.bind(str(home / "notify"))
        command = [sys.executable, "-W", "error", "-m", "aoskernel", "up", "-c", str(config)]
        there = {**os.environ, "NOTIFY_SOCKET": str(home / "notify"), "PYTHONPATH": str(HERE)}
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                command, cwd=config.parent, env=there, stderr=log, stdout=log
            )

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def log(self) -> str:
        return self._log.read_text()

    @property
    def lines(self) -> list[str]:
        """Of its log, those that are whole."""
        return self.log.rpartition("\n")[0].splitlines()

    def told(self) -> str:
        """What it tells its supervisor next."""
        try:
            return self._line.recv(100).decode()
        except TimeoutError:
            raise AssertionError(self.log) from None

    def logs(self, fact: str) -> None:
        """Wait until it does."""
        deadline = time.monotonic() + 30
        while fact not in self.log:
            assert time.monotonic() < deadline, self.log
            time.sleep(0.02)

    def send(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    def ended(self) -> int:
        """Its exit code."""
        return self._process.wait(30)

    def ended_by(self, number: signal.Signals) -> int:
        """Its exit code, when it is told again and again."""
        deadline = time.monotonic() + 30
        while self._process.poll() is None:
            assert time.monotonic() < deadline, self.log
            self.send(number)
            time.sleep(0.05)
        return self._process.returncode

    def end(self) -> None:
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait(30)
        self._line.close()


@contextmanager
def up(config: Path) -> Iterator[Daemon]:
    """Ready; killed in the end, unless it has ended."""
    with tempfile.TemporaryDirectory() as home:
        daemon = Daemon(config, Path(home))
        try:
            assert daemon.told() == "READY=1"
            yield daemon
        finally:
            daemon.end()


def dies(config: Path) -> None:
    """Run one to its death."""
    with tempfile.TemporaryDirectory() as home:
        daemon = Daemon(config, Path(home))
        try:
            daemon.ended()
        finally:
            daemon.end()


def leave(config: Path, *what: What) -> list[Pid]:
    """Processes that were born, and whose kernel has gone before they said anything."""

    async def left() -> list[Pid]:
        storage = build("storage", Config.load(config).services["storage"])
        with anyio.fail_after(60):
            async with Kernel(storage) as kernel:
                return [await _born(kernel, one) for one in what]

    return anyio.run(left)


def left_in_doubt(config: Path, what: What, *, calls: int) -> Pid:
    """A process whose kernel has gone while so many calls were under way, and that is stopped."""

    async def left() -> Pid:
        with anyio.fail_after(60):
            cut = {"processes": {"drain_s": 0.0}}
            async with Kernel.from_config(config, services=cut) as kernel:
                pid = (await spawn(kernel, what)).pid
                while len(await kernel.request(ReadLog(pid=pid))) < calls:
                    await anyio.sleep(0.01)
            async with Kernel.from_config(config) as kernel:
                while (await kernel.request(Inspect(pid=pid))).record.state != "stopped":
                    await anyio.sleep(0.01)
        return pid

    return anyio.run(left)


async def _born(kernel: Kernel, what: What) -> Pid:
    pid, definition = await kernel.request(NewPid()), what.definition
    state = what if isinstance(what, Program) else what.state
    record = ProcessRecord(
        pid=pid,
        program=definition.name,
        version=definition.version,
        state_json=state.model_dump_json(),
    )
    await kernel.request(Commit(pid=pid, epoch=0, writes=(AddProcess(record=record),)))
    return pid


def run(config: Path, *what: What, key: str | None = None) -> list[Pid]:
    """Processes that a kernel has run until they ended, or had nothing to do but wait."""

    async def ran() -> list[Pid]:
        with anyio.fail_after(60):
            async with (
                Kernel.from_config(config, services={"processes": {"park_after_s": 0}}) as kernel,
                kernel.listen("process.*") as events,
            ):
                pids = [(await spawn(kernel, one, key=key)).pid for one in what]
                at_work = set(pids)
                async for event in events:
                    if isinstance(event, ProcessExited | ProcessParked):
                        at_work.discard(event.pid)
                    if not at_work:
                        return pids
        raise AssertionError("the kernel has ended")

    return anyio.run(ran)


def lines(file: Path, least: int) -> list[list[str]]:
    """The words of each line, once there are so many; another process writes them."""
    deadline = time.monotonic() + 30
    while not file.exists() or len(file.read_text().splitlines()) < least:
        assert time.monotonic() < deadline, file
        time.sleep(0.02)
    return [line.split() for line in file.read_text().splitlines()]
