"""What the checks ask, and what a model that says what it is told replies to it."""

import json
from typing import Any

from ..driver import ChatMessage, Complete, JsonObject, Sampling, ToolCall, ToolSpec

COUNT_UP = "Count from one to ten, in words, separated by spaces."
STORY = "Tell a long story."
HELLO = "Hello."
READ_ONE = "Read the file notes.txt."
READ_BOTH = "Read the files a.txt and b.txt, both at once."
READ_AFTER = "Fine. Now read the file plan.txt."
THINK = "Which is more, 17 or 71? Think before you answer."

GREETING = "🎉🚀🦊 你好,世界"

PERSON: JsonObject = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "enum": ["Anna", "Ben"]},
        "age": {"type": "integer"},
    },
    "required": ["name", "age"],
    "additionalProperties": False,
}
WELCOME: JsonObject = {
    "type": "object",
    "properties": {"greeting": {"type": "string", "enum": [GREETING]}},
    "required": ["greeting"],
    "additionalProperties": False,
}
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

ENGLISH = (
    "The harbour wakes before the town does. Boats come in with the tide, gulls behind them, "
    "and on the quay a woman in a yellow coat writes down what each of them has brought: so "
    "many crates of cod, so many of plaice, now and then a crab that nobody had counted on. "
)
CHINESE = (
    "港口比小镇醒得早。船随着潮水进港,海鸥跟在后面,码头上一个穿黄色外套的女人记下每条船"
    "带回了什么:多少箱鳕鱼,多少箱比目鱼,偶尔还有一只谁也没料到的螃蟹。"
)
CODE = (
    "def quay(boats, limit=12):\n    crates = {}\n    for boat in sorted(boats, key=len):\n"
    "        for kind, n in boat.items():\n            crates[kind] = crates.get(kind, 0) + n\n"
    "    return {k: v for k, v in crates.items() if v < limit}\n"
)

NUMBERS = "One two three four five six seven eight nine ten, and so it goes on and on."


def question(text: str, *, most: int, stop: tuple[str, ...] = (), **rest: Any) -> Complete:
    """A user's message, answered in at most `most` tokens."""
    messages = (ChatMessage(role="user", text=text),)
    return Complete(messages=messages, sampling=Sampling(max_tokens=most, stop=stop), **rest)


def script(ask: Complete) -> str | tuple[ToolCall, ...]:
    """What a "told" model says to the checks; calls without an id get one from the driver."""
    if ask.json_schema is not None:
        told = {"greeting": GREETING} if ask.json_schema == WELCOME else {"name": "Anna", "age": 31}
        return json.dumps(told, ensure_ascii=False)
    last = ask.messages[-1]
    return CALLS.get(last.text, NUMBERS) if ask.tools and last.role == "user" else NUMBERS


def _read(path: str) -> ToolCall:
    return ToolCall(id="", name=READ.name, arguments={"path": path})


CALLS: dict[str, tuple[ToolCall, ...]] = {
    READ_ONE: (_read("notes.txt"),),
    READ_BOTH: (_read("a.txt"), _read("b.txt")),
    READ_AFTER: (_read("plan.txt"),),
}
"""What a "told" model calls, by the user's last message."""
