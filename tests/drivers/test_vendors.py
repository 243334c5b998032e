"""Each row of the vendor table against what its vendor's reference says it sends and takes.

A fixture is transcribed in the shape that its `source` gives, or recorded from the server
itself; `made` says which, and `unchecked` names the parts whose wording nobody has compared
with the page yet. It is played over a real socket to the row's driver.
"""

import json
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import anyio
import pytest
import wire

from aoskernel.drivers._vendors import table
from aoskernel.kernel.config import installed, load
from aoskernel.subsystems.llm import driver as errors
from aoskernel.subsystems.llm.driver import (
    LLM,
    ChatMessage,
    Complete,
    Completion,
    Meter,
    ModelError,
    Sampling,
    ToolSpec,
    Vendor,
    Wire,
)

FIXTURES = Path(__file__).parent / "vendors"
PATIENCE_S = 20
KEY = "test-key"
WEATHER = ToolSpec(
    name="get_weather",
    description="The weather of a city.",
    parameters={
        "type": "object",
        "properties": {"city": {"type": "string"}},
        "required": ["city"],
    },
)
ASK = (
    ChatMessage(role="system", text="You are brief."),
    ChatMessage(role="user", text="What is the weather in Beijing?"),
)


class Row(NamedTuple):
    """A vendor, one of its wires that there is a driver for, and the fixture of both."""

    vendor: Vendor
    wire: Wire
    told: Any

    def __str__(self) -> str:
        return f"{self.vendor.name}-{self.wire}"

    @property
    def path(self) -> str:
        """What of the row's own URL stands behind the host."""
        return urlsplit(self.vendor.endpoints[self.wire].base_url).path.rstrip("/")

    @property
    def can_tools(self) -> bool:
        known = self.vendor.model(self.told["model"])
        return known is None or known.can.tools


def rows() -> Iterator[Row]:
    for vendor in table().values():
        for spoken in vendor.endpoints:
            if spoken in installed("aoskernel.drivers.llm"):
                text = (FIXTURES / f"{vendor.name}.{spoken}.json").read_text("utf-8")
                yield Row(vendor, spoken, json.loads(text))


ROWS = [pytest.param(row, id=str(row)) for row in rows()]
REFUSALS = [
    pytest.param(row, refusal, id=f"{row}-{refusal['what']}")
    for row in rows()
    for refusal in row.told["errors"]
]

each_row = pytest.mark.parametrize("row", ROWS)


def streamed(spoken: Wire, payloads: Iterable[Any]) -> list[bytes]:
    """The payloads as this wire streams them; a string is a comment between events."""
    if spoken == "ollama":
        lines = [json.dumps(payload, ensure_ascii=False).encode() for payload in payloads]
        return [wire.head("application/x-ndjson"), *(wire.chunk(one + b"\n") for one in lines)]
    parts = [wire.head()]
    for payload in payloads:
        if isinstance(payload, str):
            parts.append(wire.chunk(payload.encode() + b"\n\n"))
        else:
            parts += wire.events([payload], done=False)
    return [*parts, *(wire.events([]) if spoken == "openai" else [])]


@asynccontextmanager
async def talking(
    row: Row, monkeypatch: pytest.MonkeyPatch, *parts: bytes
) -> AsyncIterator[tuple[LLM, wire.WireServer]]:
    """The row's driver, its key in the environment, at a server that plays these parts."""
    path = row.path + row.told["request"]["path"]

    async def play(asked: wire.Asked, send: wire.Send) -> bool:
        for part in parts if asked.path == path else (wire.document({}, status=404),):
            await send(part)
        return True

    if row.vendor.key:
        monkeypatch.setenv(row.vendor.key, KEY)
    make: Callable[..., LLM] = load("aoskernel.drivers.llm", row.wire, "driver")
    with anyio.fail_after(PATIENCE_S):
        async with wire.playing(play) as server:
            driver = make(
                model=row.told["model"], vendor=row.vendor.name, base_url=server.url + row.path
            )
            await driver.start()
            try:
                yield driver, server
            finally:
                await driver.stop()


async def ask(driver: LLM, row: Row, *more: ChatMessage) -> Completion:
    async def emit(*_: str) -> None: ...

    tools = (WEATHER,) if row.can_tools else ()
    request = Complete(messages=(*ASK, *more), tools=tools, sampling=Sampling(max_tokens=100))
    return await driver.complete(request, emit, Meter())


async def answer(row: Row, monkeypatch: pytest.MonkeyPatch) -> tuple[Completion, wire.Asked]:
    """The reply that the fixture holds, and what was asked for it."""
    parts = (*streamed(row.wire, row.told["reply"]["payloads"]), wire.END)
    async with talking(row, monkeypatch, *parts) as (driver, server):
        return await ask(driver, row), server.asked[-1]


@each_row
async def test_a_row_is_asked_where_it_listens(row: Row, monkeypatch: pytest.MonkeyPatch) -> None:
    _, asked = await answer(row, monkeypatch)
    assert asked.method == "POST"
    assert asked.path == row.path + row.told["request"]["path"]


@each_row
async def test_a_row_gets_its_key_in_its_header(row: Row, monkeypatch: pytest.MonkeyPatch) -> None:
    _, asked = await answer(row, monkeypatch)
    expected = row.told["request"]["headers"]
    assert {name: asked.headers.get(name) for name in expected} == expected


@each_row
async def test_a_row_gets_the_fields_that_it_knows(
    row: Row, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, asked = await answer(row, monkeypatch)
    expected = row.told["request"]["body"]
    assert {name: asked.body.get(name) for name in expected} == expected
    assert not set(row.told["request"]["without"]) & set(asked.body)


@each_row
async def test_a_rows_reply_is_put_together(row: Row, monkeypatch: pytest.MonkeyPatch) -> None:
    reply, _ = await answer(row, monkeypatch)
    expected = row.told["reply"]["completion"]
    assert reply.text == expected["text"]
    assert [call.model_dump() for call in reply.tool_calls] == expected["tool_calls"]
    assert reply.finish == expected["finish"]


@each_row
async def test_a_rows_reasoning_is_told_apart(row: Row, monkeypatch: pytest.MonkeyPatch) -> None:
    reply, _ = await answer(row, monkeypatch)
    assert reply.reasoning == row.told["reply"]["completion"]["reasoning"]


@each_row
async def test_a_rows_usage_is_read_with_what_was_cached_and_thought(
    row: Row, monkeypatch: pytest.MonkeyPatch
) -> None:
    reply, _ = await answer(row, monkeypatch)
    expected = row.told["reply"]["completion"]["usage"]
    assert reply.usage.model_dump(include=set(expected)) == expected
    assert not reply.usage.estimated


@each_row
async def test_a_rows_reply_goes_back_as_it_wants_it(
    row: Row, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts = (*streamed(row.wire, row.told["reply"]["payloads"]), wire.END)
    async with talking(row, monkeypatch, *parts) as (driver, server):
        reply = await ask(driver, row)
        results = [
            ChatMessage(role="tool", tool_call_id=call.id, text="Sunny.")
            for call in reply.tool_calls
        ]
        more = results or [ChatMessage(role="user", text="And tomorrow?")]
        await ask(driver, row, reply.as_message(), *more)
        said = [told for told in server.asked[-1].body["messages"] if told["role"] == "assistant"]
    assert [unmarked(told) for told in said] == [row.told["again"]]


def unmarked(told: Any) -> Any:
    """A message without its cache marks, its arguments parsed and written anew."""
    if isinstance(told, list):
        return [unmarked(one) for one in told]
    if isinstance(told, dict):
        return {key: unmarked(value) for key, value in told.items() if key != "cache_control"}
    return told


@pytest.mark.parametrize(("row", "refusal"), REFUSALS)
async def test_a_rows_refusal_is_the_right_error(
    row: Row, refusal: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    if "payloads" in refusal:
        parts = (*streamed(row.wire, refusal["payloads"]), wire.END)
    else:
        headers = refusal.get("headers")
        parts = (wire.document(refusal["body"], status=refusal["status"], headers=headers),)
    async with talking(row, monkeypatch, *parts) as (driver, _):
        with pytest.raises(ModelError) as caught:
            await ask(driver, row)
    assert type(caught.value) is getattr(errors, refusal["error"])
    assert refusal.get("says", "") in str(caught.value)
    for name, value in refusal.get("attributes", {}).items():
        assert getattr(caught.value, name) == value
