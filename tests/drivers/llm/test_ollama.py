"""Ollama's native wire: what is sent, and what is made of what comes back."""

import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest
from backends import ollama as ollama_proxy
from ollama import _types as ollama_types
from servers import llamacpp
from wire import END, Asked, Play, Send, WireServer, always, chunk, document, head, playing

from aoskernel.drivers.llm.ollama import Ollama
from aoskernel.subsystems.llm.driver import (
    BadPrompt,
    ChatMessage,
    Complete,
    Completion,
    CutReply,
    Meter,
    ModelError,
    ModelMissing,
    ModelUnavailable,
    PromptTooLong,
    Sampling,
    ToolCall,
    ToolSpec,
)

ADD = ToolSpec(
    name="add",
    description="Add two numbers.",
    parameters={
        "type": "object",
        "properties": {"a": {"type": "integer"}, "b": {"type": "integer"}},
        "required": ["a", "b"],
    },
)
SCHEMA = {"type": "object", "properties": {"age": {"type": "integer"}}, "required": ["age"]}
DONE = {"done": True, "done_reason": "stop", "prompt_eval_count": 26, "eval_count": 8}
QWEN = {
    "model_info": {"general.architecture": "qwen3", "qwen3.context_length": 40960},
    "capabilities": ["completion", "tools", "thinking"],
    "parameters": 'stop "<|im_end|>"\ntemperature 0.6',
}
GONE = document(b"404 page not found", status=404, kind="text/plain")


def lines(*payloads: Any) -> list[bytes]:
    """A stream of /api/chat: what is no dict is a piece of text."""
    told = [
        {"model": "qwen3", "created_at": "2026-11-22T12:00:00Z", "done": False, "message": {}}
        | (one if isinstance(one, dict) else {"message": {"role": "assistant", "content": one}})
        for one in payloads
    ]
    parts = [json.dumps(one, ensure_ascii=False).encode() + b"\n" for one in told]
    return [head("application/x-ndjson"), *map(chunk, parts), END]


def server(*reply: bytes, show: bytes = GONE, tags: bytes = GONE) -> Play:
    """Answers /api/show and /api/tags as told, and everything else with `reply`."""

    async def play(asked: Asked, send: Send) -> bool:
        known = {"/api/show": (show,), "/api/tags": (tags,)}
        for part in known.get(asked.path, reply):
            await send(part)
        return reply[-1:] == (END,) or asked.path in known

    return play


class Caller:
    """A started driver, and what it emitted."""

    def __init__(self, driver: Ollama, wire: WireServer) -> None:
        self.driver, self.wire = driver, wire
        self.pieces: list[tuple[str, str]] = []
        self.meter = Meter()

    async def emit(self, text: str, kind: str = "text", /) -> None:
        self.pieces.append((text, kind))

    async def ask(self, text: str = "Hello.", **rest: Any) -> Completion:
        messages = rest.pop("messages", (ChatMessage(role="user", text=text),))
        ask = Complete.model_validate({"messages": messages, **rest})
        return await self.driver.complete(ask, self.emit, self.meter)

    @property
    def sent(self) -> Any:
        """The last request's body."""
        return self.wire.asked[-1].body


@asynccontextmanager
async def calling(play: Play, **config: Any) -> AsyncIterator[Caller]:
    async with playing(play) as wire:
        driver = Ollama(**{"model": "qwen3", "base_url": wire.url, **config})
        with anyio.fail_after(20):
            try:
                await driver.start()
                yield Caller(driver, wire)
            finally:
                await driver.stop()


async def test_text_comes_in_pieces_and_usage_with_the_last() -> None:
    async with calling(server(*lines("Hel", "lo ", "世界🎉", DONE))) as caller:
        reply = await caller.ask()
    assert caller.pieces == [("Hel", "text"), ("lo ", "text"), ("世界🎉", "text")]
    assert (reply.text, reply.finish, reply.model) == ("Hello 世界🎉", "stop", "qwen3")
    assert (reply.usage.prompt, reply.usage.completion) == (26, 8)
    assert caller.meter == {"llm.prompt_tokens": 26, "llm.completion_tokens": 8}


async def test_a_character_cut_between_two_chunks_is_whole() -> None:
    begin, *parts, end = lines("世界🎉", DONE)
    single = [chunk(bytes([byte])) for byte in b"".join(_content(part) for part in parts)]
    async with calling(server(begin, *single, end)) as caller:
        assert (await caller.ask()).text == "世界🎉"


def _content(part: bytes) -> bytes:
    return part.partition(b"\r\n")[2].removesuffix(b"\r\n")


async def test_thinking_is_streamed_apart() -> None:
    thought = [{"message": {"role": "assistant", "content": "", "thinking": t}} for t in "ab"]
    async with calling(server(*lines(*thought, "Yes.", DONE)), think=True) as caller:
        reply = await caller.ask()
        assert caller.sent["think"] is True
    assert caller.pieces == [("a", "reasoning"), ("b", "reasoning"), ("Yes.", "text")]
    assert (reply.reasoning, reply.text) == ("ab", "Yes.")


async def test_parallel_calls_have_numbers_where_the_server_gives_no_ids() -> None:
    calls = [{"function": {"name": "add", "arguments": {"a": n, "b": 1}}} for n in (1, 2)]
    third = {"id": "call_x7", "function": {"name": "add", "arguments": {"a": 3, "b": 1}}}
    play = server(
        *lines({"message": {"tool_calls": calls}}, {"message": {"tool_calls": [third]}}, DONE)
    )
    async with calling(play) as caller:
        reply = await caller.ask(tools=(ADD,))
    assert reply.finish == "tool_calls"
    assert [call.id for call in reply.tool_calls] == ["call_1", "call_2", "call_x7"]
    assert [call.arguments["a"] for call in reply.tool_calls] == [1, 2, 3]


HISTORY = (
    ChatMessage(role="system", text="Be brief."),
    ChatMessage(role="user", text="1 + 1?"),
    ChatMessage(
        role="assistant",
        reasoning="I add.",
        tool_calls=(ToolCall(id="call_1", name="add", arguments={"a": 1, "b": 1}),),
    ),
    ChatMessage(role="tool", tool_call_id="call_1", text="2"),
)


async def test_a_later_call_is_numbered_on_from_the_history() -> None:
    call = {"function": {"name": "add", "arguments": {"a": 1, "b": 1}}}
    async with calling(server(*lines({"message": {"tool_calls": [call]}}, DONE))) as caller:
        reply = await caller.ask(messages=HISTORY, tools=(ADD,))
    assert [call.id for call in reply.tool_calls] == ["call_2"]


async def test_a_result_names_its_tool_and_a_calling_reply_keeps_its_thinking() -> None:
    async with calling(server(*lines("Two.", DONE))) as caller:
        await caller.ask(messages=HISTORY, tools=(ADD,))
        *_, called, result = caller.sent["messages"]
    assert called["thinking"] == "I add."
    assert called["tool_calls"][0]["function"] == {"name": "add", "arguments": {"a": 1, "b": 1}}
    assert result == {
        "role": "tool", "content": "2", "tool_call_id": "call_1", "tool_name": "add"
    }  # fmt: skip


async def test_the_thinking_of_a_plain_reply_is_not_sent_again() -> None:
    said = (
        ChatMessage(role="user", text="Hi."),
        ChatMessage(role="assistant", text="Hello.", reasoning="A greeting."),
        ChatMessage(role="user", text="Bye."),
    )
    async with calling(server(*lines("Bye.", DONE))) as caller:
        await caller.ask(messages=said)
        assert "thinking" not in caller.sent["messages"][1]


async def test_requests_and_replies_are_those_of_the_official_client() -> None:
    call = {"function": {"name": "add", "arguments": {"a": 1, "b": 1}}}
    told = lines({"message": {"role": "assistant", "tool_calls": [call]}}, DONE)
    async with calling(server(*told), think="low", keep_alive="5m") as caller:
        sampling = Sampling(temperature=0.5, top_p=0.9, max_tokens=9, seed=7, stop=("END",))
        await caller.ask(messages=HISTORY, tools=(ADD,), sampling=sampling)
        request = ollama_types.ChatRequest.model_validate(caller.sent)
    known = request.model_dump(exclude_none=True, by_alias=True)
    assert known["options"] == {
        "num_ctx": 8192, "num_predict": 9, "temperature": 0.5, "top_p": 0.9, "seed": 7,
        "stop": ["END"],
    }  # fmt: skip
    assert set(caller.sent) - set(known) == {"truncate", "shift"}  # newer than that client
    assert known["tools"][0]["function"]["parameters"]["required"] == ["a", "b"]
    for part in told[1:-1]:
        ollama_types.ChatResponse.model_validate({"message": {"role": "assistant"}} | json.loads(
            _content(part)
        ) | {"message": {"role": "assistant", "content": ""}})  # fmt: skip


async def test_the_window_is_always_sent_so_that_no_prompt_is_cut() -> None:
    async with calling(server(*lines("Hi.", DONE)), context_window=16384) as caller:
        await caller.ask()
        assert caller.sent["options"]["num_ctx"] == 16384
        assert (caller.sent["truncate"], caller.sent["shift"]) == (False, False)


async def test_a_schema_is_sent_as_the_format() -> None:
    async with calling(server(*lines('{"age": 3}', DONE))) as caller:
        await caller.ask(json_schema=SCHEMA)
        assert caller.sent["format"] == SCHEMA


async def test_options_of_ones_own_join_the_others() -> None:
    extra = {"options": {"top_k": 20}, "logprobs": True}
    async with calling(server(*lines("Hi.", DONE)), extra=extra) as caller:
        await caller.ask()
        assert caller.sent["options"] == {"num_ctx": 8192, "top_k": 20}
        assert caller.sent["logprobs"] is True


async def test_the_token_limit_is_a_length() -> None:
    async with calling(server(*lines("Hi", DONE | {"done_reason": "length"}))) as caller:
        assert (await caller.ask()).finish == "length"


async def test_cached_tokens_are_part_of_the_prompt() -> None:
    counted = DONE | {"prompt_eval_cached_count": 20}
    async with calling(server(*lines("Hi.", counted))) as caller:
        usage = (await caller.ask()).usage
    assert (usage.prompt, usage.cached, usage.estimated) == (26, 20, False)


@pytest.mark.parametrize("counted", [{"prompt_eval_count": 3}, {"prompt_eval_count": None}])
async def test_a_count_without_the_cached_tokens_is_said_to_be_estimated(counted: Any) -> None:
    told = {name: n for name, n in (DONE | counted).items() if n is not None}
    async with calling(server(*lines("Hi.", told))) as caller:
        usage = (await caller.ask("A long prompt. " * 200)).usage
    assert usage.estimated
    assert usage.prompt > 300
    assert usage.cached == (usage.prompt - 3 if counted["prompt_eval_count"] else 0)
    assert caller.meter["llm.prompt_tokens"] == usage.prompt


async def test_without_any_count_usage_is_estimated() -> None:
    async with calling(server(*lines("Hello there.", {"done": True}))) as caller:
        usage = (await caller.ask()).usage
    assert usage.estimated
    assert usage.prompt > 0 < usage.completion


async def test_an_error_within_the_stream_is_one() -> None:
    broken = server(*lines("Hel", {"error": "model runner has unexpectedly stopped"}))
    async with calling(broken) as caller:
        with pytest.raises(ModelUnavailable, match="unexpectedly stopped"):
            await caller.ask()
    assert caller.meter["llm.completion_tokens"] > 0


async def test_a_stream_that_ends_early_is_cut_with_the_text_so_far() -> None:
    async with calling(server(*lines("Hel", "lo"))) as caller:
        with pytest.raises(CutReply) as cut:
            await caller.ask()
    assert cut.value.text == "Hello"


async def test_a_model_that_was_only_loaded_has_not_replied() -> None:
    async with calling(server(*lines(DONE | {"done_reason": "load"}))) as caller:
        with pytest.raises(CutReply, match="load"):
            await caller.ask()


async def test_arguments_that_are_no_object_are_an_error() -> None:
    call = {"function": {"name": "add", "arguments": "1, 1"}}
    async with calling(server(*lines({"message": {"tool_calls": [call]}}, DONE))) as caller:
        with pytest.raises(ModelUnavailable, match="add"):
            await caller.ask(tools=(ADD,))


REFUSALS = [
    (400, "the input length exceeds the context length", PromptTooLong, "8192"),
    (400, "qwen3 does not support tools", BadPrompt, "does not support tools"),
    (404, "model 'qwen3' not found", ModelMissing, "ollama pull qwen3"),
    (503, "server busy, please try again", ModelUnavailable, "busy"),
    (500, "unable to load model", ModelUnavailable, "unable to load"),
]


@pytest.mark.parametrize(("status", "said", "error", "match"), REFUSALS)
async def test_a_refusal_says_what_to_do(
    status: int, said: str, error: type[ModelError], match: str
) -> None:
    async with calling(server(document({"error": said}, status=status))) as caller:
        with pytest.raises(error, match=match):
            await caller.ask()


# What is asked at start


async def refusal(play: Play, **config: Any) -> ModelError:
    """Why the driver does not start."""
    async with playing(play) as wire:
        driver = Ollama(**{"model": "qwen3", "base_url": wire.url, **config})
        with anyio.fail_after(20), pytest.raises(ModelError) as refused:
            await driver.start()
        await driver.stop()
    return refused.value


async def test_the_server_says_what_the_model_can_do() -> None:
    async with calling(server(show=document(QWEN))) as caller:
        card = caller.driver.card()
    assert card.can.tools
    assert card.can.reasoning
    assert card.can.json_schema
    assert card.context_window == 8192
    assert "40960" in card.note


async def test_a_window_in_the_models_file_holds() -> None:
    shown = QWEN | {"parameters": "num_ctx                        32768\nstop x"}
    async with calling(server(show=document(shown))) as caller:
        assert caller.driver.card().context_window == 32768


async def test_a_model_that_runs_elsewhere_has_its_whole_window() -> None:
    async with calling(server(show=document(QWEN | {"remote_host": "https://x"}))) as caller:
        assert caller.driver.card().context_window == 40960


async def test_a_window_the_model_does_not_have_is_refused_at_start() -> None:
    refused = await refusal(server(show=document(QWEN)), context_window=65536)
    assert "65536" in str(refused)
    assert "40960" in str(refused)


async def test_a_model_that_is_not_there_names_the_command_and_its_neighbours() -> None:
    missing = document({"error": "model 'qwen33' not found"}, status=404)
    listed = document({"models": [{"name": "qwen3:8b"}, {"name": "llama3:latest"}]})
    refused = await refusal(server(show=missing, tags=listed), model="qwen33")
    assert isinstance(refused, ModelMissing)
    assert "ollama pull qwen33" in str(refused)
    assert "qwen3:8b" in str(refused)


async def test_a_server_without_show_works() -> None:
    async with calling(server(*lines("Hi.", DONE), show=GONE)) as caller:
        assert (await caller.ask()).text == "Hi."


async def test_a_server_that_is_not_running_is_named_with_the_command() -> None:
    async with playing(always()) as wire:
        url = wire.url
    driver = Ollama(model="qwen3", base_url=url)
    with anyio.fail_after(20), pytest.raises(ModelUnavailable, match="ollama serve"):
        await driver.start()
    await driver.stop()


async def test_tools_for_a_model_without_them_are_refused_before_it_is_asked() -> None:
    plain = document(QWEN | {"capabilities": ["completion"]})
    async with calling(server(show=plain)) as caller:
        with pytest.raises(BadPrompt, match="cannot call tools"):
            await caller.ask(tools=(ADD,))
        assert [asked.path for asked in caller.wire.asked] == ["/api/show"]


async def test_a_model_that_cannot_think_is_refused_at_start() -> None:
    plain = document(QWEN | {"capabilities": ["completion"]})
    assert "leave `think` out" in str(await refusal(server(show=plain), think=True))


async def test_an_embedding_model_is_refused_at_start() -> None:
    embedder = document(QWEN | {"capabilities": ["embedding"]})
    assert '[services."embedding.NAME"]' in str(await refusal(server(show=embedder)))


# Base models


async def test_a_base_model_continues_the_texts() -> None:
    play = server(*lines({"response": "there"}, {"response": " was"}, DONE))
    async with calling(play, api="generate") as caller:
        said = (ChatMessage(role="user", text="Title."), ChatMessage(role="user", text="Once"))
        reply = await caller.ask(messages=said)
        asked = caller.wire.asked[-1]
    assert (asked.path, asked.body["prompt"], asked.body["raw"]) == (
        "/api/generate", "Title.\n\nOnce", True
    )  # fmt: skip
    assert ollama_types.GenerateRequest.model_validate(asked.body).options
    assert reply.text == "there was"


async def test_a_base_model_has_no_tools() -> None:
    async with calling(server(), api="generate") as caller:
        with pytest.raises(BadPrompt, match="generate"):
            await caller.ask(tools=(ADD,))


# The wire as somebody else speaks it, with the real model behind it


@pytest.fixture(scope="module")
def proxy() -> Iterator[str]:
    with llamacpp() as backend, ollama_proxy(backend) as url:
        yield url


@asynccontextmanager
async def proxied(url: str, **config: Any) -> AsyncIterator[Caller]:
    driver = Ollama(**{"model": "local/any", "base_url": url, **config})
    with anyio.fail_after(60):
        try:
            await driver.start()
            yield Caller(driver, WireServer(url))
        finally:
            await driver.stop()


@pytest.mark.model
@pytest.mark.parametrize("api", ["chat", "generate"])
async def test_the_proxys_model_answers_in_pieces(proxy: str, api: str) -> None:
    async with proxied(proxy, api=api) as caller:
        reply = await caller.ask("Count from one to ten.", sampling=Sampling(max_tokens=12))
    assert len(caller.pieces) > 1
    assert "".join(text for text, _ in caller.pieces) == reply.text
    assert caller.driver.card().can.tools  # as its /api/show says


@pytest.mark.model
async def test_the_proxys_model_keeps_a_schema(proxy: str) -> None:
    async with proxied(proxy) as caller:
        assert "age" in json.loads((await caller.ask("Anna is 31.", json_schema=SCHEMA)).text)


@pytest.mark.model
async def test_the_proxys_errors_come_within_a_good_status(proxy: str) -> None:
    async with proxied(proxy) as caller:
        with pytest.raises(PromptTooLong):
            await caller.ask("many words " * 5000)


@pytest.mark.model
async def test_the_proxy_lists_what_it_has(proxy: str) -> None:
    driver = Ollama(model="elsewhere/any", base_url=proxy)
    with anyio.fail_after(20), pytest.raises(ModelMissing, match=r"pull elsewhere/any.*local/any"):
        await driver.start()
    await driver.stop()
