"""The messages wire: what is sent, and what is made of what comes back."""

import copy
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

import anyio
import messages_wire as says
import pytest
import servers
from wire import END, Play, WireServer, always, chunk, document, events, head, playing

from aoskernel.drivers import _vendors
from aoskernel.drivers.llm.anthropic import Anthropic
from aoskernel.drivers.llm.openai import OpenAI
from aoskernel.subsystems.llm.conformance.prompts import CHINESE
from aoskernel.subsystems.llm.driver import (
    Allowance,
    BadPrompt,
    Capabilities,
    ChatMessage,
    Complete,
    Completion,
    CutReply,
    DeltaKind,
    Endpoint,
    JsonObject,
    Meter,
    ModelError,
    ModelMissing,
    ModelUnavailable,
    NoApi,
    OutOfFunds,
    Price,
    PromptTooLong,
    RateLimited,
    Sampling,
    ToolCall,
    ToolSpec,
    Unauthorized,
    Vendor,
    VendorModel,
)

PATIENCE_S = 20
MODEL_S = 120
ABLE = Capabilities(tools=True, parallel_tools=True, json_schema=True, counting="estimated")
OBJECT: JsonObject = {"type": "object", "properties": {}}
READ = ToolSpec(name="read_file", description="Read a file.", parameters=OBJECT)
LIST = ToolSpec(name="list_files", description="List the files.", parameters=OBJECT)
ONE_CALL: JsonObject = {"tool_choice": {"type": "auto", "disable_parallel_tool_use": True}}
PRICE = Price(currency="USD", prompt=3, completion=15, cached=0.3, cache_written=3.75)
AGE: JsonObject = {
    "type": "object",
    "properties": {"age": {"type": "integer", "description": "In years.", "minimum": 0}},
    "required": ["age"],
}
CALL = ToolCall(id="toolu_a", name="list_files", arguments={})


def system(text: str) -> ChatMessage:
    return ChatMessage(role="system", text=text)


def user(text: str) -> ChatMessage:
    return ChatMessage(role="user", text=text)


def said(text: str, *calls: ToolCall) -> ChatMessage:
    return ChatMessage(role="assistant", text=text, tool_calls=calls)


def result(number: str, text: str) -> ChatMessage:
    return ChatMessage(role="tool", tool_call_id=number, text=text)


def ask(*messages: ChatMessage, **rest: Any) -> Complete:
    return Complete(messages=messages or (user("Hello."),), **rest)


def row(how: Literal["json_schema", "tool", "none"]) -> Vendor:
    at = Endpoint(
        base_url="http://127.0.0.1:1",
        schema_as=how,
        count_path="/v1/messages/count_tokens",
        reasoning_back="with_tools",
        max_temperature=1,
    )
    return Vendor(
        name=f"by_{how}",
        title="The provider",
        key="CLAUDE_TEST_KEY",
        open=True,
        endpoints={"anthropic": at},
        models=(
            VendorModel(
                name="claude-long", context_window=1000, max_output=500, can=ABLE, price=PRICE
            ),
            VendorModel(name="claude-shy", context_window=1000, can=ABLE, with_tools=ONE_CALL),
        ),
        checked="2026-11-22",
        source=("the tests",),
    )


@pytest.fixture(autouse=True)
def rows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Vendors that differ in how they take a schema, and in nothing else."""
    table = {one.name: one for one in map(row, ("json_schema", "tool", "none"))}
    silent = Endpoint(base_url="http://127.0.0.1:1")
    always = row("none").endpoints["anthropic"].model_copy(update={"reasoning_back": "always"})
    table["always"] = row("none").model_copy(
        update={"name": "always", "endpoints": {"anthropic": always}}
    )
    table["silent"] = row("none").model_copy(update={"endpoints": {"anthropic": silent}})
    monkeypatch.setattr(_vendors, "table", lambda: table)


@dataclass
class Talk:
    """A started driver, what its server was asked, and what came of the last call."""

    driver: Anthropic
    server: WireServer
    meter: Meter = field(default_factory=Meter)
    pieces: list[tuple[str, DeltaKind]] = field(default_factory=list)

    @property
    def body(self) -> Any:
        return self.server.asked[-1].body

    async def complete(self, ask: Complete) -> Completion:
        self.meter, self.pieces = Meter(), []
        return await self.driver.complete(ask, self.emit, self.meter)

    async def emit(self, text: str, kind: DeltaKind = "text", /) -> None:
        self.pieces.append((text, kind))

    def text(self, kind: DeltaKind = "text") -> str:
        return "".join(text for text, its in self.pieces if its == kind)


@asynccontextmanager
async def talking(play: Play, **config: Any) -> AsyncIterator[Talk]:
    settings = {
        "vendor": "by_json_schema",
        "model": "claude-test",
        "context_window": 1000,
        **config,
    }
    with anyio.fail_after(PATIENCE_S):
        async with playing(play) as server:
            driver = Anthropic(**{"base_url": server.url, "api_key": None, **settings})
            await driver.start()
            try:
                yield Talk(driver, server)
            finally:
                await driver.stop()


def streamed(story: list[says.Told], *, end: bytes = END) -> Play:
    return always(head(), *events(story, done=False), end)


async def sent(asked: Complete, **config: Any) -> Any:
    """The body of the request that is made of this."""
    async with talking(streamed(says.HELLO), **config) as talk:
        await talk.complete(asked)
        return talk.body


async def refused(asked: Complete, why: str, **config: Any) -> None:
    """The driver does not even send this."""
    async with talking(streamed(says.HELLO), **config) as talk:
        with pytest.raises(BadPrompt, match=why):
            await talk.complete(asked)
        assert not talk.server.asked


# What is sent


async def test_the_key_and_the_version_go_into_headers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLAUDE_TEST_KEY", "sk-ant-1")
    async with talking(streamed(says.HELLO)) as talk:
        await talk.complete(ask())
        asked = talk.server.asked[0]
        assert (asked.method, asked.path) == ("POST", "/v1/messages")
        assert asked.headers["x-api-key"] == "sk-ant-1"
        assert asked.headers["anthropic-version"] == "2023-06-01"


async def test_leading_system_messages_are_the_system_and_later_ones_the_users() -> None:
    history = (system("Be brief."), system("Be kind."), user("Hi."), said("Yes?"), system("Hurry."))
    body = await sent(ask(*history), cache="off")
    assert [block["text"] for block in body["system"]] == ["Be brief.", "Be kind."]
    assert [turn["role"] for turn in body["messages"]] == ["user", "assistant", "user"]
    assert body["messages"][-1]["content"] == [{"type": "text", "text": "Hurry."}]


async def test_neighbours_of_one_role_are_one_message() -> None:
    history = (user("One."), user("Two."), said("Three."), said("Four."), user("Five."))
    body = await sent(ask(*history), cache="off")
    told = [[block["text"] for block in turn["content"]] for turn in body["messages"]]
    assert told == [["One.", "Two."], ["Three.", "Four."], ["Five."]]


async def test_results_stand_directly_behind_the_calls_and_before_other_text() -> None:
    other = ToolCall(id="toolu_b", name="read_file", arguments={"path": "a"})
    history = (
        user("Look."),
        said("I look.", CALL, other),
        result("toolu_a", "a.txt"),
        user("Faster!"),
        result("toolu_b", ""),
    )
    body = await sent(ask(*history, tools=(READ, LIST)), cache="off")
    assert body["messages"][1:] == [
        {
            "role": "assistant",
            "content": [
                {"type": "text", "text": "I look."},
                {"type": "tool_use", "id": "toolu_a", "name": "list_files", "input": {}},
                {"type": "tool_use", "id": "toolu_b", "name": "read_file", "input": {"path": "a"}},
            ],
        },
        {
            "role": "user",
            "content": [
                {"type": "tool_result", "tool_use_id": "toolu_a", "content": "a.txt"},
                {"type": "tool_result", "tool_use_id": "toolu_b"},
                {"type": "text", "text": "Faster!"},
            ],
        },
    ]


async def test_a_text_of_nothing_leaves_no_block() -> None:
    body = await sent(ask(system(" "), user("Hi."), said("\n"), user("Well?")), cache="off")
    assert "system" not in body
    assert body["messages"] == [
        {
            "role": "user",
            "content": [{"type": "text", "text": "Hi."}, {"type": "text", "text": "Well?"}],
        }
    ]


async def test_a_history_that_the_model_begins_gets_a_beginning_of_the_users() -> None:
    body = await sent(ask(said("Welcome."), user("Hi.")), cache="off")
    assert [turn["role"] for turn in body["messages"]] == ["user", "assistant", "user"]


async def test_a_lone_system_message_is_what_the_model_answers() -> None:
    body = await sent(ask(system("Be brief."), system("Say hello.")), cache="off")
    assert [block["text"] for block in body["system"]] == ["Be brief."]
    assert body["messages"] == [
        {"role": "user", "content": [{"type": "text", "text": "Say hello."}]}
    ]


async def test_a_prompt_without_any_text_is_refused() -> None:
    await refused(ask(user(" ")), "no text")


async def test_tools_are_sent_by_name_whatever_their_order() -> None:
    one = await sent(ask(tools=(READ, LIST)), cache="off")
    assert one == await sent(ask(tools=(LIST, READ)), cache="off")
    assert one["tools"][0] == {
        "name": "list_files",
        "description": "List the files.",
        "input_schema": OBJECT,
    }


async def test_what_a_model_needs_with_tools_is_sent_with_them_alone() -> None:
    assert "tool_choice" not in await sent(ask(), model="claude-shy")
    body = await sent(ask(tools=(LIST,)), model="claude-shy")
    assert body["tool_choice"] == ONE_CALL["tool_choice"]


async def test_ids_of_other_vendors_are_made_fit_on_both_sides() -> None:
    call = ToolCall(id="functions.list:0", name="list_files", arguments={})
    body = await sent(ask(user("Look."), said("", call), result(call.id, "a"), tools=(LIST,)))
    assert body["messages"][1]["content"][0]["id"] == "functions_list_0"
    assert body["messages"][2]["content"][0]["tool_use_id"] == "functions_list_0"


@pytest.mark.parametrize(
    ("most", "config", "expected"),
    [
        (7, {"max_tokens": 8}, 7),
        (None, {"max_tokens": 8, "model": "claude-long"}, 8),
        (None, {"model": "claude-long"}, 500),
        (None, {}, 4096),
        (None, {"thinking": 2000}, 6096),
    ],
)
async def test_the_limit_of_the_reply_is_always_sent(
    most: int | None, config: dict[str, Any], expected: int
) -> None:
    body = await sent(ask(sampling=Sampling(max_tokens=most)), **config)
    assert body["max_tokens"] == expected


async def test_sampling_goes_by_the_names_of_the_wire() -> None:
    sampling = Sampling(temperature=0.5, top_p=0.9, stop=("END",))
    body = await sent(ask(sampling=sampling), temperature=1)
    assert (body["temperature"], body["top_p"]) == (0.5, 0.9)
    assert body["stop_sequences"] == ["END"]


@pytest.mark.parametrize(
    ("sampling", "config", "why"),
    [
        (Sampling(seed=1), {}, "no seed"),
        (Sampling(temperature=1.5), {}, "at most 1"),
        (Sampling(temperature=0), {"thinking": "high"}, "temperature is 0"),
        (Sampling(max_tokens=2000), {"thinking": 2000}, "thinking may take 2000"),
    ],
)
async def test_what_the_wire_cannot_do_is_refused_before_it_is_sent(
    sampling: Sampling, config: dict[str, Any], why: str
) -> None:
    await refused(ask(sampling=sampling), why, **config)


# Prompt caching


CONVERSATION = (
    system("Be brief."),
    user("Look."),
    said("", CALL),
    result("toolu_a", "a.txt"),
    said("One file."),
    user("Again."),
    said("", CALL),
    result("toolu_a", "b.txt"),
)


def marked(body: Any) -> list[str]:
    """Where the marks stand, as paths."""
    found = [
        f"tools.{n}" for n, tool in enumerate(body.get("tools", ())) if "cache_control" in tool
    ]
    found += [f"system.{n}" for n, one in enumerate(body["system"]) if "cache_control" in one]
    for at, turn in enumerate(body["messages"]):
        found += [
            f"messages.{at}.{n}" for n, one in enumerate(turn["content"]) if "cache_control" in one
        ]
    return found


def unmarked(body: Any) -> list[Any]:
    """What the provider compares, in its order: tools, system, messages, without marks."""
    bare = copy.deepcopy(body)
    parts = [*bare["tools"], *bare["system"]]
    parts += [(turn["role"], block) for turn in bare["messages"] for block in turn["content"]]
    for part in parts:
        (part[1] if isinstance(part, tuple) else part).pop("cache_control", None)
    return parts


async def test_marks_stand_after_tools_and_system_and_two_messages_of_the_users() -> None:
    body = await sent(ask(*CONVERSATION, tools=(READ, LIST)))
    assert marked(body) == ["tools.1", "system.0", "messages.4.0", "messages.6.0"]
    assert body["system"][0]["cache_control"] == {"type": "ephemeral"}


async def test_an_hour_is_said_in_each_mark_and_off_leaves_them_out() -> None:
    body = await sent(ask(*CONVERSATION, tools=(LIST,)), cache="1h")
    assert body["tools"][0]["cache_control"] == {"type": "ephemeral", "ttl": "1h"}
    assert not marked(await sent(ask(*CONVERSATION, tools=(LIST,)), cache="off"))


@pytest.mark.parametrize(
    ("config", "written"),
    [({}, 3.75), ({"cache": "1h"}, 6), ({"cache": "1h", "price": PRICE}, 3.75)],
)
def test_what_is_kept_for_an_hour_costs_more_to_write(
    config: dict[str, Any], written: float
) -> None:
    card = Anthropic(vendor="by_none", model="claude-long", **config).card()
    assert card.price
    assert card.price.cache_written == written


@pytest.mark.parametrize("length", range(2, len(CONVERSATION)))
async def test_a_prompt_less_its_marks_is_the_beginning_of_the_next(length: int) -> None:
    now = unmarked(await sent(ask(*CONVERSATION[:length], tools=(READ, LIST))))
    then = unmarked(await sent(ask(*CONVERSATION[: length + 1], tools=(READ, LIST))))
    assert then[: len(now)] == now


async def test_the_next_turn_marks_where_this_one_wrote() -> None:
    this = await sent(ask(*CONVERSATION[:6], tools=(LIST,)))
    after = await sent(ask(*CONVERSATION, tools=(LIST,)))
    assert marked(this)[-1] in marked(after)


# Schemas


async def test_a_schema_is_held_by_the_providers_structured_output() -> None:
    body = await sent(ask(json_schema=AGE))
    assert body["output_config"] == {
        "format": {
            "type": "json_schema",
            "schema": {
                "type": "object",
                "properties": {
                    "age": {"type": "integer", "description": 'In years.\n{"minimum": 0}'}
                },
                "required": ["age"],
                "additionalProperties": False,
            },
        }
    }


async def test_kinds_and_choices_and_references_of_a_schema_are_kept() -> None:
    schema: JsonObject = {
        "$defs": {"tag": {"enum": ["a", "b"]}},
        "type": "object",
        "properties": {
            "tags": {"type": "array", "items": {"$ref": "#/$defs/tag"}, "minItems": 1},
            "note": {"type": ["string", "null"]},
            "when": {"oneOf": [{"type": "string", "format": "date"}, {"const": 0}]},
        },
        "additionalProperties": False,
    }
    body = await sent(ask(json_schema=schema))
    assert body["output_config"]["format"]["schema"] == {
        "$defs": {"tag": {"enum": ["a", "b"]}},
        "type": "object",
        "properties": {
            "tags": {"type": "array", "items": {"$ref": "#/$defs/tag"}, "minItems": 1},
            "note": {"anyOf": [{"type": "string"}, {"type": "null"}]},
            "when": {"anyOf": [{"type": "string", "format": "date"}, {"const": 0}]},
        },
        "additionalProperties": False,
    }


async def test_what_structured_output_does_not_know_of_a_list_or_a_text_is_told() -> None:
    items: JsonObject = {"type": "string", "format": "isbn"}
    body = await sent(ask(json_schema={"type": "array", "items": items, "minItems": 3}))
    assert body["output_config"]["format"]["schema"] == {
        "type": "array",
        "items": {"type": "string", "description": '{"format": "isbn"}'},
        "description": '{"minItems": 3}',
    }


@pytest.mark.parametrize(
    "free",
    [
        {"type": "object"},
        {"type": "object", "properties": {"a": {}}, "additionalProperties": {"type": "string"}},
    ],
)
async def test_an_object_of_free_keys_cannot_be_held(free: JsonObject) -> None:
    await refused(ask(json_schema={"type": "array", "items": free}), "keys are free")


async def test_elsewhere_a_schema_is_the_input_of_a_forced_tool_and_its_text() -> None:
    play = streamed(says.FORCED)
    async with talking(play, vendor="by_tool") as talk:
        answer = await talk.complete(ask(json_schema=AGE))
        assert talk.body["tools"][0]["input_schema"] == AGE
        assert talk.body["tool_choice"] == {"type": "tool", "name": "reply"}
        assert answer.text == talk.text() == '{"age": 3}'
        assert (answer.finish, answer.tool_calls) == ("stop", ())


@pytest.mark.parametrize("parts", [(), ("",), ("{", "}")])
async def test_a_forced_tool_without_input_is_an_empty_object(parts: tuple[str, ...]) -> None:
    story = [says.begun(), *says.calling(0, "toolu_a", "reply", *parts), *says.ended("tool_use")]
    async with talking(streamed(story), vendor="by_tool") as talk:
        answer = await talk.complete(ask(json_schema=OBJECT))
        assert answer.text == talk.text() == "{}"


async def test_words_beside_the_forced_tool_are_not_the_reply() -> None:
    story = [says.begun(), *says.text(0, "Here: "), *says.calling(1, "toolu_a", "reply", "{}")]
    async with talking(streamed([*story, *says.ended()]), vendor="by_tool") as talk:
        answer = await talk.complete(ask(json_schema=OBJECT))
        assert answer.text == talk.text() == "{}"


async def test_a_model_that_does_not_call_the_forced_tool_has_not_replied() -> None:
    async with talking(streamed(says.HELLO), vendor="by_tool") as talk:
        with pytest.raises(ModelUnavailable, match="did not keep to the schema: 'Hello"):
            await talk.complete(ask(json_schema=AGE))


@pytest.mark.parametrize("given", [{"age": 3}, {}])
async def test_a_forced_tool_of_a_whole_message_is_text_as_well(given: JsonObject) -> None:
    block = {"type": "tool_use", "id": "toolu_a", "name": "reply", "input": given}
    usage = {"input_tokens": 5, "output_tokens": 4}
    play = always(document(says.message(block, stop="tool_use", usage=usage)))
    async with talking(play, vendor="by_tool") as talk:
        answer = await talk.complete(ask(json_schema=AGE))
        assert json.loads(answer.text) == given
        assert answer.text == talk.text()


@pytest.mark.parametrize(
    ("config", "schema", "why"),
    [
        ({"vendor": "by_tool"}, {"type": "integer"}, "wrap"),
        ({"vendor": "by_tool", "thinking": "adaptive"}, AGE, "cannot think"),
        ({"vendor": "by_none"}, AGE, "cannot be held"),
    ],
)
async def test_a_schema_that_cannot_be_held_is_refused(
    config: dict[str, Any], schema: JsonObject, why: str
) -> None:
    await refused(ask(json_schema=schema), why, **config)


# Thinking


@pytest.mark.parametrize(
    ("thinking", "told", "effort"),
    [
        ("off", {"type": "disabled"}, None),
        ("adaptive", {"type": "adaptive", "display": "summarized"}, None),
        ("xhigh", {"type": "adaptive", "display": "summarized"}, "xhigh"),
        (2000, {"type": "enabled", "budget_tokens": 2000}, None),
    ],
)
async def test_thinking_is_asked_for_as_the_model_knows_it(
    thinking: Any, told: JsonObject, effort: str | None
) -> None:
    body = await sent(ask(), thinking=thinking)
    assert body["thinking"] == told
    assert body.get("output_config", {}).get("effort") == effort


async def test_nothing_is_said_about_thinking_unless_it_is_set() -> None:
    assert "thinking" not in await sent(ask())


def test_a_budget_below_the_least_is_a_mistake_in_the_config() -> None:
    with pytest.raises(ValueError, match="1024"):
        Anthropic(model="claude-test", vendor="by_json_schema", thinking=100)


async def test_a_schema_an_effort_and_extras_share_one_object() -> None:
    extra: JsonObject = {"output_config": {"verbosity": "low"}, "service_tier": "standard_only"}
    body = await sent(ask(json_schema=AGE), thinking="low", extra=extra)
    assert sorted(body["output_config"]) == ["effort", "format", "verbosity"]
    assert body["service_tier"] == "standard_only"


async def test_reasoning_is_streamed_apart_and_counted() -> None:
    async with talking(streamed(says.THOUGHT)) as talk:
        answer = await talk.complete(ask(tools=(LIST,)))
        assert talk.text("reasoning") == answer.reasoning == "Let me see."
        assert talk.text() == answer.text == "I look."
        assert answer.usage.reasoning == talk.meter["llm.reasoning_tokens"] == 12


async def test_signed_reasoning_goes_back_unchanged_before_the_calls() -> None:
    async with talking(streamed(says.THOUGHT), cache="off") as talk:
        answer = await talk.complete(ask(tools=(LIST,)))
        await talk.complete(ask(user("Look."), answer.as_message(), result("toolu_a", "a")))
        assert talk.body["messages"][1]["content"] == [
            {"type": "thinking", "thinking": "Let me see.", "signature": "c2lnbmVk"},
            {"type": "redacted_thinking", "data": "aGlkZGVu"},
            {"type": "text", "text": "I look."},
            {"type": "tool_use", "id": "toolu_a", "name": "list_files", "input": {}},
        ]


async def test_reasoning_between_texts_goes_back_to_its_place() -> None:
    async with talking(streamed(says.THOUGHT_BETWEEN), cache="off") as talk:
        answer = await talk.complete(ask(tools=(LIST,)))
        kept = Completion.model_validate_json(answer.model_dump_json())
        await talk.complete(ask(user("Look."), kept.as_message(), result("toolu_a", "a")))
        told = talk.body["messages"][1]["content"]
        assert [block.get("thinking") or block.get("text") for block in told] == [
            *("First.", "I look.", "Then.", "And again."),
            None,
        ]
        assert told[2]["signature"] == "c2Vjb25k"


async def test_only_reasoning_and_what_stands_before_it_is_kept() -> None:
    async with talking(streamed(says.THOUGHT)) as talk:
        echo = (await talk.complete(ask(tools=(LIST,)))).echo or {}
        kept: Any = echo["blocks"]
        assert [block["type"] for block in kept] == ["thinking", "redacted_thinking"]


async def test_a_vendor_that_always_wants_reasoning_back_gets_it_without_calls() -> None:
    story = [says.begun(), *says.thinking(0, "", "Hm."), *says.text(1, "Yes."), *says.ended()]
    async with talking(streamed(story), vendor="always", cache="off") as talk:
        answer = await talk.complete(ask())
        await talk.complete(ask(user("Is it?"), answer.as_message(), user("Sure?")))
        assert talk.body["messages"][1]["content"] == [
            {"type": "thinking", "thinking": "Hm."},
            {"type": "text", "text": "Yes."},
        ]


async def test_reasoning_of_a_reply_without_calls_is_not_kept() -> None:
    story = [says.begun(), *says.thinking(0, "c2ln", "Hm."), *says.text(1, "Yes.")]
    async with talking(streamed([*story, *says.ended()])) as talk:
        answer = await talk.complete(ask())
        assert (answer.reasoning, answer.echo) == ("Hm.", None)


async def test_another_vendors_signature_is_not_sent() -> None:
    async with talking(streamed(says.THOUGHT)) as talk:
        answer = await talk.complete(ask(tools=(LIST,)))
    asked = ask(user("Look."), answer.as_message(), result("toolu_a", "a"), tools=(LIST,))
    body = await sent(asked, vendor="by_tool")
    assert [block["type"] for block in body["messages"][1]["content"]] == ["text", "tool_use"]


async def test_a_turn_that_began_without_reasoning_is_finished_without_a_budget() -> None:
    midway = (user("Look."), said("", CALL), result("toolu_a", "a.txt"))
    assert "thinking" not in await sent(ask(*midway, tools=(LIST,)), thinking=2000)
    assert "thinking" in await sent(ask(*midway, said("One."), user("More.")), thinking=2000)


async def test_a_turn_that_began_with_reasoning_goes_on_with_it() -> None:
    async with talking(streamed(says.THOUGHT), thinking=2000) as talk:
        answer = await talk.complete(ask(tools=(LIST,)))
        await talk.complete(ask(user("Look."), answer.as_message(), result("toolu_a", "a")))
        assert talk.body["thinking"] == {"type": "enabled", "budget_tokens": 2000}


# What comes back


async def test_a_reply_is_streamed_counted_and_metered() -> None:
    async with talking(streamed(says.HELLO)) as talk:
        answer = await talk.complete(ask())
        assert [text for text, _ in talk.pieces] == ["Hel", "lo ", "世界 🎉"]
        assert (answer.text, answer.finish) == ("Hello 世界 🎉", "stop")
        assert (answer.usage.prompt, answer.usage.completion) == (20, 9)
        assert not answer.usage.estimated
        assert talk.meter == {"llm.prompt_tokens": 20, "llm.completion_tokens": 9}


async def test_the_prompt_is_what_was_new_and_read_and_written() -> None:
    async with talking(streamed(says.TWO_CALLS)) as talk:
        usage = (await talk.complete(ask(tools=(READ, LIST)))).usage
        assert (usage.prompt, usage.cached, usage.cache_written) == (110, 100, 7)
        assert talk.meter["llm.cached_tokens"] == 100
        assert talk.meter["llm.cache_written_tokens"] == 7


async def test_parallel_calls_come_in_splinters_and_without_arguments() -> None:
    async with talking(streamed(says.TWO_CALLS)) as talk:
        answer = await talk.complete(ask(tools=(READ, LIST)))
        assert answer.finish == "tool_calls"
        assert answer.tool_calls == (
            ToolCall(id="toolu_a", name="read_file", arguments={"path": "notes.txt"}),
            ToolCall(id="toolu_b", name="list_files", arguments={}),
        )
        assert talk.text() == "I look."


async def test_a_message_that_is_not_streamed_is_one_as_well() -> None:
    blocks = (
        {"type": "thinking", "thinking": "Hm.", "signature": "c2ln"},
        {"type": "text", "text": "I look."},
        {"type": "tool_use", "id": "toolu_a", "name": "read_file", "input": {"path": "世"}},
    )
    usage = {"input_tokens": 5, "output_tokens": 4}
    play = always(document(says.message(*blocks, stop="tool_use", usage=usage)))
    async with talking(play) as talk:
        answer = await talk.complete(ask(tools=(READ,)))
        assert talk.pieces == [("Hm.", "reasoning"), ("I look.", "text")]
        assert answer.tool_calls[0].arguments == {"path": "世"}
        assert (answer.usage.prompt, answer.usage.completion) == (5, 4)
        assert answer.echo is not None


async def test_a_message_that_is_not_streamed_says_how_it_ended() -> None:
    usage = {"input_tokens": 5, "output_tokens": 4}
    told = says.message({"type": "text", "text": "I lo"}, stop="max_tokens", usage=usage)
    async with talking(always(document(told))) as talk:
        assert (await talk.complete(ask())).finish == "length"


async def test_a_count_of_nothing_does_not_take_the_place_of_one() -> None:
    story = [says.begun(prompt=20), *says.text(0, "Hm."), *says.ended()]
    story[-2]["usage"] |= {"input_tokens": 0, "cache_read_input_tokens": None}
    async with talking(streamed(story)) as talk:
        assert (await talk.complete(ask())).usage.prompt == 20


async def test_a_call_without_a_number_gets_the_next_one() -> None:
    story = [says.begun(), *says.calling(0, "", "list_files"), *says.ended("end_turn")]
    async with talking(streamed(story)) as talk:
        history = (user("Look."), said("", CALL), result("toolu_a", "a.txt"))
        answer = await talk.complete(ask(*history, tools=(LIST,)))
        assert [call.id for call in answer.tool_calls] == ["call_2"]
        assert answer.finish == "tool_calls"


async def test_the_end_of_a_reply_is_not_waited_for_longer_than_it_is_told() -> None:
    async with talking(always(head(), *events(says.HELLO, done=False))) as talk:
        with anyio.fail_after(PATIENCE_S / 2):
            assert (await talk.complete(ask())).finish == "stop"


@pytest.mark.parametrize(
    ("stop", "finish"),
    [
        ("end_turn", "stop"),
        ("stop_sequence", "stop"),
        ("max_tokens", "length"),
        ("model_context_window_exceeded", "length"),
        ("pause_turn", "length"),
        ("refusal", "refused"),
        ("something_new", "stop"),
    ],
)
async def test_every_end_of_a_reply_has_its_name(stop: str, finish: str) -> None:
    story = [says.begun(), *says.text(0, "Hm."), *says.ended(stop)]
    async with talking(streamed(story)) as talk:
        assert (await talk.complete(ask())).finish == finish


@pytest.mark.parametrize("parts", [('{"pa',), ()])
async def test_a_call_that_the_limit_cut_is_left_out(parts: tuple[str, ...]) -> None:
    story = [
        says.begun(),
        *says.calling(0, "toolu_a", "list_files", "{}"),
        *says.calling(1, "toolu_b", "read_file", *parts),
        *says.ended("max_tokens"),
    ]
    async with talking(streamed(story)) as talk:
        answer = await talk.complete(ask(tools=(READ, LIST)))
        assert [call.id for call in answer.tool_calls] == ["toolu_a"]
        assert answer.finish == "length"


async def test_arguments_that_are_no_object_are_the_models_fault() -> None:
    story = [says.begun(), *says.calling(0, "toolu_a", "read_file", '{"pa')]
    async with talking(streamed([*story, *says.ended("tool_use")])) as talk:
        with pytest.raises(ModelUnavailable, match="no JSON object"):
            await talk.complete(ask(tools=(READ,)))


async def test_characters_cut_in_every_place_come_out_whole() -> None:
    whole = b"".join(
        b"event: x\r\ndata: " + json.dumps(told, ensure_ascii=False).encode() + b"\r\n\r\n"
        for told in says.HELLO
    )
    parts = [chunk(whole[at : at + 1]) for at in range(len(whole))]
    async with talking(always(head(), *parts, END)) as talk:
        assert (await talk.complete(ask())).text == "Hello 世界 🎉"


async def test_pings_comments_and_unknown_events_say_nothing() -> None:
    noise = [
        chunk(b": keep-alive\n\n"),
        chunk(b"event: ping\n"),
        *events([{"type": "ping"}], done=False),
    ]
    noise += events([{"type": "news", "delta": {"text": "no"}}], done=False)
    told = events(says.HELLO, done=False)
    mixed = [part for one in told for part in (*noise, one)]
    async with talking(always(head(), *mixed, END)) as talk:
        assert (await talk.complete(ask())).text == "Hello 世界 🎉"


async def test_a_reply_without_its_beginning_still_comes() -> None:
    story = [says.HELLO[2], says.HELLO[3], *says.ended(completion=5)]
    async with talking(streamed(story)) as talk:
        answer = await talk.complete(ask())
        assert answer.text == "Hello "
        assert answer.usage.estimated
        assert answer.usage.prompt == talk.meter["llm.prompt_tokens"] > 0
        assert answer.usage.completion == talk.meter["llm.completion_tokens"] == 5


async def test_one_connection_serves_call_after_call() -> None:
    async with talking(streamed(says.HELLO)) as talk:
        for _ in range(3):
            await talk.complete(ask())
        assert talk.server.connections == 1


# What goes wrong


async def test_a_cut_stream_is_an_error_with_the_text_so_far() -> None:
    async with talking(streamed(says.HELLO[:4])) as talk:
        with pytest.raises(CutReply) as cut:
            await talk.complete(ask())
        assert cut.value.text == "Hello "


async def test_the_meter_of_a_cut_reply_has_the_prompt_and_what_was_written() -> None:
    story = [says.begun(prompt=5, cached=30), *says.text(0, "A word. " * 50)]
    async with talking(streamed(story)) as talk:
        with pytest.raises(CutReply):
            await talk.complete(ask())
        assert talk.meter["llm.prompt_tokens"] == 35
        assert talk.meter["llm.cached_tokens"] == 30
        assert 50 < talk.meter["llm.completion_tokens"] < 200


async def test_the_meter_of_a_cut_reply_has_the_arguments_nobody_saw() -> None:
    story = [
        says.begun(),
        *says.calling(0, "toolu_a", "read_file", '{"path": "' + "word " * 80),
    ]
    async with talking(streamed(story)) as talk:
        with pytest.raises(CutReply):
            await talk.complete(ask(tools=(READ,)))
        assert 80 < talk.meter["llm.completion_tokens"] < 200


async def test_a_cancelled_call_hangs_up_and_has_settled_its_prompt() -> None:
    async with talking(always(head(), *events(says.HELLO[:3], done=False))) as talk:
        with anyio.CancelScope() as scope:

            async def emit(text: str, kind: DeltaKind = "text", /) -> None:
                scope.cancel()
                await anyio.lowlevel.checkpoint()

            await talk.driver.complete(ask(), emit, talk.meter)
        assert scope.cancelled_caught
        assert talk.meter["llm.prompt_tokens"] == 20


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("overloaded_error", ModelUnavailable),
        ("api_error", ModelUnavailable),
        ("rate_limit_error", RateLimited),
        ("invalid_request_error", BadPrompt),
        ("request_too_large", BadPrompt),
    ],
)
async def test_an_error_within_the_stream_is_that_error(
    kind: str, expected: type[ModelError]
) -> None:
    told = {"type": "error", "error": {"type": kind, "message": "It is so."}}
    async with talking(streamed([*says.HELLO[:4], told])) as talk:
        with pytest.raises(expected, match="It is so") as raised:
            await talk.complete(ask())
        assert type(raised.value) is expected
        assert talk.text() == "Hello "


@pytest.mark.parametrize(
    ("status", "kind", "says", "expected"),
    [
        (400, "invalid_request_error", "tools.0.name: too short", BadPrompt),
        (400, "invalid_request_error", "Your credit balance is too low to access", OutOfFunds),
        (
            400,
            "invalid_request_error",
            "You have reached your specified API usage limits",
            OutOfFunds,
        ),
        (401, "authentication_error", "invalid x-api-key", Unauthorized),
        (403, "permission_error", "Your API key may not use this resource", Unauthorized),
        (404, "not_found_error", "model: claude-nothing", ModelMissing),
        (413, "request_too_large", "Request exceeds the maximum size", BadPrompt),
        (500, "api_error", "Internal server error", ModelUnavailable),
        (529, "overloaded_error", "Overloaded", ModelUnavailable),
    ],
)
async def test_every_refusal_has_its_error(
    status: int, kind: str, says: str, expected: type[ModelError]
) -> None:
    told = {"type": "error", "error": {"type": kind, "message": says}, "request_id": "req_1"}
    async with talking(always(document(told, status=status))) as talk:
        with pytest.raises(expected, match=says) as raised:
            await talk.complete(ask())
        assert type(raised.value) is expected


@pytest.mark.parametrize(
    ("says", "tokens", "window"),
    [
        ("prompt is too long: 210000 tokens > 200000 maximum", 210000, 200000),
        (
            "input length and `max_tokens` exceed context limit: 190000 + 20000 > 200000, reduce",
            210000,
            200000,
        ),
    ],
)
async def test_a_prompt_beyond_the_window_is_refused_with_numbers(
    says: str, tokens: int, window: int
) -> None:
    told = {"type": "error", "error": {"type": "invalid_request_error", "message": says}}
    async with talking(always(document(told, status=400))) as talk:
        with pytest.raises(PromptTooLong) as raised:
            await talk.complete(ask())
        assert (raised.value.tokens, raised.value.window) == (tokens, window)


LIMITS = {
    "Date": "Sun, 22 Nov 2026 12:00:00 GMT",
    "anthropic-ratelimit-requests-limit": "50",
    "anthropic-ratelimit-requests-remaining": "0",
    "anthropic-ratelimit-requests-reset": "2026-11-22T12:00:30Z",
    "anthropic-ratelimit-input-tokens-remaining": "9000",
}


async def test_a_rate_limit_says_when_and_how_much_is_left() -> None:
    told = {"type": "error", "error": {"type": "rate_limit_error", "message": "Slower."}}
    refusal = document(told, status=429, headers={"Retry-After": "12", **LIMITS})
    async with talking(always(refusal)) as talk:
        with pytest.raises(RateLimited) as raised:
            await talk.complete(ask())
        assert raised.value.retry_after_s == 12
        assert raised.value.allowances[0] == Allowance(
            what="requests", limit=50, remaining=0, reset_s=30
        )


async def test_the_limits_of_a_good_reply_are_known_as_well() -> None:
    play = always(head(headers=LIMITS), *events(says.HELLO, done=False), END)
    async with talking(play) as talk:
        await talk.complete(ask())
        told = {one.what: one.remaining for one in talk.driver.allowances()}
        assert told == {"requests": 0, "prompt_tokens": 9000}


# Counting


LONG = (user("word " * 700),)
NUMBER = document({"input_tokens": 701})


async def test_a_prompt_far_from_the_window_costs_no_round_trip() -> None:
    async with talking(always(NUMBER)) as talk:
        assert 0 < await talk.driver.count((user("Hello."),), (LIST,)) < 700
        assert not talk.server.asked


async def test_a_prompt_near_the_window_is_counted_by_the_provider() -> None:
    async with talking(always(NUMBER), cache="5m", thinking=2000) as talk:
        assert await talk.driver.count(LONG, (READ,)) == 701
        assert talk.server.asked[0].path == "/v1/messages/count_tokens"
        assert sorted(talk.body) == ["messages", "model", "thinking", "tools"]
        assert "cache_control" not in str(talk.body)


async def test_what_the_provider_counts_is_learned() -> None:
    async with talking(always(document({"input_tokens": 450}))) as talk:
        for _ in range(10):
            await talk.driver.count(LONG, ())
        assert await talk.driver.count(LONG, ()) < 700
        assert len(talk.server.asked) < 10


async def test_the_provider_is_always_asked_where_that_is_set() -> None:
    async with talking(always(document({"input_tokens": 3})), counting="provider") as talk:
        assert await talk.driver.count((user("Hello."),), ()) == 3
        assert talk.driver.card().can.counting == "provider"


async def test_the_provider_is_never_asked_where_that_is_set() -> None:
    async with talking(always(NUMBER), counting="estimate") as talk:
        assert await talk.driver.count(LONG, ()) > 700
        assert not talk.server.asked
        assert talk.driver.card().can.counting == "estimated"


async def test_a_count_that_is_not_there_is_asked_for_once() -> None:
    async with talking(always(document({}, status=404))) as talk:
        estimate = await talk.driver.count(LONG, ())
        assert await talk.driver.count(LONG, ()) == estimate > 700
        assert len(talk.server.asked) == 1


async def test_a_count_that_fails_for_now_is_asked_for_again() -> None:
    async with talking(always(document({}, status=529))) as talk:
        for _ in range(2):
            assert await talk.driver.count(LONG, ()) > 700
        assert len(talk.server.asked) == 2


@pytest.mark.parametrize(
    ("config", "status", "expected"),
    [({"counting": "provider"}, 404, ModelMissing), ({}, 401, Unauthorized)],
)
async def test_a_count_that_cannot_be_had_is_an_error(
    config: dict[str, Any], status: int, expected: type[ModelError]
) -> None:
    async with talking(always(document({}, status=status)), **config) as talk:
        with pytest.raises(expected):
            await talk.driver.count(LONG, ())


async def test_an_answer_without_a_number_is_no_count() -> None:
    async with talking(always(document({"tokens": "many"})), counting="provider") as talk:
        with pytest.raises(NoApi, match="no number of tokens"):
            await talk.driver.count(LONG, ())


def test_a_vendor_that_counts_nothing_cannot_be_the_one_that_counts() -> None:
    with pytest.raises(ValueError, match="counts no prompts"):
        Anthropic(vendor="silent", model="claude-test", counting="provider")


@pytest.mark.parametrize(
    ("path", "asked", "reply"),
    [
        (
            "/chat/completions/input_tokens",  # llama.cpp
            "/v1/chat/completions/input_tokens",
            {"input_tokens": 701, "object": "response.input_tokens"},
        ),
        (
            "/tokenizers/estimate-token-count",  # Kimi
            "/v1/tokenizers/estimate-token-count",
            {"data": {"total_tokens": 701}},
        ),
        ("../tokenize", "/tokenize", {"count": 701, "max_model_len": 4096}),  # vLLM
    ],
)
async def test_openais_wire_is_counted_in_every_vendors_spelling(
    path: str, asked: str, reply: JsonObject, monkeypatch: pytest.MonkeyPatch
) -> None:
    at = Endpoint(base_url="http://127.0.0.1:1", count_path=path)
    counting = row("none").model_copy(update={"endpoints": {"openai": at}})
    monkeypatch.setitem(_vendors.table(), "counting", counting)
    with anyio.fail_after(PATIENCE_S):
        async with playing(always(document(reply))) as server:
            driver = OpenAI(
                vendor="counting", model="m", base_url=f"{server.url}/v1", context_window=1000
            )
            await driver.start()
            assert await driver.count(LONG, (READ,)) == 701
            await driver.stop()
        assert server.asked[0].path == asked
        assert sorted(server.asked[0].body) == ["messages", "model", "tools"]


# Against llama.cpp's own server and a real model


@pytest.fixture(scope="module")
def llamacpp_url() -> Iterator[str]:
    with servers.llamacpp() as url:
        yield url


@asynccontextmanager
async def serving(url: str, **config: Any) -> AsyncIterator[Talk]:
    settings = {"vendor": "by_none", "model": "smollm2", "context_window": 4096, "temperature": 0}
    with anyio.fail_after(MODEL_S):
        driver = Anthropic(**{**settings, "base_url": url, **config})
        await driver.start()
        try:
            yield Talk(driver, WireServer(url))
        finally:
            await driver.stop()


def count_to_ten(most: int = 24, **sampling: Any) -> Complete:
    text = "Count from one to ten, in words, separated by spaces."
    history = (system("You are brief."), user(text))
    return ask(*history, sampling=Sampling(max_tokens=most, **sampling))


@pytest.mark.model
async def test_a_real_model_streams_and_its_server_counts(llamacpp_url: str) -> None:
    async with serving(llamacpp_url, counting="provider") as talk:
        asked = count_to_ten()
        answer = await talk.complete(asked)
        assert len(talk.pieces) > 1
        assert talk.text() == answer.text
        assert answer.usage.prompt == await talk.driver.count(asked.messages, ())
        assert talk.meter["llm.completion_tokens"] == answer.usage.completion <= 24


@pytest.mark.model
async def test_a_real_server_reads_a_known_prompt_from_its_cache(llamacpp_url: str) -> None:
    async with serving(llamacpp_url) as talk:
        first = await talk.complete(count_to_ten(most=8))
        again = await talk.complete(count_to_ten(most=8))
        assert again.usage.prompt == first.usage.prompt
        assert again.usage.cached == talk.meter["llm.cached_tokens"] > again.usage.prompt // 2


@pytest.mark.model
async def test_a_real_reply_ends_at_the_limit_and_before_a_stop_text(llamacpp_url: str) -> None:
    async with serving(llamacpp_url) as talk:
        await talk.complete(count_to_ten(most=8))
        cut = await talk.complete(count_to_ten(most=8))
        assert (cut.finish, cut.usage.completion) == ("length", 8)
        stop = cut.text[5]
        stopped = await talk.complete(count_to_ten(most=8, stop=(stop,)))
        assert stopped.finish == "stop"
        assert stopped.text == cut.text.partition(stop)[0]


@pytest.mark.model
async def test_a_real_reply_whose_beginning_is_not_sent_still_comes(llamacpp_url: str) -> None:
    """llama.cpp leaves out message_start where the first token is a part of a character."""
    async with serving(llamacpp_url) as talk:
        answer = await talk.complete(ask(user(CHINESE), sampling=Sampling(max_tokens=4)))
        assert answer.text == talk.text()
        assert answer.finish == "length"
        assert answer.usage.prompt == talk.meter["llm.prompt_tokens"] > 50
        assert answer.usage.completion == 4


@pytest.mark.model
async def test_a_cancelled_call_frees_the_servers_slot(llamacpp_url: str) -> None:
    async with serving(llamacpp_url, slots=2) as talk:

        async def cut() -> None:
            with anyio.CancelScope() as scope:

                async def emit(text: str, kind: DeltaKind = "text", /) -> None:
                    scope.cancel()
                    await anyio.lowlevel.checkpoint()

                await talk.driver.complete(count_to_ten(most=3000), emit, Meter())

        for _ in range(3):  # more than the server has slots
            await cut()
        with anyio.fail_after(MODEL_S / 4):
            assert (await talk.complete(count_to_ten(most=4))).text


@pytest.mark.model
async def test_a_real_server_refuses_a_long_prompt_with_numbers(llamacpp_url: str) -> None:
    async with serving(llamacpp_url) as talk:
        with pytest.raises(PromptTooLong) as raised:
            await talk.complete(ask(user("word " * 5000)))
        assert raised.value.window == 4096
        assert (raised.value.tokens or 0) > 5000


@pytest.mark.model
async def test_an_address_that_is_no_api_says_so(llamacpp_url: str) -> None:
    async with serving(llamacpp_url, base_url=f"{llamacpp_url}/nothing") as talk:
        with pytest.raises((NoApi, ModelMissing), match=r"base_url|model asked for"):
            await talk.complete(ask())
