"""How each wire of the model drivers says the same things."""

import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import anyio
from wire import END, Asked, Play, Send, WireServer, chunk, document, head, playing

from aoskernel.drivers.llm.anthropic import Anthropic
from aoskernel.drivers.llm.ollama import Ollama
from aoskernel.drivers.llm.openai import OpenAI
from aoskernel.subsystems.llm.conformance import Model
from aoskernel.subsystems.llm.conformance.prompts import question
from aoskernel.subsystems.llm.driver import LLM, Completion


def event(payload: Any) -> bytes:
    """A server-sent event, named where its payload has a type."""
    told = json.dumps(payload, ensure_ascii=False).encode()
    named = payload.get("type") if isinstance(payload, dict) else None
    return (f"event: {named}\n".encode() if named else b"") + b"data: " + told + b"\n\n"


def line(payload: Any) -> bytes:
    """A line of ndjson."""
    return json.dumps(payload, ensure_ascii=False).encode() + b"\n"


@dataclass(frozen=True)
class Wire:
    """One wire: its driver, and its way to say things.

    `bare` is a whole reply without usage, `refusal` the document that goes with a bad status.
    """

    name: str
    make: Callable[..., LLM]
    path: str
    kind: str
    framed: Callable[[Any], bytes]
    first: tuple[Any, ...]
    delta: Callable[[str], Any]
    last: tuple[Any, ...]
    bare: Callable[[str], tuple[Any, ...]]
    done: bytes
    refusal: Callable[[str, str], Any]

    def __str__(self) -> str:
        return self.name

    def said(self, *texts: str) -> bytes:
        """A whole stream that says this."""
        return self.begun(*texts) + b"".join(map(self.framed, self.last)) + self.done

    def begun(self, *texts: str) -> bytes:
        """A stream that has said this, and is not at its end."""
        return b"".join(map(self.framed, (*self.first, *map(self.delta, texts))))

    def unmeasured(self, text: str) -> bytes:
        """A whole stream without usage."""
        return b"".join(map(self.framed, self.bare(text))) + self.done

    def streamed(self, body: bytes) -> tuple[bytes, ...]:
        """An answer with this body, in one chunk."""
        return head(self.kind), chunk(body), END


def _openai(url: str, **config: Any) -> LLM:
    model: dict[str, Any] = {"model": "tiny", "vendor": "llamacpp", "api_key": None}
    return OpenAI(base_url=f"{url}/v1", **(model | config))


def _openai_delta(text: str) -> Any:
    return {"choices": [{"index": 0, "delta": {"content": text}, "finish_reason": None}]}


OPENAI = Wire(
    name="openai",
    make=_openai,
    path="/v1/chat/completions",
    kind="text/event-stream",
    framed=event,
    first=({"choices": [{"index": 0, "delta": {"role": "assistant", "content": ""}}]},),
    delta=_openai_delta,
    last=(
        {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]},
        {"choices": [], "usage": {"prompt_tokens": 7, "completion_tokens": 5}},
    ),
    bare=lambda text: (
        _openai_delta(text),
        {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]},
    ),
    done=b"data: [DONE]\n\n",
    refusal=lambda code, message: {"error": {"type": code, "code": code, "message": message}},
)


def _anthropic(url: str, **config: Any) -> LLM:
    model: dict[str, Any] = {"model": "tiny", "vendor": "llamacpp"}
    return Anthropic(base_url=url, **(model | config))


ANTHROPIC = Wire(
    name="anthropic",
    make=_anthropic,
    path="/v1/messages",
    kind="text/event-stream",
    framed=event,
    first=(
        {
            "type": "message_start",
            "message": {"id": "m", "usage": {"input_tokens": 7, "output_tokens": 1}},
        },
        {
            "type": "content_block_start",
            "index": 0,
            "content_block": {"type": "text", "text": ""},
        },
    ),
    delta=lambda text: {
        "type": "content_block_delta",
        "index": 0,
        "delta": {"type": "text_delta", "text": text},
    },
    last=(
        {"type": "content_block_stop", "index": 0},
        {
            "type": "message_delta",
            "delta": {"stop_reason": "end_turn"},
            "usage": {"output_tokens": 5},
        },
        {"type": "message_stop"},
    ),
    bare=lambda text: (
        {"type": "message_start", "message": {"id": "m"}},
        {
            "type": "content_block_start",
            "index": 0,
            "content_block": {"type": "text", "text": text},
        },
        {"type": "content_block_stop", "index": 0},
        {"type": "message_delta", "delta": {"stop_reason": "end_turn"}},
        {"type": "message_stop"},
    ),
    done=b"",
    refusal=lambda code, message: {
        "type": "error",
        "error": {"type": code, "message": message},
    },
)


def _ollama(url: str, **config: Any) -> LLM:
    model: dict[str, Any] = {"model": "tiny"}
    return Ollama(base_url=url, **(model | config))


OLLAMA = Wire(
    name="ollama",
    make=_ollama,
    path="/api/chat",
    kind="application/x-ndjson",
    framed=line,
    first=(),
    delta=lambda text: {
        "model": "tiny",
        "message": {"role": "assistant", "content": text},
        "done": False,
    },
    last=(
        {
            "model": "tiny",
            "message": {"role": "assistant", "content": ""},
            "done": True,
            "done_reason": "stop",
            "prompt_eval_count": 7,
            "eval_count": 5,
        },
    ),
    bare=lambda text: (
        {"message": {"role": "assistant", "content": text}, "done": True, "done_reason": "stop"},
    ),
    done=b"",
    refusal=lambda code, message: {"error": f"{message} ({code})"},
)


@dataclass
class Talk:
    """A started driver and the server it talks to."""

    model: Model
    server: WireServer
    wire: Wire

    @property
    def asked(self) -> list[Asked]:
        """The calls that came in."""
        return [asked for asked in self.server.asked if asked.path == self.wire.path]

    async def ask(self, text: str = "Hello?") -> Completion:
        return await self.model.ask(question(text, most=50))


@asynccontextmanager
async def talking(of: Wire, play: Play, **config: Any) -> AsyncIterator[Talk]:
    """A driver of this wire, whose calls are answered by `play`."""

    async def answer(asked: Asked, send: Send) -> bool | None:
        if asked.path == "/api/show":  # what Ollama's driver asks at its start
            await send(document(b"404 page not found", status=404, kind="text/plain"))
            return True
        return await play(asked, send)

    with anyio.fail_after(PATIENCE_S):
        async with playing(answer) as server:
            driver = of.make(server.url, **config)
            try:
                await driver.start()
                yield Talk(Model(driver), server, of)
            finally:
                await driver.stop()


def silence(*after: bytes) -> Play:
    """Send these parts and nothing more, for as long as the test takes."""

    async def play(asked: Asked, send: Send) -> bool:
        for part in after:
            await send(part)
        await anyio.sleep_forever()
        return False

    return play


PATIENCE_S = 20
WIRES = (OPENAI, ANTHROPIC, OLLAMA)
EVENTS = (OPENAI, ANTHROPIC)
"""Those that send server-sent events."""
