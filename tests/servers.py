"""Servers that nobody here wrote, each in a process of its own."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

LLAMACPP = """
import os, sys
os.environ["GOMP_SPINCOUNT"] = "0"
import xllamacpp
from aoskernel.drivers.llm import weights
params = xllamacpp.CommonParams()
params.model.path = str(weights.locate(weights.SMOLLM2.name))
params.hostnames, params.port = ["127.0.0.1"], 0
params.n_ctx, params.n_parallel = 2 * 4096, 2
params.cpuparams.n_threads = 1
params.fit_params = params.warmup = False
params.verbosity = -1
server = xllamacpp.Server(params)
print(server.listening_address, flush=True)
sys.stdin.read()
"""
"""llama.cpp's own server with the real model; it ends with its standard input."""


@contextmanager
def llamacpp() -> Iterator[str]:
    """Its URL: two slots of 4,096 tokens; OpenAI's wire under /v1, Anthropic's as well."""
    command = [sys.executable, "-c", LLAMACPP]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        try:
            yield process.stdout.readline().decode().strip()
        finally:
            process.kill()
