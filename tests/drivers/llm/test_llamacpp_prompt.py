"""How tools and their results are written for a model of plain chat."""

import json

import pytest

from aoskernel.drivers.llm._llamacpp_prompt import (
    cut_answer,
    next_call_id,
    parse,
    render,
    reply_schema,
)
from aoskernel.subsystems.llm.driver import ChatMessage, ModelUnavailable, ToolCall, ToolSpec

ALPHA = ToolSpec(name="alpha", description="First.", parameters={"type": "object"})
BETA = ToolSpec(name="beta", description="Second.", parameters={"type": "object"})
USED = ToolCall(id="call_1", name="alpha", arguments={"path": "备忘.txt"})


def test_a_plain_conversation_stays_as_it_is() -> None:
    messages = [ChatMessage(role="system", text="s"), ChatMessage(role="user", text="u")]
    assert render(messages, ()) == [
        {"role": "system", "content": "s"},
        {"role": "user", "content": "u"},
    ]


def test_tools_stand_behind_the_system_text_sorted_and_canonical() -> None:
    messages = [ChatMessage(role="system", text="Be brief."), ChatMessage(role="user", text="u")]
    first, second = render(messages, (BETA, ALPHA)), render(messages, (ALPHA, BETA))
    assert first == second
    assert first[0]["content"].startswith("Be brief.\n\n")
    assert first[0]["content"].index('"alpha"') < first[0]["content"].index('"beta"')
    assert [turn["role"] for turn in first] == ["system", "user"]


def test_tools_make_a_system_message_where_there_is_none() -> None:
    roles = [turn["role"] for turn in render([ChatMessage(role="user", text="u")], (ALPHA,))]
    assert roles == ["system", "user"]


def test_calls_and_results_are_written_as_the_model_should_write_them() -> None:
    history = [
        ChatMessage(role="user", text="u"),
        ChatMessage(role="assistant", tool_calls=(USED,)),
        ChatMessage(role="tool", tool_call_id="call_1", text="milk"),
        ChatMessage(role="assistant", text="Buy milk."),
    ]
    rendered = render(history, (ALPHA,))
    assert rendered[2]["content"] == '{"tool": "alpha", "arguments": {"path": "备忘.txt"}}'
    assert rendered[3]["role"] == "user"
    assert rendered[3]["content"].startswith("Result of alpha:\nmilk")
    assert rendered[4]["content"] == '{"answer": "Buy milk."}'


def test_neighbours_of_one_role_are_joined() -> None:
    history = [ChatMessage(role="user", text="a"), ChatMessage(role="user", text="b")]
    assert render(history, ()) == [{"role": "user", "content": "a\n\nb"}]


def test_the_definitions_of_several_tools_do_not_meet() -> None:
    def tool(name: str, kind: str) -> ToolSpec:
        properties = {"x": {"$ref": "#/$defs/Part"}}
        parameters = {"properties": properties, "$defs": {"Part": {"type": kind}}}
        return ToolSpec.model_validate({"name": name, "description": "", "parameters": parameters})

    schema = reply_schema((tool("a", "string"), tool("b", "integer")))
    assert schema["$defs"] == {"a.Part": {"type": "string"}, "b.Part": {"type": "integer"}}
    assert '"$ref": "#/$defs/b.Part"' in json.dumps(schema["anyOf"])


def test_a_reply_is_taken_apart() -> None:
    called = '{\n "tool": "alpha", "arguments": {"path": "备忘.txt"}}'
    assert parse(called, call_id="call_1") == ("", (USED,))
    assert parse('{"answer": "yes"}', call_id="call_1") == ("yes", ())


@pytest.mark.parametrize("reply", ["", "yes", '{"tool": 3}', '{"answer": "cu'])
def test_a_reply_of_another_shape_is_an_error(reply: str) -> None:
    with pytest.raises(ModelUnavailable):
        parse(reply, call_id="call_1")


def test_a_lone_surrogate_becomes_a_character_that_can_be_stored() -> None:
    text, _ = parse('{"answer": "a\\ud83d"}', call_id="call_1")
    assert text.encode()


@pytest.mark.parametrize(
    ("reply", "said"),
    [
        ('{"answer": "Buy mi', "Buy mi"),
        ('{"answer": "Buy milk."', "Buy milk."),
        ('{ "answer": "a\\', "a"),
        ('{"answer": "a\\ud83d\\ude0', "a"),
        ('{"answer": "a\\ud83d\\ude00', "a😀"),
        ('{"answer": "', ""),
        ('{"tool": "alpha", "argu', ""),
    ],
)
def test_a_cut_answer_keeps_what_was_said(reply: str, said: str) -> None:
    assert cut_answer(reply) == said


def test_call_ids_follow_from_the_conversation() -> None:
    assert next_call_id([]) == "call_1"
    assert next_call_id([ChatMessage(role="assistant", tool_calls=(USED, USED))]) == "call_3"
