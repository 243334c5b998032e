"""The scripted driver's own ways: rules, lists, pauses and token counts."""

import json
import re

import anyio
import pytest
from pydantic import TypeAdapter, ValidationError

from aoskernel.drivers.llm.scripted import Rule, Scripted, call
from aoskernel.subsystems.llm.driver import (
    BadPrompt,
    ChatMessage,
    Complete,
    Completion,
    Meter,
    Sampling,
    Usage,
)

CONFIG: TypeAdapter[Scripted] = TypeAdapter(Scripted)


async def ignore(piece: str, kind: str = "text", /) -> None:
    pass


async def reply(driver: Scripted, *messages: ChatMessage, **rest: object) -> Completion:
    ask = Complete.model_validate({"messages": messages, **rest})
    with anyio.fail_after(20):
        return await driver.complete(ask, ignore, Meter())


def user(text: str) -> ChatMessage:
    return ChatMessage(role="user", text=text)


def assistant(text: str) -> ChatMessage:
    return ChatMessage(role="assistant", text=text)


async def test_a_list_replies_by_the_turn_of_the_conversation() -> None:
    driver = Scripted(script=["first", call("read_file", path="a.txt"), "last"])
    assert (await reply(driver, user("a"), assistant("first"))).tool_calls[0].id == "call_1"
    assert (await reply(driver, user("a"))).text == "first"
    with pytest.raises(BadPrompt, match="ends after 3 replies; this is turn 4"):
        await reply(driver, user("a"), *[assistant("x")] * 3)


async def test_a_function_may_be_async_and_return_several_calls() -> None:
    async def script(ask: Complete) -> list[object]:
        return [call("read_file", path="a"), call("read_file", path="b")]

    said = await reply(Scripted(script=script), user("both"))  # pyright: ignore[reportArgumentType]
    assert [one.id for one in said.tool_calls] == ["call_1", "call_2"]
    assert said.finish == "tool_calls"


async def test_a_whole_completion_is_replied_under_the_scripts_name() -> None:
    told = Completion(
        text="no", finish="refused", usage=Usage(prompt=1, completion=2), model="famous"
    )
    meter = Meter()
    ask = Complete(messages=(user("please"),))
    said = await Scripted(script=[told], name="judge").complete(ask, ignore, meter)
    assert said == told.model_copy(update={"model": "scripted:judge"})
    assert meter == {"llm.prompt_tokens": 1, "llm.cached_tokens": 0, "llm.completion_tokens": 2}


async def test_rules_from_config_fill_in_what_they_matched() -> None:
    driver = CONFIG.validate_python(
        {
            "rules": [
                {"when": "standup", "role": "tool", "say": "It says: {last}"},
                {"when": r"does (\S+)", "call": "read_file", "arguments": {"path": "{1}"}},
                {"when": r"(?P<who>\w+)!", "say": '{"name": "{who}", "of": {}}'},
            ]
        }
    )
    asked = await reply(driver, user("What does notes.txt say?"))
    assert asked.tool_calls[0].arguments == {"path": "notes.txt"}
    result = ChatMessage(role="tool", tool_call_id="call_1", text="the standup does x")
    assert (await reply(driver, user("?"), result)).text == "It says: the standup does x"
    assert json.loads((await reply(driver, user("Anna!"))).text) == {"name": "Anna", "of": {}}


async def test_what_no_rule_matches_is_an_error_that_quotes_it() -> None:
    driver = Scripted(rules=[Rule(when="^yes$", say="no")])
    with pytest.raises(BadPrompt, match="'maybe'"):
        await reply(driver, user("maybe"))


@pytest.mark.parametrize(
    ("config", "told"),
    [
        ({}, "one of `script` and `rules`"),
        ({"rules": [{"when": "x"}]}, "one of `say` and `call`"),
        ({"rules": [{"when": "(", "say": "y"}]}, "no regex"),
        ({"rules": [{"when": "x", "sya": "y"}]}, "sya"),
    ],
)
def test_a_script_that_cannot_work_is_refused_at_boot(config: dict[str, object], told: str) -> None:
    with pytest.raises(ValidationError, match=re.escape(told)):
        CONFIG.validate_python(config)


async def test_a_script_that_says_no_json_to_a_schema_is_an_error() -> None:
    with pytest.raises(BadPrompt, match="asks for JSON"):
        await reply(Scripted(script=["hello"]), user("x"), json_schema={"type": "object"})


async def test_a_token_is_four_bytes() -> None:
    driver = Scripted(script=["你好, world"])
    said = await reply(driver, user("12345678"))
    assert said.usage == Usage(prompt=3 + 2, completion=4)
    assert await driver.count((user("123456789"),), ()) == 3 + 3


async def test_a_prompt_that_has_grown_or_changed_is_counted_as_one_never_seen() -> None:
    one, other = user("abcd" * 5), user("abcd")
    known = Scripted(script=["x"])
    for prompt in [(one,), (one, other), (one, other, one), (one, one), (one,), (), (other, one)]:
        assert await known.count(prompt, ()) == await Scripted(script=["x"]).count(prompt, ())


async def test_the_token_limit_cuts_between_characters() -> None:
    said = await reply(Scripted(script=["你好世界"]), user("x"), sampling=Sampling(max_tokens=1))
    assert said.text == "你"
    assert said.finish == "length"


async def test_pauses_are_the_loops_and_what_was_said_before_a_cut_is_metered() -> None:
    driver = Scripted(script=["one two three four"], first_token_s=0.01, token_s=30)
    meter = Meter()
    with anyio.move_on_after(0.1) as scope:
        await driver.complete(Complete(messages=(user("x"),)), ignore, meter)
    assert scope.cancelled_caught
    assert meter == {"llm.prompt_tokens": 4, "llm.cached_tokens": 0}
