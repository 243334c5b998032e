"""The pager: a process's prompt is a pure view of its pages. Append-only for now."""

import json

from ...kernel.events import ServiceSwapped
from ...kernel.service import Service, handles, subscribes
from ..llm.messages import ChatMessage, Completion, Count, Describe, ToolSpec
from ..storage.messages import Page, Pid, ReadPages
from .messages import ContextOverflow, Prompt, Render

UNANSWERED = "(not called: the step was interrupted)"
"""Stands where a tool call has no result, so that the history is valid for every provider."""

TEMPLATE = 64
"""Tokens that a model's template may put around a message or a tool."""


class _Resident:
    """The pages of one process that are in memory, decoded and counted once."""

    __slots__ = ("messages", "pages", "tokens")

    @property
    def last(self) -> int:
        """The number of the last page, 0 where there is none."""
        return self.pages[-1].number if self.pages else 0

    def __init__(self) -> None:
        self.pages: list[Page] = []
        self.messages: list[ChatMessage] = []
        self.tokens: dict[str | None, list[int]] = {}


class Pager(Service, name="pager", needs=[ReadPages, Count, Describe]):
    """Renders prompts and keeps them within the window.

    The pages of the `resident` processes that rendered last are kept decoded.
    """

    def __init__(self, resident: int = 256) -> None:
        self._most = resident
        self._resident: dict[Pid, _Resident] = {}
        self._windows: dict[str | None, int] = {}

    @subscribes(ServiceSwapped)
    async def forget_windows(self, event: ServiceSwapped) -> None:
        """A model was replaced; its successor's window may differ."""
        self._windows.clear()

    @handles(Render)
    async def render(self, ask: Render) -> Prompt:
        resident = await self._page_in(ask.pid)
        new = [_decoded(page) for page in ask.new]
        pages = [*resident.pages, *ask.new]
        messages = _in_layout(pages, [*resident.messages, *new])
        tokens = await self._fit(ask, resident, new, messages)
        return Prompt(messages=messages, tokens=tokens)

    async def _page_in(self, pid: Pid) -> _Resident:
        """Read what was committed since the last time."""
        resident = self._resident[pid] = self._resident.pop(pid, _Resident())
        if len(self._resident) > self._most:
            del self._resident[next(iter(self._resident))]
        for page in await self.request(ReadPages(pid=pid, after=resident.last)):
            if page.number > resident.last:  # else a parallel branch has been faster
                resident.pages.append(page)
                resident.messages.append(_decoded(page))
        return resident

    async def _fit(
        self,
        ask: Render,
        resident: _Resident,
        new: list[ChatMessage],
        messages: tuple[ChatMessage, ...],
    ) -> int:
        """Tokens of the prompt: bounded while it is small, then its parts', then exactly."""
        window = await self._window(ask.model) - ask.reserve
        if (most := _at_most(messages, ask.tools)) <= window // 2:
            return most
        tokens = 0 if ask.tools else await self._estimate(ask.model, resident, new)
        if ask.tools or tokens > window // 2:
            exactly = Count(messages=messages, tools=ask.tools)
            tokens = await self.request(exactly, to=ask.model)
        if tokens > window:
            pages = zip([*resident.pages, *ask.new], [*resident.messages, *new], strict=True)
            pinned = [repr(message.text[:40]) for page, message in pages if page.pinned]
            raise ContextOverflow(tokens=tokens, window=window, pinned=pinned)
        return tokens

    async def _window(self, model: str | None) -> int:
        if model not in self._windows:
            card = await self.request(Describe(), to=model)
            self._windows[model] = card.context_window
        return self._windows[model]

    async def _estimate(
        self, model: str | None, resident: _Resident, new: list[ChatMessage]
    ) -> int:
        """Each page counted by itself, the resident ones once; never less than the whole."""
        counted = resident.tokens.setdefault(model, [])
        while (position := len(counted)) < len(resident.messages):
            tokens = await self._count(model, resident.messages[position])
            if position == len(counted):
                counted.append(tokens)
        return sum(counted) + sum([await self._count(model, message) for message in new])

    async def _count(self, model: str | None, message: ChatMessage) -> int:
        return await self.request(Count(messages=(message,)), to=model)


def _at_most(messages: tuple[ChatMessage, ...], tools: tuple[ToolSpec, ...]) -> int:
    """No tokenizer makes more tokens than there are bytes; a template adds some to each part."""
    parts = [message.text for message in messages]
    parts += [message.reasoning for message in messages if message.reasoning]
    parts += [call.model_dump_json() for message in messages for call in message.tool_calls]
    parts += [tool.model_dump_json() for tool in tools]
    size = sum([len(part) if part.isascii() else 4 * len(part) for part in parts])
    return size + TEMPLATE * (len(parts) + 1)


def _decoded(page: Page) -> ChatMessage:
    """The page as the model sees it."""
    if page.entry is None:
        return ChatMessage(role=page.role, text=page.text, tool_call_id=page.tool_call_id)
    if page.role == "assistant":
        return Completion.model_validate_json(page.text).as_message()
    return ChatMessage(role=page.role, text=plain(page.text), tool_call_id=page.tool_call_id)


def plain(body: str) -> str:
    """A JSON text as a model reads it: a string as it is, anything else as JSON."""
    value = json.loads(body)
    return value if isinstance(value, str) else body


def _in_layout(pages: list[Page], messages: list[ChatMessage]) -> tuple[ChatMessage, ...]:
    """Stable to volatile: system, pinned, then the history; every tool call has its result."""
    pairs = list(zip(pages, messages, strict=True))
    system = [m for p, m in pairs if p.role == "system"]
    pinned = [m for p, m in pairs if p.pinned and p.role != "system"]
    history = [m for p, m in pairs if not p.pinned and p.role != "system"]
    return (*system, *pinned, *_answered(history))


def _answered(history: list[ChatMessage]) -> list[ChatMessage]:
    """Put each result behind its call, and a note where a call has none."""
    results: dict[tuple[int, str], ChatMessage] = {}
    asked: dict[str, int] = {}  # ids may recur: a result belongs to the latest call before it
    for position, message in enumerate(history):
        asked.update((call.id, position) for call in message.tool_calls)
        if message.role == "tool" and message.tool_call_id in asked:
            results[asked[message.tool_call_id], message.tool_call_id] = message
    told: list[ChatMessage] = []
    for position, message in enumerate(history):
        if message.role == "tool":
            continue
        told.append(message)
        for call in message.tool_calls:
            missing = ChatMessage(role="tool", text=UNANSWERED, tool_call_id=call.id)
            told.append(results.get((position, call.id), missing))
    return told
