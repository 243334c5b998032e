"""What goes over two wires, both ways, is what the vendors' own SDKs say it is.

Only the SDKs' types are used. Their dictionaries drop what they do not know, so a request that
comes through validation as it went in has nothing but known keys, on every level.
"""

import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import httpx
import messages_wire as says
import pytest
import servers
from anthropic.types import Message, MessageTokensCount, RawMessageStreamEvent
from anthropic.types.message_count_tokens_params import MessageCountTokensParams
from anthropic.types.message_create_params import MessageCreateParamsStreaming
from openai.types.chat import ChatCompletionChunk
from openai.types.chat.completion_create_params import CompletionCreateParamsStreaming
from pydantic import BaseModel, TypeAdapter
from wire import END, always, document, events, head, playing

from aoskernel.drivers import _vendors
from aoskernel.drivers.llm.anthropic import Anthropic
from aoskernel.drivers.llm.openai import OpenAI
from aoskernel.subsystems.llm.driver import (
    LLM,
    ChatMessage,
    Complete,
    Completion,
    DeltaKind,
    JsonObject,
    Meter,
    Sampling,
    ToolCall,
    ToolSpec,
)

PATIENCE_S = 20
MODEL_S = 120
PATH: JsonObject = {"type": "object", "properties": {"path": {"type": "string"}}}
TOOLS = (
    ToolSpec(name="read_file", description="Read a file.", parameters=PATH),
    ToolSpec(name="list_files", description="List them.", parameters={"type": "object"}),
)
READ = ToolCall(id="call_1", name="read_file", arguments={"path": "a.txt"})
LIST = ToolCall(id="call_2", name="list_files", arguments={})
PERSON: JsonObject = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 20},
        "tags": {"type": "array", "items": {"enum": ["a", "b"]}},
    },
    "required": ["name", "tags"],
    "additionalProperties": False,
}
SYSTEM = ChatMessage(role="system", text="Be brief.")
HELLO = ChatMessage(role="user", text="Hello. 世界 🎉")
THOUGHT = ChatMessage(
    role="assistant",
    text="I look.",
    tool_calls=(READ,),
    reasoning="Let me see.",
    echo={
        "wire": "anthropic",
        "vendor": "anthropic",
        "blocks": [
            {"type": "thinking", "thinking": "Let me see.", "signature": "c2lnbmVk"},
            {"type": "redacted_thinking", "data": "aGlkZGVu"},
        ],
    },
)
RESULT = ChatMessage(role="tool", tool_call_id="call_1", text="It says Friday.")

CONVERSATIONS = {
    "a question": Complete(messages=(HELLO,)),
    "several turns": Complete(
        messages=(
            SYSTEM,
            HELLO,
            ChatMessage(role="assistant", text="Hello."),
            ChatMessage(role="user", text="Well?"),
            ChatMessage(role="system", text="Hurry."),
        )
    ),
    "parallel calls": Complete(
        messages=(
            SYSTEM,
            HELLO,
            ChatMessage(role="assistant", text="I look.", tool_calls=(READ, LIST)),
            RESULT,
            ChatMessage(role="tool", tool_call_id="call_2", text=""),
            ChatMessage(role="user", text="And?"),
        ),
        tools=TOOLS,
    ),
    "a schema": Complete(messages=(SYSTEM, HELLO), json_schema=PERSON),
    "reasoning before": Complete(messages=(HELLO, THOUGHT, RESULT), tools=TOOLS),
    "sampling": Complete(messages=(HELLO,), sampling=Sampling(max_tokens=9, stop=("END", "STOP"))),
}
EVERY = pytest.mark.parametrize("asked", CONVERSATIONS.values(), ids=CONVERSATIONS)

REQUEST_OF_OPENAI = TypeAdapter[Any](CompletionCreateParamsStreaming)
REQUEST_OF_ANTHROPIC = TypeAdapter[Any](MessageCreateParamsStreaming)
COUNT_OF_ANTHROPIC = TypeAdapter[Any](MessageCountTokensParams)
EVENT_OF_ANTHROPIC = TypeAdapter[Any](RawMessageStreamEvent)


def through(types: TypeAdapter[Any], told: Any) -> Any:
    """What is left of this after validation. Raises ValidationError."""
    return plain(types.validate_python(told))


def plain(told: Any) -> Any:
    """Data without pydantic's iterators, which validate their items when they are read."""
    if isinstance(told, dict):
        return {name: plain(value) for name, value in told.items()}
    if told is None or isinstance(told, str | int | float):
        return told
    return [plain(item) for item in told]


def strangers(model: Any) -> Iterator[str]:
    """Keys of a validated reply that its type does not have, on every level."""
    if isinstance(model, BaseModel):
        yield from model.model_extra or ()
        for name in type(model).model_fields:
            yield from strangers(getattr(model, name))
    elif isinstance(model, list):
        for item in model:
            yield from strangers(item)


async def emit(text: str, kind: DeltaKind = "text", /) -> None:
    """Nobody reads it here."""


@asynccontextmanager
async def started(driver: LLM) -> AsyncIterator[LLM]:
    with anyio.fail_after(PATIENCE_S):
        try:
            await driver.start()
            yield driver
        finally:
            await driver.stop()


ANSWERS = {
    "openai": [
        {"choices": [{"index": 0, "delta": {"content": "Hi."}, "finish_reason": "stop"}]},
        {"choices": [], "usage": {"prompt_tokens": 7, "completion_tokens": 5}},
    ],
    "anthropic": says.HELLO,
    "forcing": says.FORCED,
}


async def sent(make: type[OpenAI] | type[Anthropic], asked: Complete, **config: Any) -> Any:
    """The body of the request that the driver makes of this."""
    answer = events(ANSWERS[config.get("vendor", make.wire)], done=False)
    async with playing(always(head(), *answer, END)) as server:
        async with started(make(model="test", base_url=server.url, **config)) as driver:
            await driver.complete(asked, emit, Meter())
        return server.asked[0].body


def test_a_key_that_no_type_knows_does_not_come_through() -> None:
    block = {"type": "text", "text": "Hi.", "colour": "red"}
    told = {"model": "m", "max_tokens": 1, "stream": True}
    told["messages"] = [{"role": "user", "content": [block]}]
    assert through(REQUEST_OF_ANTHROPIC, told) != told
    del block["colour"]
    assert through(REQUEST_OF_ANTHROPIC, told) == told


# Requests


@EVERY
async def test_the_openai_driver_sends_what_the_sdk_knows(asked: Complete) -> None:
    body = await sent(OpenAI, asked, temperature=0.5)
    assert through(REQUEST_OF_OPENAI, body) == body


@EVERY
@pytest.mark.parametrize("thinking", [None, "off", "adaptive", "max", 2000], ids=str)
async def test_the_anthropic_driver_sends_what_the_sdk_knows(
    asked: Complete, thinking: Any
) -> None:
    most = {"sampling": Sampling(max_tokens=3000, stop=asked.sampling.stop)}
    body = await sent(Anthropic, asked.model_copy(update=most), thinking=thinking, cache="1h")
    assert through(REQUEST_OF_ANTHROPIC, body) == body


async def test_a_schema_by_a_forced_tool_is_what_the_sdk_knows(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    row = _vendors.table()["anthropic"]
    at = row.endpoints["anthropic"].model_copy(update={"schema_as": "tool"})
    forcing = row.model_copy(update={"endpoints": {"anthropic": at}})
    monkeypatch.setitem(_vendors.table(), "forcing", forcing)
    body = await sent(Anthropic, CONVERSATIONS["a schema"], vendor="forcing")
    assert body["tool_choice"]["name"] == "reply"
    assert through(REQUEST_OF_ANTHROPIC, body) == body


async def test_a_seed_is_what_the_openai_sdk_knows() -> None:
    drawn = Sampling(temperature=1, top_p=0.5, seed=7, max_tokens=5)
    body = await sent(OpenAI, Complete(messages=(HELLO,), sampling=drawn))
    assert body["seed"] == 7
    assert through(REQUEST_OF_OPENAI, body) == body


async def test_only_what_older_models_take_is_beyond_anthropics_sdk() -> None:
    """Its types have no temperature any more: the newest models refuse one, older take it."""
    drawn = Sampling(temperature=1, top_p=0.5, max_tokens=5)
    body = await sent(Anthropic, Complete(messages=(HELLO,), sampling=drawn))
    assert body.keys() - through(REQUEST_OF_ANTHROPIC, body).keys() == {"temperature", "top_p"}


@EVERY
async def test_a_prompt_is_counted_in_words_the_sdk_knows(asked: Complete) -> None:
    async with playing(always(document({"input_tokens": 7}))) as server:
        driver = Anthropic(
            model="test", base_url=server.url, counting="provider", thinking="adaptive"
        )
        async with started(driver):
            await driver.count(asked.messages, asked.tools)
        body = server.asked[0].body
    assert through(COUNT_OF_ANTHROPIC, body) == body


# Replies that our tests play


@pytest.mark.parametrize("story", says.STORIES.values(), ids=says.STORIES)
def test_played_events_are_what_anthropics_sdk_reads(story: list[says.Told]) -> None:
    for told in story:
        assert not list(strangers(EVENT_OF_ANTHROPIC.validate_python(told)))


def test_a_played_message_is_what_anthropics_sdk_reads() -> None:
    blocks = (
        {"type": "thinking", "thinking": "Hm.", "signature": "c2ln"},
        {"type": "text", "text": "I look."},
        {"type": "tool_use", "id": "toolu_a", "name": "read_file", "input": {"path": "a"}},
    )
    usage = {"input_tokens": 5, "output_tokens": 4}
    told = says.message(*blocks, stop="tool_use", usage=usage)
    assert not list(strangers(Message.model_validate(told)))


def chunk(delta: says.Told, finish: str | None = None, **rest: Any) -> says.Told:
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    told = {"id": "c1", "object": "chat.completion.chunk", "created": 1, "model": "gpt"}
    return {**told, "choices": [choice], **rest}


def calling(index: int, **call: Any) -> says.Told:
    return {"tool_calls": [{"index": index, **call}]}


USED = {
    "prompt_tokens": 20,
    "completion_tokens": 9,
    "total_tokens": 29,
    "prompt_tokens_details": {"cached_tokens": 16},
    "completion_tokens_details": {"reasoning_tokens": 4},
}
CHAT = [
    chunk({"role": "assistant", "content": "", "refusal": None}),
    chunk({"content": "I look."}),
    chunk(calling(0, id="a", type="function", function={"name": "read_file", "arguments": ""})),
    chunk(calling(1, id="b", type="function", function={"name": "list_files", "arguments": "{"})),
    chunk(calling(0, function={"arguments": '{"path": '})),
    chunk(calling(1, function={"arguments": "}"})),
    chunk(calling(0, function={"arguments": '"a.txt"}'})),
    chunk({}, "tool_calls"),
    chunk({}, choices=[], usage=USED),
]


async def test_chunks_as_openais_sdk_reads_them_become_calls_and_usage() -> None:
    for told in CHAT:
        assert not list(strangers(ChatCompletionChunk.model_validate(told)))
    answer = await answered(OpenAI, CHAT)
    assert [call.arguments for call in answer.tool_calls] == [{"path": "a.txt"}, {}]
    assert (answer.usage.prompt, answer.usage.cached, answer.usage.reasoning) == (20, 16, 4)


async def answered(make: type[OpenAI] | type[Anthropic], story: list[says.Told]) -> Completion:
    async with playing(always(head(), *events(story), END)) as server:
        async with started(make(model="test", base_url=server.url)) as driver:
            return await driver.complete(CONVERSATIONS["parallel calls"], emit, Meter())


# Replies of llama.cpp's own server


@pytest.fixture(scope="module")
def llamacpp_url() -> Iterator[str]:
    with servers.llamacpp() as url:
        yield url


async def streamed(url: str, body: says.Told) -> list[Any]:
    """The payloads that the server streams, read without any driver."""
    told = {"model": "smollm2", "max_tokens": 8, "stream": True, **body}
    with anyio.fail_after(MODEL_S):
        async with httpx.AsyncClient(timeout=MODEL_S, trust_env=False) as client:
            async with client.stream("POST", url, json=told) as response:
                lines = [line async for line in response.aiter_lines()]
    return [json.loads(line[6:]) for line in lines if line.startswith("data: {")]


QUESTION = {"messages": [{"role": "user", "content": "Count from one to ten."}]}


@pytest.mark.model
async def test_llamacpp_streams_what_anthropics_sdk_reads(llamacpp_url: str) -> None:
    payloads = await streamed(f"{llamacpp_url}/v1/messages", QUESTION)
    kinds = [EVENT_OF_ANTHROPIC.validate_python(told).type for told in payloads]
    assert kinds[0] == "message_start"
    assert kinds[-1] == "message_stop"


@pytest.mark.model
async def test_llamacpp_streams_what_openais_sdk_reads(llamacpp_url: str) -> None:
    asked = {**QUESTION, "stream_options": {"include_usage": True}}
    payloads = await streamed(f"{llamacpp_url}/v1/chat/completions", asked)
    chunks = [ChatCompletionChunk.model_validate(told) for told in payloads]
    assert chunks[-1].usage is not None


@pytest.mark.model
async def test_llamacpp_counts_in_words_anthropics_sdk_reads(llamacpp_url: str) -> None:
    with anyio.fail_after(MODEL_S):
        async with httpx.AsyncClient(timeout=MODEL_S, trust_env=False) as client:
            asked = {"model": "smollm2", **QUESTION}
            reply = await client.post(f"{llamacpp_url}/v1/messages/count_tokens", json=asked)
    assert MessageTokensCount.model_validate(reply.json()).input_tokens > 5
