"""A local server that streams, and how a client's calls to it are measured."""

import asyncio
import json
import statistics
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any

from aoskernel.subsystems.llm.driver import LLM, ChatMessage, Complete, Meter

from .case import Effort, Figures

TOKENS = 100
AT_ONCE = 300
STREAM_S = 5.0
"""How long each of the streams that run at once takes."""

Ask = Callable[[Callable[[], None]], Awaitable[str]]
"""One call to the end; it calls back at the first piece of text, and gives the whole."""


@asynccontextmanager
async def serving() -> AsyncIterator[str]:
    """Its URL, in a process of its own, so that a client's CPU time is the client's."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", f"{__package__}.served"),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert process.stdout is not None
    try:
        yield (await process.stdout.readline()).decode().strip()
    finally:
        process.kill()
        await process.wait()


async def measure(ask: Ask, ask_slow: Ask, effort: Effort) -> Figures:
    """CPU for a call, the time to its first token, and the longest stall with many at once."""
    await _checked(ask, lambda: None)
    figures = {
        "call_us": await _cpu_us(ask, effort),
        "first_token_us": await _first_token_us(ask, effort),
    }
    return figures | await _at_once(ask_slow, 20 if effort.seconds == 0 else AT_ONCE)


async def _checked(ask: Ask, began: Callable[[], None]) -> None:
    text = await ask(began)
    assert text == "".join(_words()), text


async def _cpu_us(ask: Ask, effort: Effort) -> float:
    done, began = 0, time.process_time()
    while not done or time.process_time() - began < effort.seconds:
        await _checked(ask, lambda: None)
        done += 1
    return (time.process_time() - began) / done * 1e6


async def _first_token_us(ask: Ask, effort: Effort) -> float:
    taken: list[float] = []
    for _ in range(1 if effort.seconds == 0 else 60):
        began = time.perf_counter()
        await _checked(ask, lambda began=began: taken.append(time.perf_counter() - began))
    return statistics.median(taken) * 1e6


async def _at_once(ask: Ask, calls: int) -> Figures:
    """The longest time the loop stood still while the streams ran, and their CPU time."""
    gaps: list[float] = []
    cpu = time.process_time()
    async with asyncio.TaskGroup() as group:
        watch = group.create_task(_watch(gaps))
        async with asyncio.TaskGroup() as streams:
            for _ in range(calls):
                streams.create_task(_checked(ask, lambda: None))
        watch.cancel()
    return {
        "stall_at_300_ms": max(gaps) * 1e3,
        "call_at_300_us": (time.process_time() - cpu) / calls * 1e6,
    }


async def _watch(gaps: list[float]) -> None:
    before = time.perf_counter()
    while True:
        await asyncio.sleep(0.001)
        now = time.perf_counter()
        gaps.append(now - before - 0.001)
        before = now


@asynccontextmanager
async def started(make: Callable[..., LLM], url: str) -> AsyncIterator[Any]:
    """A driver of ours as an `Ask` that takes the model's name: "served" or "slow"."""
    config: dict[str, Any] = {"vendor": "llamacpp", "base_url": url, "slots": AT_ONCE}
    drivers = {name: make(model=name, **config) for name in ("served", "slow")}
    prompt = Complete(messages=(ChatMessage(role="user", text="Hello."),))

    async def ask(began: Callable[[], None], model: str = "served") -> str:
        pending = [began]

        async def emit(text: str, kind: str = "text", /) -> None:
            if pending:
                pending.pop()()

        return (await drivers[model].complete(prompt, emit, Meter())).text

    for driver in drivers.values():
        await driver.start()
    try:
        yield ask
    finally:
        for driver in drivers.values():
            await driver.stop()


# The server: as little as possible between a request and its stream.


def _words() -> Iterator[str]:
    return (f"word{number} " for number in range(TOKENS))


def _openai() -> Iterator[dict[str, Any]]:
    top = {"id": "c1", "object": "chat.completion.chunk", "created": 1, "model": "served"}
    for word in _words():
        delta = {"role": "assistant", "content": word}
        yield top | {"choices": [{"index": 0, "delta": delta, "finish_reason": None}]}
    yield top | {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}
    usage = {"prompt_tokens": 9, "completion_tokens": TOKENS, "total_tokens": 9 + TOKENS}
    yield top | {"choices": [], "usage": usage}


def _anthropic() -> Iterator[dict[str, Any]]:
    message = {"id": "m1", "type": "message", "role": "assistant", "content": [], "model": "served"}
    usage = {"input_tokens": 9, "output_tokens": 1}
    ended = {"stop_reason": None, "stop_sequence": None}
    yield {"type": "message_start", "message": message | ended | {"usage": usage}}
    block = {"type": "text", "text": ""}
    yield {"type": "content_block_start", "index": 0, "content_block": block}
    for word in _words():
        delta = {"type": "text_delta", "text": word}
        yield {"type": "content_block_delta", "index": 0, "delta": delta}
    yield {"type": "content_block_stop", "index": 0}
    end = {"stop_reason": "end_turn", "stop_sequence": None}
    yield {"type": "message_delta", "delta": end, "usage": {"output_tokens": TOKENS}}
    yield {"type": "message_stop"}


def _event(payload: dict[str, Any] | str) -> bytes:
    if isinstance(payload, str):
        return _chunk(f"data: {payload}\n\n".encode())
    name = f"event: {payload['type']}\n" if "type" in payload else ""
    return _chunk(f"{name}data: {json.dumps(payload)}\n\n".encode())


def _chunk(data: bytes) -> bytes:
    return f"{len(data):x}\r\n".encode() + data + b"\r\n"


HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"


async def _serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    replies = {
        b"chat": [*map(_event, _openai()), _event("[DONE]"), _chunk(b"")],
        b"mess": [*map(_event, _anthropic()), _chunk(b"")],
    }
    try:
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            size = head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0]
            body = await reader.readexactly(int(size))
            parts = replies[b"chat" if b"/chat/completions" in head else b"mess"]
            writer.write(HEAD)
            pause = STREAM_S / len(parts) if b'"slow"' in body else 0
            for part in parts:
                writer.write(part)
                if pause:
                    await asyncio.sleep(pause)
            await writer.drain()
    except (asyncio.IncompleteReadError, ConnectionError):
        writer.close()


async def _main() -> None:
    server = await asyncio.start_server(_serve, "127.0.0.1", 0, backlog=1024)
    print(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(_main())
