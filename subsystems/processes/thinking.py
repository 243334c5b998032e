"""Thinking: the model goes on with a process's context, and what it says becomes a page."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import BaseModel, ValidationError

from ...kernel.errors import KernelError
from ..llm.messages import Complete, Completion, Sampling, ToolSpec
from ..pager.messages import Render
from ..quota.messages import OverBudget
from ..storage.messages import AddPage, Page
from ..tools.messages import FindTools, OfferTools
from .doubt import Outcome
from .messages import Origin

if TYPE_CHECKING:
    from .live import Live
    from .service import Processes

M = TypeVar("M", bound=BaseModel)

_AS_CONFIGURED = Sampling()


class BadReply(KernelError):
    """The model's reply does not fit the schema. `text` is what it said."""

    def __init__(self, text: str, reason: str) -> None:
        super().__init__(f"the model's reply does not fit the schema: {reason}; it said: {text}")
        self.text = text


class Turn:
    """What a process asks of its model; `said` is that as its log has it."""

    __slots__ = (
        "_found",
        "_live",
        "_model",
        "_new",
        "_sampling",
        "_schema",
        "_service",
        "_tools",
        "said",
    )

    def __init__(
        self,
        service: "Processes",
        live: "Live",
        prompt: str | None,
        schema: type[BaseModel] | None,
        tools: Sequence[str] | None,
        found: Sequence[str],
        model: str | None,
        max_tokens: int | None,
        temperature: float | None,
    ) -> None:
        self._service, self._live = service, live
        self._new = () if prompt is None else (Page(role="user", text=prompt),)
        self._schema = None if schema is None else schema.model_json_schema()
        self._tools, self._found, self._model = tools, found, model
        self._sampling = _AS_CONFIGURED
        if max_tokens is not None or temperature is not None:
            self._sampling = Sampling(max_tokens=max_tokens, temperature=temperature)
        self.said: tuple[Any, ...] = (prompt, self._schema, tools and sorted(tools), model)
        self.said += (max_tokens, temperature, *((list(found),) if found else ()))

    async def work(self, origin: Origin) -> Outcome:
        """The reply, of another model where a quota says so; it and the prompt are pages."""
        offered = await self._offered()
        try:
            completion = await self._complete(self._model, offered, origin)
        except OverBudget as crossed:
            if crossed.action != "degrade":
                raise
            completion = await self._complete(crossed.instead, offered, origin)
        pages = (*self._new, Page(role="assistant", entry=origin.key))
        return completion, tuple(AddPage(page=page) for page in pages)

    async def _offered(self) -> tuple[ToolSpec, ...]:
        if self._tools is None:
            return await self._service.request(OfferTools(found=tuple(self._found)))
        if not self._tools:
            return ()
        found = await self._service.request(FindTools(names=tuple(self._tools)))
        return tuple(tool.spec for tool in found)

    async def _complete(
        self, model: str | None, offered: tuple[ToolSpec, ...], origin: Origin
    ) -> Completion:
        reserve = self._sampling.max_tokens or 0
        pid = self._live.record.pid
        rendered = await self._service.request(
            Render(pid=pid, model=model, new=self._new, tools=offered, reserve=reserve)
        )
        ask = Complete(
            messages=rendered.messages,
            tools=offered,
            json_schema=self._schema,
            sampling=self._sampling,
        )
        sink = self._live.sink()
        return await self._service.request(ask, to=model, sink=sink, origin=origin)


async def noted(page: Page, origin: Origin) -> Outcome:
    """A page that the program adds itself."""
    return None, (AddPage(page=page),)


def fitting(schema: type[M], text: str) -> M:
    """The object that a reply is. Raises BadReply."""
    try:
        return schema.model_validate_json(text)
    except ValidationError as error:
        raise BadReply(text, str(error.errors()[0]["msg"])) from error
