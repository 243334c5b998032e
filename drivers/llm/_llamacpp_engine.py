"""llama.cpp running in this process: its server, and the threads that wait for it."""

import asyncio
import json
import os
import secrets
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

import anyio
import httpx

from ...subsystems.llm.driver import ModelMissing, ModelUnavailable

T = TypeVar("T")

Chunk = dict[str, Any]
"""One event of llama.cpp's stream, as parsed from its JSON."""

BUFFERED = 32
"""Chunks between the thread and the loop before the thread waits."""

BATCH = 128
"""Prompt tokens between two chances to cancel a prefill; 512 is some 15 % faster."""

END_S = 60
"""How long a cut request may take to end its batch; beyond it, its thread is given up."""


@dataclass(frozen=True, kw_only=True)
class Setup:
    """What llama.cpp is started with. The window in tokens per slot, memory in MiB."""

    path: Path
    context_window: int
    slots: int
    threads: int
    prefill_threads: int
    prompt_cache_mib: int


class Engine:
    """A loaded model. Whoever starts a stream holds one of its `permits`, one for each slot."""

    def __init__(
        self, server: Any, pool: ThreadPoolExecutor, http: httpx.AsyncClient, slots: int
    ) -> None:
        self.permits = anyio.Semaphore(slots)
        self.window = 0
        self._server = server
        self._pool = pool
        self._http = http
        self._streams: set[Stream] = set()

    @classmethod
    async def load(cls, setup: Setup) -> Self:
        """Load the weights. Raises ModelMissing.

        The library keeps the interpreter's lock while it loads, so the loop stands still
        meanwhile, whichever thread does it: half a second for 100 MB.
        """
        library, key = _library(), secrets.token_urlsafe(32)
        pool = ThreadPoolExecutor(setup.slots, thread_name_prefix="llamacpp")
        try:
            server = await _in_thread(pool, lambda: _open(library, setup, key))
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
        return cls(server, pool, _client(server.listening_address, key), setup.slots)

    async def measure(self) -> None:
        """Learn the window of one slot, which llama.cpp rounds and a model may limit."""
        told = await self.ask("/props")
        self.window = told["default_generation_settings"]["n_ctx"]

    def stream(self, body: Chunk) -> "Stream":
        """Send this chat request; enter and iterate what comes."""
        if self._server is None:
            raise ModelUnavailable("the model has been stopped")
        handle = self._server.handle_chat_completions
        return Stream(self._pool, self._streams, partial(handle, json.dumps(body).encode()))

    async def close(self) -> None:
        """Cut what still runs, wait for the threads, free the model."""
        self._server = None
        for stream in list(self._streams):
            await stream.close()
        self._pool.shutdown(wait=not self._streams, cancel_futures=True)
        await self._http.aclose()

    async def ask(self, path: str, body: Chunk | None = None) -> Chunk:
        """Ask what needs no slot, over the loopback address that the server listens on."""
        method = "GET" if body is None else "POST"
        try:
            response = await self._http.request(method, path, json=body)
            said: Chunk = response.json()
        except (httpx.HTTPError, ValueError) as error:
            raise ModelUnavailable(f"llama.cpp did not answer {path}: {error!r}") from error
        return said


class Stream:
    """One chat request, in a thread of its own; its chunks come to the loop in order.

        async with engine.permits, engine.stream(body) as chunks:
            async for chunk in chunks: ...

    A reader that lags makes the thread wait, not llama.cpp itself, which runs ahead by at
    most the request's token limit.
    """

    def __init__(
        self,
        pool: ThreadPoolExecutor,
        siblings: "set[Stream]",
        handle: Callable[[Callable[[bytes], bool]], None],
    ) -> None:
        self._pool = pool
        self._siblings = siblings
        self._handle = handle
        self._loop = asyncio.get_running_loop()
        self._room = threading.Semaphore(BUFFERED)
        self._cut = False
        self._failure: Exception | None = None
        self._ended = anyio.Event()
        self._sender, self._receiver = anyio.create_memory_object_stream[Chunk](BUFFERED)

    async def __aenter__(self) -> Self:
        self._siblings.add(self)
        self._pool.submit(self._run)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Chunk:
        try:
            chunk = await self._receiver.receive()
        except (anyio.EndOfStream, anyio.ClosedResourceError):
            if self._failure:
                raise ModelUnavailable(f"llama.cpp failed: {self._failure}") from self._failure
            raise StopAsyncIteration from None
        self._room.release()
        return chunk

    async def close(self) -> None:
        """Cut the generation and wait, also when cancelled, until the thread has ended."""
        self._cut = True
        self._room.release()
        try:
            with anyio.move_on_after(END_S, shield=True):
                await self._ended.wait()
        finally:
            self._receiver.close()

    def _run(self) -> None:
        try:
            self._handle(self._push)
        except Exception as error:  # noqa: BLE001
            self._failure = error
        finally:
            del self._handle
            self._loop.call_soon_threadsafe(self._end)

    def _push(self, chunk: bytes) -> bool:
        """Called by llama.cpp, in the thread; True stops the generation."""
        self._room.acquire()
        if not self._cut:
            self._loop.call_soon_threadsafe(self._arrive, json.loads(chunk))
        return self._cut

    def _arrive(self, chunk: Chunk) -> None:
        if not self._cut:
            self._sender.send_nowait(chunk)

    def _end(self) -> None:
        self._sender.close()
        self._siblings.discard(self)
        self._ended.set()


def _library() -> Any:
    # Without it, idle inference threads spin and starve whatever else shares the cores.
    os.environ.setdefault("GOMP_SPINCOUNT", "0")
    try:
        import xllamacpp
    except ImportError as error:
        raise ModelMissing(
            "the driver 'llamacpp' needs llama.cpp: pip install 'aoskernel[local]'"
        ) from error
    return xllamacpp


def _open(library: Any, setup: Setup, key: str) -> Any:
    with setup.path.open("rb") as file:
        if file.read(4) != b"GGUF":
            raise ModelMissing(f"{setup.path} is not a GGUF file")
    try:
        return library.Server(_params(library, setup, key))
    except RuntimeError as error:
        raise ModelMissing(
            f"llama.cpp cannot load {setup.path}: the file is damaged, of a kind that this "
            f"version does not know, or larger than the memory"
        ) from error


def _params(library: Any, setup: Setup, key: str) -> Any:
    params = library.CommonParams()
    params.model.path = str(setup.path)
    params.n_ctx = setup.context_window * setup.slots  # llama.cpp divides it among the slots
    params.n_parallel = setup.slots
    params.n_batch = params.n_ubatch = BATCH
    params.cpuparams.n_threads = setup.threads
    params.cpuparams_batch.n_threads = setup.prefill_threads
    params.cache_ram_mib = setup.prompt_cache_mib
    params.fit_params = params.warmup = False
    params.verbosity = -1
    # The server listens whether one wants it or not: on loopback only, and with a key.
    params.hostnames = ["127.0.0.1"]
    params.api_keys = [key]
    params.cors_origins = ""
    params.ui = params.endpoint_slots = False
    params.n_threads_http = 2
    return params


def _client(address: str, key: str) -> httpx.AsyncClient:
    return httpx.AsyncClient(
        base_url=address,
        headers={"Authorization": f"Bearer {key}"},
        # A kept-alive connection holds one of the server's two threads, and it drops them.
        limits=httpx.Limits(max_keepalive_connections=0),
        timeout=30,
        trust_env=False,
    )


async def _in_thread(pool: ThreadPoolExecutor, work: Callable[[], T]) -> T:
    return await asyncio.get_running_loop().run_in_executor(pool, work)
