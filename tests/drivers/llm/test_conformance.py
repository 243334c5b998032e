"""What every model driver must do; the same suite runs on each."""

import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import anyio
import pytest
import pytest_asyncio

from aoskernel.drivers.llm.llamacpp import LlamaCpp
from aoskernel.drivers.llm.scripted import Reply, Scripted, call
from aoskernel.subsystems.llm.driver import (
    LLM,
    BadPrompt,
    ChatMessage,
    Complete,
    Completion,
    Meter,
    PromptTooLong,
    Sampling,
    ToolSpec,
    Usage,
)

pytestmark = pytest.mark.asyncio(loop_scope="module")

PATIENCE_S = 60
PERSON = {
    "type": "object",
    "properties": {"name": {"type": "string", "maxLength": 20}, "age": {"type": "integer"}},
    "required": ["name", "age"],
    "additionalProperties": False,
}
GREETING = "🎉🚀🦊 你好,世界"
READ = ToolSpec(
    name="read_file",
    description="Read a text file.",
    parameters={
        "type": "object",
        "properties": {"path": {"type": "string", "maxLength": 20}},
        "required": ["path"],
    },
)
ADD = ToolSpec(
    name="add",
    description="Add two numbers.",
    parameters={
        "type": "object",
        "properties": {"a": {"$ref": "#/$defs/number"}, "b": {"$ref": "#/$defs/number"}},
        "required": ["a", "b"],
        "$defs": {"number": {"type": "integer"}},
    },
)


def say(ask: Complete) -> Reply:
    """What the scripted driver says where a model would think."""
    if ask.json_schema:
        return json.dumps(ask.json_schema.get("const", {"name": "Anna", "age": 31}))
    if ask.tools and ask.messages[-1].role == "user":
        return call("read_file", path="notes.txt")
    return "One two three four five six seven eight nine ten, and so it goes on and on."


Make = Callable[..., LLM]
MAKERS: dict[str, Make] = {
    "scripted": lambda **config: Scripted(script=say, **config),
    "llamacpp": lambda **config: LlamaCpp(**config),
}
EVERY = [pytest.param("scripted"), pytest.param("llamacpp", marks=pytest.mark.model)]


@pytest.fixture(params=EVERY)
def make(request: pytest.FixtureRequest) -> Make:
    return MAKERS[request.param]


@pytest_asyncio.fixture(params=EVERY, scope="module", loop_scope="module")
async def driver(request: pytest.FixtureRequest) -> AsyncIterator[LLM]:
    """One for the module: loading the real model takes longer than most tests."""
    driver = MAKERS[request.param]()
    await driver.start()
    yield driver
    await driver.stop()


@pytest.fixture
def caller(driver: LLM) -> "Caller":
    return Caller(driver)


class Caller:
    """A started driver, what it emitted last and what it metered last."""

    def __init__(self, driver: LLM) -> None:
        self.driver = driver
        self.pieces: list[str] = []
        self.meter = Meter()

    async def emit(self, piece: str) -> None:
        self.pieces.append(piece)

    async def ask(self, ask: Complete) -> Completion:
        self.pieces, self.meter = [], Meter()
        return await self.driver.complete(ask, self.emit, self.meter)

    async def ask_warm(self, ask: Complete) -> Completion:
        """Ask twice: answers from the same state of a prefix cache are the same."""
        await self.ask(ask)
        return await self.ask(ask)


@asynccontextmanager
async def calling(driver: LLM) -> AsyncIterator[Caller]:
    with anyio.fail_after(PATIENCE_S):
        try:
            await driver.start()
            yield Caller(driver)
        finally:
            await driver.stop()


def question(text: str, *, most: int = 24, **rest: object) -> Complete:
    messages = (ChatMessage(role="user", text=text),)
    return Complete.model_validate(
        {"messages": messages, "sampling": Sampling(max_tokens=most), **rest}
    )


def metered(meter: Meter) -> Usage:
    return Usage(
        prompt=int(meter["llm.prompt_tokens"]),
        completion=int(meter["llm.completion_tokens"]),
        cached=int(meter["llm.cached_tokens"]),
    )


async def test_an_answer_is_emitted_in_pieces_counted_and_metered(caller: Caller) -> None:
    with anyio.fail_after(PATIENCE_S):
        ask = question("Count from one to ten, in words.")
        answer = await caller.ask(ask)
        assert len(caller.pieces) > 1
        assert "".join(caller.pieces) == answer.text
        assert answer.model == caller.driver.card().model
        assert answer.usage == metered(caller.meter)
        assert answer.usage.prompt == await caller.driver.count(ask.messages, ask.tools)
        assert 0 < answer.usage.completion <= 24


async def test_the_token_limit_ends_an_answer(caller: Caller) -> None:
    with anyio.fail_after(PATIENCE_S):
        answer = await caller.ask(question("Count from one to ten, in words.", most=3))
        assert answer.finish == "length"
        assert answer.usage.completion == 3
        assert answer.text == "".join(caller.pieces)


async def test_a_stop_text_ends_an_answer_before_it(caller: Caller) -> None:
    with anyio.fail_after(PATIENCE_S):
        text = "Count from one to ten, in words, separated by spaces."
        whole = (await caller.ask_warm(question(text, most=8))).text
        stop = whole[5]
        ask = question(text, sampling=Sampling(max_tokens=8, stop=(stop,)))
        answer = await caller.ask(ask)
        assert answer.text == "".join(caller.pieces) == whole.partition(stop)[0]
        assert answer.finish == "stop"


async def test_a_cut_call_stops_at_once_and_the_next_one_works(caller: Caller) -> None:
    with anyio.fail_after(PATIENCE_S):
        pieces: list[str] = []
        meter = Meter()

        async def emit(piece: str) -> None:
            pieces.append(piece)
            if len(pieces) == 3:
                scope.cancel()
                await anyio.lowlevel.checkpoint()

        with anyio.CancelScope() as scope:
            await caller.driver.complete(question("Tell a long story.", most=400), emit, meter)
        assert scope.cancelled_caught
        assert len(pieces) == 3
        assert 0 < metered(meter).completion < 400
        assert (await caller.ask(question("Hello."))).text


async def test_an_error_of_the_reader_ends_the_call(caller: Caller) -> None:
    with anyio.fail_after(PATIENCE_S):

        async def emit(piece: str) -> None:
            raise ConnectionResetError(piece)

        with pytest.raises(ConnectionResetError):
            await caller.driver.complete(question("Hello.", most=400), emit, Meter())
        assert (await caller.ask(question("Hello."))).text


async def test_a_slow_reader_loses_nothing(caller: Caller) -> None:
    with anyio.fail_after(PATIENCE_S):
        ask = question("Tell a long story.", most=48)
        whole = await caller.ask_warm(ask)
        pieces: list[str] = []

        async def emit(piece: str) -> None:
            await anyio.sleep(0.03)
            pieces.append(piece)

        slow = await caller.driver.complete(ask, emit, Meter())
        assert "".join(pieces) == slow.text == whole.text
        assert slow.usage.completion == whole.usage.completion


async def test_a_schema_makes_the_answer_json(caller: Caller) -> None:
    with anyio.fail_after(PATIENCE_S):
        answer = await caller.ask(question("Anna is 31.", most=60, json_schema=PERSON))
        assert answer.finish == "stop"
        person = json.loads(answer.text)
        assert isinstance(person["name"], str)
        assert isinstance(person["age"], int)
        assert answer.usage == metered(caller.meter)


async def test_a_schema_does_not_lift_the_token_limit(caller: Caller) -> None:
    with anyio.fail_after(PATIENCE_S):
        answer = await caller.ask(question("Anna is 31.", most=3, json_schema=PERSON))
        assert answer.finish == "length"
        assert answer.usage.completion == 3


async def test_characters_of_many_tokens_come_out_whole(caller: Caller) -> None:
    with anyio.fail_after(PATIENCE_S):
        schema = {"type": "string", "const": GREETING}
        answer = await caller.ask(question("问候世界 🎉", most=60, json_schema=schema))
        assert json.loads(answer.text) == GREETING
        assert "".join(caller.pieces) == answer.text


async def test_with_tools_the_reply_is_a_call_of_one_or_an_answer(caller: Caller) -> None:
    with anyio.fail_after(PATIENCE_S):
        ask = question("Read the file notes.txt.", most=60, tools=(READ, ADD))
        reply = await caller.ask(ask)
        assert "".join(caller.pieces) == reply.text
        assert reply.usage.prompt == await caller.driver.count(ask.messages, ask.tools)
        if reply.finish == "tool_calls":
            assert [one.name in ("read_file", "add") for one in reply.tool_calls] == [True]
            assert reply.tool_calls[0].id == "call_1"
        else:
            assert not reply.tool_calls


async def test_a_conversation_with_calls_and_results_goes_on(caller: Caller) -> None:
    with anyio.fail_after(PATIENCE_S):
        used = call("read_file", path="notes.txt").model_copy(update={"id": "call_1"})
        history = (
            ChatMessage(role="system", text="You are brief."),
            ChatMessage(role="user", text="What does notes.txt say about Friday?"),
            ChatMessage(role="assistant", tool_calls=(used,)),
            ChatMessage(role="tool", tool_call_id="call_1", text="Friday: standup at nine."),
        )
        ask = Complete(messages=history, tools=(READ,), sampling=Sampling(max_tokens=60))
        reply = await caller.ask(ask)
        assert reply.text or reply.tool_calls
        assert [one.id for one in reply.tool_calls] in ([], ["call_2"])
        assert reply.usage.prompt == await caller.driver.count(history, (READ,))


async def test_tools_cost_tokens_and_their_order_does_not(caller: Caller) -> None:
    with anyio.fail_after(PATIENCE_S):
        messages = question("Hello.").messages
        count = caller.driver.count
        assert await count(messages, ()) < await count(messages, (READ,))
        assert await count(messages, (READ, ADD)) == await count(messages, (ADD, READ))


async def test_a_prompt_beyond_the_window_is_refused_with_numbers(make: Make) -> None:
    async with calling(make(context_window=512)) as caller:
        window = caller.driver.card().context_window
        with pytest.raises(PromptTooLong) as refused:
            await caller.ask(question("many words " * 1000))
        assert refused.value.window == window == 512
        assert refused.value.tokens > window
        assert not caller.pieces
        assert not caller.meter


async def test_tools_and_a_schema_exclude_each_other(caller: Caller) -> None:
    with anyio.fail_after(PATIENCE_S):
        with pytest.raises(BadPrompt, match="exclude"):
            await caller.ask(question("Hello.", tools=(READ,), json_schema=PERSON))


async def test_calls_beyond_the_slots_wait_their_turn(make: Make) -> None:
    async with calling(make(slots=1)) as caller:
        texts: list[str] = []

        async def one(word: str) -> None:
            reply = await Caller(caller.driver).ask(question(f"Say {word}.", most=8))
            texts.append(reply.text)

        async with anyio.create_task_group() as group:
            for word in ("one", "two", "three"):
                group.start_soon(one, word)
        assert len(texts) == 3


async def test_a_driver_stops_twice_and_without_a_start(make: Make) -> None:
    driver = make()
    await driver.stop()
    async with calling(driver):
        await driver.stop()
