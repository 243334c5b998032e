"""A real Prometheus of Debian's, which scrapes what it is told to and answers PromQL."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest
from postgres import free_port

INSTALL = Path(__file__).parents[1] / ".ci" / "debian-prometheus"
CONFIG = """\
global: {{ scrape_interval: 250ms, scrape_timeout: 200ms }}
scrape_configs:
  - job_name: aosk
    static_configs: [{{ targets: ["127.0.0.1:{port}"] }}]
"""


def installed() -> None:
    """Skips where it is not here and cannot be brought here."""
    if shutil.which("prometheus") and shutil.which("promtool"):
        return
    if os.geteuid() != 0 or subprocess.run([INSTALL], check=False).returncode:
        pytest.skip("needs Debian's Prometheus: run .ci/debian-prometheus as root")


def lint(exposition: str) -> str:
    """What promtool has against it."""
    command = ["promtool", "check", "metrics"]
    done = subprocess.run(command, input=exposition, capture_output=True, text=True, check=False)
    return done.stdout + done.stderr


class Prometheus:
    """Asked by PromQL."""

    def __init__(self, port: int) -> None:
        self._url = f"http://127.0.0.1:{port}/api/v1/query"

    async def ask(self, question: str) -> dict[str, float]:
        """The answer by its labels, written as they are sorted: "a=1 b=2"."""
        async with httpx.AsyncClient(trust_env=False) as client:
            reply = await client.get(self._url, params={"query": question})
        found: list[Any] = reply.raise_for_status().json()["data"]["result"]
        return {_labels(one["metric"]): float(one["value"][1]) for one in found}

    async def until(self, question: str) -> dict[str, float]:
        """The first answer that is not empty."""
        with anyio.fail_after(20):
            while True:
                try:
                    if found := await self.ask(question):
                        return found
                except httpx.HTTPError:  # it is starting
                    pass
                await anyio.sleep(0.05)


def _labels(metric: dict[str, str]) -> str:
    hidden = ("__name__", "instance", "job")
    return " ".join(f"{k}={v}" for k, v in sorted(metric.items()) if k not in hidden)


@contextmanager
def scraping(port: int) -> Iterator[Prometheus]:
    """One that scrapes this port."""
    own = free_port()
    with tempfile.TemporaryDirectory() as home:
        config = Path(home) / "prometheus.yml"
        config.write_text(CONFIG.format(port=port))
        command = ["prometheus", f"--config.file={config}", f"--storage.tsdb.path={home}/data"]
        command += [f"--web.listen-address=127.0.0.1:{own}", "--log.level=error"]
        with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
            try:
                yield Prometheus(own)
            finally:
                process.kill()
