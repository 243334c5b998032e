"""Kernels that are really killed, or frozen and thawed, while they act on the world outside."""

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

import anyio
import anyio.to_thread
import pytest
import shop_app
from one_storage import reached, until

from aoskernel import spawn
from aoskernel.subsystems.processes.messages import Resolve

APP = Path(shop_app.__file__)


class Town:
    """The world outside, and where the applications keep their log."""

    def __init__(self, folder: Path, world: Path) -> None:
        self.folder, self.world, self.namespace = str(folder), world, uuid4().hex
        self.shut = world / "shut"
        self.shut.touch()

    @property
    def orders(self) -> list[str]:
        lines = (path.read_text().splitlines() for path in self.world.glob("order *"))
        return [line for order in lines for line in order]

    @contextmanager
    def application(self) -> Iterator[subprocess.Popen[str]]:
        command = [sys.executable, str(APP), self.folder, self.namespace, str(self.world)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as running:
            try:
                yield running
            finally:
                running.kill()

    async def called(self) -> None:
        """The shop has its call."""
        await until((self.world / "reached").exists, seconds=30)


@pytest.fixture
def town(server_folder: Path, tmp_path: Path) -> Town:
    return Town(server_folder, tmp_path)


async def test_not_done_counts_when_the_former_kernel_was_killed_on_this_machine(
    town: Town,
) -> None:
    with town.application() as lost:
        await town.called()
        lost.kill()
    town.shut.unlink()
    async with shop_app.kernel(town.folder, town.namespace, town.world) as kernel:
        with anyio.fail_after(20):
            assert await (await spawn(kernel, shop_app.errand(), key="errand")) == "bought tea"
    assert town.orders == ["tea"]


async def test_a_frozen_kernel_that_thaws_after_the_take_over_changes_nothing_in_the_log(
    town: Town,
) -> None:
    with town.application() as frozen:
        await town.called()
        frozen.send_signal(signal.SIGSTOP)
        async with shop_app.kernel(town.folder, town.namespace, town.world) as kernel:
            with anyio.fail_after(40):
                agent = await spawn(kernel, shop_app.errand(), key="errand")
                record = await reached(kernel, agent.pid, "stopped", seconds=20)
                assert "has only fallen silent" in str(record.error)
                town.shut.unlink()
                frozen.send_signal(signal.SIGCONT)
                await until(lambda: town.orders, seconds=20)  # nobody could prevent that
                assert (await agent.status()).record.state == "stopped"
                said = Resolve(pid=agent.pid, outcome="done", result="seen in the shop")
                await kernel.request(said)
                assert await agent == "seen in the shop"
                assert frozen.stdout is not None
                assert await anyio.to_thread.run_sync(frozen.stdout.readline) == (
                    "seen in the shop\n"  # it goes on as one that waits for another's process
                )
    assert town.orders == ["tea"]
