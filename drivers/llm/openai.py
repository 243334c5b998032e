"""Models over the chat-completions wire, which most vendors and local servers speak.

Reference: https://platform.openai.com/docs/api-reference/chat
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import takewhile
from operator import attrgetter
from typing import Any

from ...subsystems.llm.driver import (
    BadPrompt,
    ChatMessage,
    Complete,
    JsonObject,
    ToolCall,
    ToolSpec,
)
from ._openai_reply import Reply
from ._remote import Remote

HELD = "Reply with one JSON object that fits this JSON schema:\n"


@dataclass(kw_only=True)
class OpenAI(Remote):
    """A model behind `/chat/completions`: of OpenAI, or of any vendor of the table.

    [services."llm.default"]
    driver = "openai"
    vendor = "deepseek"
    model = "deepseek-chat"
    """

    wire = "openai"
    path = "/chat/completions"
    home = "openai"

    def _headers(self, key: str) -> dict[str, str]:
        return {"Authorization": f"Bearer {key}"} if key else {}

    def _reply(self, ask: Complete) -> Reply:
        calls = sum(len(message.tool_calls) for message in ask.messages)
        return Reply(self._endpoint, calls_before=calls)

    def _body(self, ask: Complete) -> JsonObject:
        at, body = self._endpoint, self._prompt(ask)
        body["stream"] = True
        if at.stream_usage:
            body["stream_options"] = {"include_usage": True}
        if ask.json_schema is not None:
            self._hold(body, ask.json_schema)
        if ask.tools:
            body |= self._model.with_tools
        return body | self._sampled(ask) | at.extra | self._model.extra | self.extra

    def _prompt(self, ask: Complete) -> JsonObject:
        """The part that is counted: model, messages, tools."""
        body: JsonObject = {
            "model": self.model,
            "messages": [self._message(message) for message in ask.messages],
        }
        if ask.tools:
            body["tools"] = [_tool(tool) for tool in sorted(ask.tools, key=attrgetter("name"))]
        return body

    def _message(self, message: ChatMessage) -> JsonObject:
        told: JsonObject = {"role": message.role, "content": message.text}
        if message.tool_call_id is not None:
            told["tool_call_id"] = message.tool_call_id
        if message.tool_calls:
            told["content"] = message.text or None
            told["tool_calls"] = [_call(call, message.echo) for call in message.tool_calls]
        if message.reasoning and self._wants_back(message):
            told[self._endpoint.reasoning] = message.reasoning
        match message.echo:
            case {"wire": "openai", "message": dict(kept)}:
                told |= kept
        return told

    def _wants_back(self, message: ChatMessage) -> bool:
        """Whether this vendor must see this message's reasoning again."""
        back = self._endpoint.reasoning_back
        return back == "always" or (back == "with_tools" and bool(message.tool_calls))

    def _sampled(self, ask: Complete) -> JsonObject:
        sampling, chosen = ask.sampling, dict[str, Any]()
        temperature = self.temperature if sampling.temperature is None else sampling.temperature
        for name, value in (
            ("temperature", temperature),
            ("top_p", sampling.top_p),
            ("seed", sampling.seed),
            ("stop", list(sampling.stop) or None),
            (self._endpoint.max_tokens, sampling.max_tokens or self.max_tokens),
        ):
            if value is not None:
                chosen[name] = value
        return chosen

    def _hold(self, body: JsonObject, schema: JsonObject) -> None:
        """Ask for JSON of this schema, in the way that the vendor knows."""
        if self._endpoint.schema_as == "json_schema":
            held: JsonObject = {"name": "reply", "schema": schema, "strict": _is_strict(schema)}
            body["response_format"] = {"type": "json_schema", "json_schema": held}
            return
        if schema.get("type") != "object":
            raise BadPrompt(f"{self._row.title} writes JSON objects only: wrap the schema in one")
        body["response_format"] = {"type": "json_object"}
        messages: Any = body["messages"]
        leading = sum(1 for _ in takewhile(lambda told: told["role"] == "system", messages))
        text = HELD + json.dumps(schema, ensure_ascii=False, sort_keys=True)
        messages.insert(leading, {"role": "system", "content": text})


def _tool(tool: ToolSpec) -> JsonObject:
    return {
        "type": "function",
        "function": {
            "name": tool.name,
            "description": tool.description,
            "parameters": tool.parameters,
        },
    }


def _call(call: ToolCall, echo: JsonObject | None) -> JsonObject:
    arguments = json.dumps(call.arguments, ensure_ascii=False)
    told: JsonObject = {
        "id": call.id,
        "type": "function",
        "function": {"name": call.name, "arguments": arguments},
    }
    match echo:
        case {"wire": "openai", "calls": dict(extras)} if call.id in extras:
            told["extra_content"] = extras[call.id]
    return told


def _is_strict(schema: Any) -> bool:
    """Whether every object is closed and requires all it names, as a strict schema must."""
    return all(
        part.get("additionalProperties") is False
        and set(part.get("required", ())) == set(part.get("properties", {}))
        for part in _objects(schema)
    )


def _objects(schema: Any) -> Iterator[dict[str, Any]]:
    if isinstance(schema, dict):
        if schema.get("type") == "object":
            yield schema
        inner: Sequence[Any] = list(schema.values())
    else:
        inner = schema if isinstance(schema, list) else ()
    for part in inner:
        yield from _objects(part)
