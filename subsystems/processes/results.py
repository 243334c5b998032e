"""What of a tool's result stands in the context: all of it, or a stub where it is large or no text.

The whole result stands in the log, once, as the outcome of its syscall; the program has it.
"""

from typing import TYPE_CHECKING

from pydantic import JsonValue
from pydantic_core import to_json

from ..storage.messages import Key, Page
from ..tools.messages import ToolAsks, is_binary
from . import waits

if TYPE_CHECKING:
    from .live import Live
    from .messages import Origin
    from .service import Processes

LONGEST = 256 * 1024
"""Characters of a result in the context; files are read in parts of at most as many bytes."""
HEAD = 2000
"""Characters that a stub shows of a longer one."""


def result_page(value: JsonValue, key: Key, call: str) -> Page:
    """The page of a result: a pointer to its entry, or a text of its own where that is a stub."""
    shown = without_binaries(value)
    text = shown if isinstance(shown, str) else to_json(shown).decode()
    if len(text) > LONGEST:
        text = f"{text[:HEAD]}\n[... {len(text):,} characters in all; the rest is not shown here]"
    elif shown is value:
        return Page(role="tool", entry=key, tool_call_id=call)
    return Page(role="tool", text=text, tool_call_id=call)


def without_binaries(value: JsonValue) -> JsonValue:
    """The same value where it holds none; else a copy in which each is told of, not shown."""
    match value:
        case dict() if is_binary(value):
            return f"[{value['mime_type']}, {len(str(value['base64'])) * 3 // 4:,} bytes]"
        case list():
            items = [without_binaries(item) for item in value]
            same = all(new is old for new, old in zip(items, value, strict=True))
            return value if same else items
        case _:
            return value


class Questions:
    """Where a tool that is being called puts its questions: among those of its process."""

    def __init__(self, service: "Processes", live: "Live", origin: "Origin") -> None:
        self._service, self._live, self._origin = service, live, origin
        self._asked = 0

    async def __call__(self, question: ToolAsks) -> None:
        self._asked += 1
        origin = self._origin._replace(key=f"{self._origin.key}?{self._asked}")
        ask = waits.asking(origin, question.text, question.choices, None)
        question.answer = await waits.answer_within(self._service, self._live, ask)
