"""Servers that nobody here wrote: of embeddings, and of Ollama's wire; each its own process."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

EMBEDDINGS = """
import os, sys
os.environ["GOMP_SPINCOUNT"] = "0"
import xllamacpp
from aoskernel.drivers.llm import weights
params = xllamacpp.CommonParams()
params.model.path = str(weights.locate(weights.SMOLLM2.name))
params.hostnames, params.port = ["127.0.0.1"], 0
params.embedding, params.n_ctx, params.n_parallel = True, 2048, 1
params.pooling_type = xllamacpp.llama_pooling_type.LLAMA_POOLING_TYPE_MEAN
params.cpuparams.n_threads = 1
params.fit_params = params.warmup = False
params.verbosity = -1
server = xllamacpp.Server(params)
print(server.listening_address, file=sys.stderr, flush=True)
sys.stdin.read()
"""


@contextmanager
def embeddings() -> Iterator[str]:
    """llama.cpp's own server with a model of 576 dimensions; OpenAI's wire under /v1."""
    with _listening([sys.executable, "-c", EMBEDDINGS]) as url:
        yield url


@contextmanager
def ollama(backend: str) -> Iterator[str]:
    """An `ollama-proxy` whose model "local/any" is the one of the server at `backend`."""
    command = ["-m", "ollama_proxy", "serve", "--host", "127.0.0.1", "--port", "0"]
    known = {"PROVIDERS_LOCAL_BASE_URL": f"{backend}/v1", "EXTRA_MODELS": "local/any"}
    with _listening([sys.executable, *command], **known) as url:
        yield url


@contextmanager
def _listening(command: list[str], **variables: str) -> Iterator[str]:
    """Start it, and wait for its URL on standard error."""
    environment: Mapping[str, str] = {**os.environ, **variables}
    with subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        env=environment,
    ) as process:
        assert process.stderr is not None
        try:
            lines = iter(process.stderr.readline, b"")
            found = (re.search(rb"http://[\d.:]+", line) for line in lines)
            yield next(one[0].decode() for one in found if one)
        finally:
            process.kill()
