"""Servers that nobody here wrote, each in a process of its own that ends with its standard input.

A server prints its URL on a line of its own when it listens.
"""

import json
import re
import select
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
START_S = 60
STOP_S = 1

LLAMACPP = """
import os, sys
os.environ["GOMP_SPINCOUNT"] = "0"
import xllamacpp
from aoskernel.drivers.llm import weights
params = xllamacpp.CommonParams()
params.model.path = str(weights.locate(weights.SMOLLM2.name))
params.hostnames, params.port = ["127.0.0.1"], int(sys.argv[1])
params.n_ctx, params.n_parallel = 2 * 4096, 2
params.cpuparams.n_threads = 1
params.fit_params = params.warmup = False
params.verbosity = -1
server = xllamacpp.Server(params)
print(server.listening_address, flush=True)
sys.stdin.read()
"""

LLMOCK = """
import sys
from llmock.testing import LLMockServer
with LLMockServer() as server:
    print(server.url, flush=True)
    sys.stdin.read()
"""

OLLAMA = """
import os, socket, sys, threading
os.environ.update(PROVIDERS_LOCAL_BASE_URL=sys.argv[1], PROVIDERS_LOCAL_API_KEY="none")
import uvicorn
from ollama_proxy.server import app
listener = socket.create_server(("127.0.0.1", 0))
server = uvicorn.Server(uvicorn.Config(app, log_level="warning", lifespan="off"))
print(f"http://127.0.0.1:{listener.getsockname()[1]}", flush=True)
threading.Thread(target=lambda: (sys.stdin.read(), os._exit(0)), daemon=True).start()
server.run(sockets=[listener])
"""

AIMOCK = "@copilotkit/aimock@1.43.0"
NODE = ROOT / ".venv" / "node" / AIMOCK.rpartition("@")[2]

WITH_ITS_INPUT = '"$@" & server=$!; trap "kill $server" EXIT; cat'
"""For a server that does not end with its standard input by itself."""


@contextmanager
def llamacpp() -> Iterator[str]:
    """llama.cpp's own server with the real model: two slots of 4,096 tokens.

    OpenAI's wire is under /v1, Anthropic's at the root.
    """
    with _served([sys.executable, "-c", LLAMACPP, "0"]) as url:
        yield url


class Mortal:
    """llama.cpp's server at an address of its own, to be killed and started again."""

    def __init__(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            self._port = free.getsockname()[1]
        self._process: subprocess.Popen[bytes] | None = None
        self.url = f"http://127.0.0.1:{self._port}"

    def start(self) -> None:
        """Begin; it takes seconds until it answers."""
        command, pipe = [sys.executable, "-c", LLAMACPP, str(self._port)], subprocess.PIPE
        self._process = subprocess.Popen(command, stdin=pipe, stdout=pipe)

    def listen(self) -> None:
        """It answers when this returns."""
        assert self._process is not None
        _address(self._process)

    def kill(self) -> None:
        """SIGKILL, in the middle of whatever it does."""
        if self._process is not None:
            with self._process:
                self._process.kill()


@contextmanager
def llmock() -> Iterator[str]:
    """A mock with faults: OpenAI's wire under /v1, Anthropic's under /anthropic."""
    with _served([sys.executable, "-c", LLMOCK]) as url:
        yield url


@contextmanager
def counting() -> Iterator[str]:
    """A provider that counts what it is asked; see counting_server.py. OpenAI's wire under /v1."""
    with _served([sys.executable, str(Path(__file__).with_name("counting_server.py"))]) as url:
        yield url


@contextmanager
def ollama(openai_url: str) -> Iterator[str]:
    """Ollama's wire before the server at this URL; its model is local/NAME."""
    with _served([sys.executable, "-c", OLLAMA, openai_url]) as url:
        yield url


@contextmanager
def aimock(fixtures: Sequence[dict[str, Any]]) -> Iterator[str]:
    """A mock that says what the fixtures say, on all three wires. Skips without npm."""
    program = _aimock_program()
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "fixtures.json").write_text(json.dumps({"fixtures": fixtures}), "utf-8")
        server = [str(program), "-p", "0", "-f", folder]
        with _served(["sh", "-c", WITH_ITS_INPUT, "sh", *server]) as url:
            yield url


def _aimock_program() -> Path:
    """Where it is installed; the first time it is brought from npm, in its pinned version."""
    program = NODE / "node_modules" / ".bin" / "llmock"
    if program.exists():
        return program
    npm = shutil.which("npm")
    if npm is None:
        pytest.skip("npm is not installed; aimock comes from there")
    command = [npm, "install", "--no-audit", "--no-fund", "--prefix", str(NODE), AIMOCK]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    if done.returncode:
        pytest.skip(f"npm could not install {AIMOCK}: {done.stderr[-300:]}")
    return program


@contextmanager
def _served(command: list[str]) -> Iterator[str]:
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        try:
            yield _address(process)
        finally:
            assert process.stdin is not None
            process.stdin.close()
            try:
                process.wait(STOP_S)
            except subprocess.TimeoutExpired:
                process.kill()


def _address(process: subprocess.Popen[bytes]) -> str:
    """The first URL that it prints. Raises RuntimeError when none comes in time."""
    assert process.stdout is not None
    printed = b""
    while select.select([process.stdout], [], [], START_S)[0]:
        line = process.stdout.readline()
        if found := re.search(rb"http://[\w.:]+", line):
            return found[0].decode().replace("localhost", "127.0.0.1")
        printed += line
        if not line:
            break
    raise RuntimeError(f"the server did not start: {printed.decode(errors='replace')}")
