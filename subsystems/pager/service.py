"""The pager: a process's prompt is a pure view of its pages. Append-only for now."""

import json

from ...kernel.events import ServiceSwapped
from ...kernel.service import Service, handles, subscribes
from ..llm.messages import ChatMessage, Completion, Count, Describe, ToolSpec
from ..storage.messages import Page, Pid, ReadPages
from .layout import TEMPLATE, Layout, bound
from .messages import ContextOverflow, Prompt, Render


class _Resident:
    """The pages of one process that are in memory, decoded, laid out and counted once."""

    __slots__ = ("counted", "last", "layout", "messages")

    def __init__(self) -> None:
        self.last = 0  # the number of the last page
        self.layout = Layout()
        self.messages: list[ChatMessage] = []
        self.counted: dict[str | None, tuple[int, int]] = {}  # by model: messages, their tokens

    def add(self, page: Page) -> None:
        message = _decoded(page)
        self.last = page.number
        self.messages.append(message)
        self.layout.add(page, message)


class Pager(Service, name="pager", needs=[ReadPages, Count, Describe]):
    """Renders prompts and keeps them within the window.

    The pages of the `resident` processes that rendered last are kept decoded.
    """

    def __init__(self, resident: int = 256) -> None:
        self._most = resident
        self._resident: dict[Pid, _Resident] = {}
        self._windows: dict[str | None, int] = {}
        self._offered: tuple[tuple[ToolSpec, ...], int] = ((), 0)

    @subscribes(ServiceSwapped)
    async def forget_windows(self, event: ServiceSwapped) -> None:
        """A model was replaced; its successor's window may differ."""
        self._windows.clear()

    @handles(Render)
    async def render(self, ask: Render) -> Prompt:
        resident = await self._page_in(ask.pid)
        new = [_decoded(page) for page in ask.new]
        layout = resident.layout
        if new:
            layout = layout.grown(zip(ask.new, new, strict=True))
        tokens = await self._fit(ask, resident, new, layout)
        return Prompt(messages=layout.messages, tokens=tokens)

    async def _page_in(self, pid: Pid) -> _Resident:
        """Read what was committed since the last time."""
        resident = self._resident[pid] = self._resident.pop(pid, _Resident())
        if len(self._resident) > self._most:
            del self._resident[next(iter(self._resident))]
        for page in await self.request(ReadPages(pid=pid, after=resident.last)):
            if page.number > resident.last:  # else a parallel branch has been faster
                resident.add(page)
        return resident

    async def _fit(
        self, ask: Render, resident: _Resident, new: list[ChatMessage], layout: Layout
    ) -> int:
        """Tokens of the prompt: bounded while it is small, then its parts', then exactly."""
        window = await self._window(ask.model) - ask.reserve
        if (most := layout.most + self._tools_at_most(ask.tools)) <= window // 2:
            return most
        tokens = 0 if ask.tools else await self._estimate(ask.model, resident, new)
        if ask.tools or tokens > window // 2:
            exactly = Count(messages=layout.messages, tools=ask.tools)
            tokens = await self.request(exactly, to=ask.model)
        if tokens > window:
            pinned = [repr(message.text[:40]) for message in layout.held]
            raise ContextOverflow(tokens=tokens, window=window, pinned=pinned)
        return tokens

    def _tools_at_most(self, tools: tuple[ToolSpec, ...]) -> int:
        """Tokens of what is around the messages; the same tools come again and again."""
        if tools != self._offered[0]:
            self._offered = tools, sum(bound(tool.model_dump_json()) for tool in tools)
        return self._offered[1] + TEMPLATE

    async def _window(self, model: str | None) -> int:
        if model not in self._windows:
            card = await self.request(Describe(), to=model)
            self._windows[model] = card.context_window
        return self._windows[model]

    async def _estimate(
        self, model: str | None, resident: _Resident, new: list[ChatMessage]
    ) -> int:
        """Each page counted by itself, the resident ones once; never less than the whole."""
        while True:
            position, counted = resident.counted.get(model, (0, 0))
            if position == len(resident.messages):
                break
            tokens = await self._count(model, resident.messages[position])
            if resident.counted.get(model, (0, 0))[0] == position:  # no parallel branch was faster
                resident.counted[model] = position + 1, counted + tokens
        return counted + sum([await self._count(model, message) for message in new])

    async def _count(self, model: str | None, message: ChatMessage) -> int:
        return await self.request(Count(messages=(message,)), to=model)


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
