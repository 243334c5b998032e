"""How a conversation with tools looks to a model that only knows plain chat.

Native tool calls fail silently on small models and on templates that drop them, so the tools
stand in the system message and a schema holds the reply to one of two shapes:

    {"tool": "read_file", "arguments": {"path": "notes.txt"}}
    {"answer": "The standup is on Friday."}

Calls and results in the history are written the same way, so the model sees one convention.
"""

import json
import re
from collections.abc import Iterator, Sequence
from itertools import groupby, takewhile
from operator import attrgetter, itemgetter

from ...subsystems.llm.driver import (
    ChatMessage,
    JsonObject,
    ModelUnavailable,
    ToolCall,
    ToolSpec,
)

Turn = tuple[str, str]
"""A role that every chat template knows, and a text."""

INSTRUCTION = """\
Reply with one JSON object.
To use a tool: {"tool": "<name>", "arguments": {...}}
To answer: {"answer": "<text>"}
Tools:"""

NUDGE = "Answer if this is enough."
"""Small models repeat the call otherwise: SmolLM2 used 1 result of 12, with this line 7."""

ANSWER: JsonObject = {
    "type": "object",
    "properties": {"answer": {"type": "string"}},
    "required": ["answer"],
    "additionalProperties": False,
}

CUT_ANSWER = re.compile(r'\s*\{\s*"answer"\s*:\s*"')
LONGEST_ESCAPE = len(r"\ud83d\ude00")
DEFINITIONS = ("$defs", "definitions")


def render(messages: Sequence[ChatMessage], tools: Sequence[ToolSpec]) -> list[dict[str, str]]:
    """The conversation in the roles system, user and assistant.

    Neighbours of one role are joined: many templates refuse two user messages in a row.
    """
    turns = list(_turns(messages, with_tools=bool(tools)))
    if tools:
        leading = sum(1 for _ in takewhile(lambda turn: turn[0] == "system", turns))
        turns.insert(leading, ("system", offer(tools)))
    return [
        {"role": role, "content": "\n\n".join(text for _, text in group)}
        for role, group in groupby(turns, key=itemgetter(0))
    ]


def offer(tools: Sequence[ToolSpec]) -> str:
    """The tools as the model reads them: one order and one spelling, for a stable prefix."""
    specs = (tool.model_dump() for tool in sorted(tools, key=attrgetter("name")))
    return "\n".join(
        [INSTRUCTION, *(_json(spec, sort_keys=True) for spec in specs), *_example(tools)]
    )


def _example(tools: Sequence[ToolSpec]) -> Iterator[str]:
    """One call written out, of the first tool that wants arguments."""
    for tool in sorted(tools, key=attrgetter("name")):
        wanted = tool.parameters.get("required")
        if isinstance(wanted, list) and wanted:
            arguments = {str(name): "..." for name in wanted}
            yield f"For example: {_json({'tool': tool.name, 'arguments': arguments})}"
            return


def reply_schema(tools: Sequence[ToolSpec]) -> JsonObject:
    """The JSON schema of a reply: a call of one of the tools, or an answer."""
    shared: JsonObject = {}
    calls = [_call_schema(tool, shared) for tool in sorted(tools, key=attrgetter("name"))]
    return {"anyOf": [*calls, ANSWER], "$defs": shared}


def parse(reply: str, *, call_id: str) -> tuple[str, tuple[ToolCall, ...]]:
    """The answer, or the call, in a complete reply of that schema."""
    try:
        # The detour over UTF-8 replaces lone surrogates, which JSON allows and no storage takes.
        said = json.loads(_json(json.loads(reply)).encode("utf-8", "replace"))
    except ValueError as error:
        raise ModelUnavailable(f"the model wrote no JSON: {reply[:80]!r}") from error
    match said:
        case {"tool": str(name), "arguments": dict(arguments)}:
            return "", (ToolCall(id=call_id, name=name, arguments=arguments),)
        case {"answer": str(text)}:
            return text, ()
    raise ModelUnavailable(f"the model wrote neither a call nor an answer: {reply[:80]!r}")


def cut_answer(reply: str) -> str:
    """What was already said of an answer that the token limit cut; nothing of a cut call."""
    opening = CUT_ANSWER.match(reply)
    if opening is None:
        return ""
    said = reply[opening.end() :]
    for end in range(len(said), max(len(said) - LONGEST_ESCAPE, 0) - 1, -1):
        try:
            return str(json.loads(f'"{said[:end]}"')).encode("utf-8", "ignore").decode()
        except ValueError:
            continue
    return ""


def next_call_id(messages: Sequence[ChatMessage]) -> str:
    """The id of the next call: its place in the conversation, the same at every replay."""
    return f"call_{1 + sum(len(message.tool_calls) for message in messages)}"


def _turns(messages: Sequence[ChatMessage], *, with_tools: bool) -> Iterator[Turn]:
    names: dict[str, str] = {}
    for message in messages:
        names |= {call.id: call.name for call in message.tool_calls}
        match message.role:
            case "assistant":
                yield "assistant", _said(message, with_tools=with_tools)
            case "tool":
                source = names.get(message.tool_call_id or "", "the tool")
                yield "user", f"Result of {source}:\n{message.text}\n\n{NUDGE}"
            case role:
                yield role, message.text


def _said(message: ChatMessage, *, with_tools: bool) -> str:
    calls = [_json({"tool": call.name, "arguments": call.arguments}) for call in message.tool_calls]
    if not message.text and calls:
        return "\n".join(calls)
    text = _json({"answer": message.text}) if with_tools else message.text
    return "\n".join([text, *calls])


def _call_schema(tool: ToolSpec, shared: JsonObject) -> JsonObject:
    return {
        "type": "object",
        "properties": {"tool": {"const": tool.name}, "arguments": _arguments(tool, shared)},
        "required": ["tool", "arguments"],
        "additionalProperties": False,
    }


def _arguments(tool: ToolSpec, shared: JsonObject) -> JsonObject:
    """The tool's parameters, closed, with their `$defs` moved to the root, where `$ref` looks."""
    schema = {"type": "object", **_rebased(tool)}
    if "properties" in schema:
        schema = {"additionalProperties": False, **schema}
    for place in DEFINITIONS:
        match schema.pop(place, None):
            case dict(found):
                shared |= {f"{tool.name}.{name}": part for name, part in found.items()}
    return schema


def _rebased(tool: ToolSpec) -> JsonObject:
    text = _json(tool.parameters)
    for place in DEFINITIONS:
        text = text.replace(f'"$ref": "#/{place}/', f'"$ref": "#/$defs/{tool.name}.')
    parameters: JsonObject = json.loads(text)
    return parameters


def _json(value: object, *, sort_keys: bool = False) -> str:
    return json.dumps(value, ensure_ascii=False, sort_keys=sort_keys)
