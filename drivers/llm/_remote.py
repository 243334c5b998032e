"""What every driver of a remote model does: find its vendor's row, speak, translate, meter.

A wire's driver derives from `Remote` and says what is peculiar to its wire: the headers, the
request's body, and how a reply is put together from what is streamed.
"""

import difflib
import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol

from pydantic import SecretStr

from ...subsystems.llm.driver import (
    Allowance,
    BadPrompt,
    Capabilities,
    ChatMessage,
    Complete,
    Completion,
    CutReply,
    DeltaKind,
    Emit,
    JsonObject,
    Meter,
    ModelCard,
    ModelError,
    ModelMissing,
    ModelUnavailable,
    Price,
    ToolSpec,
    Unauthorized,
    Usage,
    Vendor,
    VendorModel,
    Wire,
)
from .. import _vendors
from .._http import Fault, Http, Patience
from .._stream import Framing
from ._estimate import Estimator
from ._fault import allowances, translated

Piece = tuple[str, DeltaKind]

DEFAULT_WINDOW = 8192
"""Of a model that no table knows, on a server of one's own."""


class Reply(Protocol):
    """A reply as it comes in. `usage` is what the provider has reported so far.

    `is_whole`: its end was said. `is_over`: nothing more can follow.
    """

    usage: Usage | None

    @property
    def is_whole(self) -> bool: ...
    @property
    def is_over(self) -> bool: ...
    @property
    def text(self) -> str: ...
    @property
    def reasoning(self) -> str: ...

    def take(self, payload: Any) -> Iterable[Piece]:
        """The pieces in this payload, in order. Raises Fault for an error in it."""
        ...

    def completion(self, model: str) -> Completion:
        """The reply, when it is whole."""
        ...


@dataclass(kw_only=True)
class Remote:
    """A model at a provider.

    `vendor` names a row of the table (`aosk models list`), which fills in what is left out:
    the base URL, the key's variable, the window in tokens, the price. `region` picks another
    base URL of the row. `slots`: how many calls the provider takes at once. Seconds are for
    connecting, for the first byte of a reply, and between two bytes of it. `extra` goes into
    every request's body as it stands. `proxy` is a URL; without it the environment's is used.
    """

    model: str
    vendor: str = ""
    region: str | None = None
    base_url: str | None = None
    api_key: SecretStr | None = None
    context_window: int | None = None
    max_tokens: int | None = None
    temperature: float | None = None
    slots: int = 32
    price: Price | None = None
    extra: JsonObject = field(default_factory=dict)
    connect_s: float = 10
    first_byte_s: float = 300
    idle_s: float = 60
    proxy: str | None = None
    _http: Http | None = field(default=None, init=False, repr=False, compare=False)

    wire: ClassVar[Wire]
    path: ClassVar[str]
    framing: ClassVar[Framing] = "events"
    home: ClassVar[str]
    """The vendor that is meant when none is named."""

    def __post_init__(self) -> None:
        for name in ("slots", "connect_s", "first_byte_s", "idle_s"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} must be more than 0")
        if self.temperature is not None and self.temperature < 0:
            raise ValueError("temperature must be 0 (greedy) or more")
        self._row = _row(self.vendor or self.home, self.wire)
        self._endpoint = self._row.endpoints[self.wire]
        self._model = self._known()
        self._estimator = Estimator(self.model)
        self._told: Any = {}

    @classmethod
    def vendors(cls) -> tuple[Vendor, ...]:
        """The vendors that speak this wire."""
        return _vendors.speaking(cls.wire)

    async def start(self) -> None:
        """Open the client; nothing is asked yet. Raises Unauthorized, NoApi."""
        try:
            self._http = Http(
                self._url(),
                headers={**self._endpoint.headers, **self._headers(self._key())},
                patience=Patience(
                    connect_s=self.connect_s, first_byte_s=self.first_byte_s, idle_s=self.idle_s
                ),
                slots=self.slots,
                proxy=self.proxy,
            )
        except Fault as fault:
            raise self._translated(fault) from fault

    async def stop(self) -> None:
        """Cut what runs and close the connections."""
        if self._http is not None:
            await self._http.close()
        self._http = None

    def card(self) -> ModelCard:
        """What the table says of this model, and what the config says instead."""
        known = self._model
        return ModelCard(
            model=self.model,
            driver=self.wire,
            vendor=self._row.name,
            context_window=self.context_window or known.context_window,
            max_output=known.max_output,
            slots=self.slots,
            can=known.can,
            price=self.price or known.price,
            note=f"Retired: {known.retired}" if known.retired else known.note,
        )

    async def complete(self, ask: Complete, emit: Emit, meter: Meter) -> Completion:
        """Answer, streamed."""
        self._check(ask)
        body = self._body(ask)
        reply, bill = self._reply(ask), Bill(meter)
        try:
            async with self._running().stream(self.path, body, self.framing) as payloads:
                self._told = payloads.headers
                async for payload in payloads:
                    for text, kind in reply.take(payload):
                        await emit(text, kind)
                    if reply.usage is not None:
                        bill.settle(reply.usage)
                    if reply.is_over:
                        break
                if reply.is_whole:
                    await payloads.finish()
            if not reply.is_whole:
                raise CutReply(f"{self._row.title} ended the reply before its end", text=reply.text)
        except Fault as fault:
            raise self._translated(fault, reply) from fault
        finally:
            if reply.usage is None and (reply.text or reply.reasoning):
                bill.settle(self._estimated(ask, reply))
        return self._learned(ask, reply)

    async def count(self, messages: tuple[ChatMessage, ...], tools: tuple[ToolSpec, ...]) -> int:
        """Tokens of the prompt, estimated with a reserve."""
        return self._estimator.at_most(self._estimator.prompt(messages, tools))

    def allowances(self) -> tuple[Allowance, ...]:
        """What the headers of the last reply said."""
        return tuple(allowances(self._told))

    # What is peculiar to a wire

    def _headers(self, key: str) -> dict[str, str]:
        raise NotImplementedError

    def _body(self, ask: Complete) -> JsonObject:
        raise NotImplementedError

    def _reply(self, ask: Complete) -> Reply:
        raise NotImplementedError

    # What is common

    def _check(self, ask: Complete) -> None:
        """Refuse what cannot work before money is spent. Raises BadPrompt."""
        can, sampling = self._model.can, ask.sampling
        if ask.tools and ask.json_schema is not None:
            raise BadPrompt("tools and json_schema exclude each other: leave one out")
        if ask.tools and not can.tools:
            raise BadPrompt(
                f"{self.model} cannot call tools: leave them out, or take another model"
            )
        if ask.json_schema is not None and not can.json_schema:
            raise BadPrompt(f"{self.model} cannot be held to a JSON schema: leave it out")
        if ask.json_schema is not None and ask.sampling.stop:
            raise BadPrompt("a stop text would cut the JSON: leave `stop` or `json_schema` out")
        most = self._model.max_output
        if most is not None and (sampling.max_tokens or 0) > most:
            raise BadPrompt(
                f"max_tokens is {sampling.max_tokens}; {self.model} writes at most {most}"
            )
        if (heat := sampling.temperature or self.temperature or 0) > self._endpoint.max_temperature:
            raise BadPrompt(
                f"temperature is {heat}; {self._row.title} takes at most "
                f"{self._endpoint.max_temperature}"
            )

    def _running(self) -> Http:
        if self._http is None:
            raise ModelUnavailable("the model is not started")
        return self._http

    def _translated(self, fault: Fault, reply: Reply | None = None) -> ModelError:
        error = translated(fault, title=self._row.title, key=self._row.key, model=self.model)
        if isinstance(error, CutReply) and reply is not None:
            error.text = reply.text
        return error

    def _estimated(self, ask: Complete, reply: Reply) -> Usage:
        """What a call used that was cut before the provider said it."""
        count = self._estimator
        thought = count.text(reply.reasoning) if reply.reasoning else 0
        return Usage(
            prompt=count.prompt(ask.messages, ask.tools),
            completion=thought + (count.text(reply.text) if reply.text else 0),
            reasoning=thought,
            estimated=True,
        )

    def _learned(self, ask: Complete, reply: Reply) -> Completion:
        completion = reply.completion(self.model)
        if reply.usage is None:
            return completion.model_copy(update={"usage": self._estimated(ask, reply)})
        self._estimator.learn(ask.messages, ask.tools, reply.usage.prompt)
        return completion

    def _url(self) -> str:
        if self.base_url:
            return self.base_url
        if self.region is None:
            return self._endpoint.base_url
        if self.region not in self._endpoint.regions:
            known = ", ".join(self._endpoint.regions) or "none"
            raise ModelMissing(f"{self._row.title} has no region {self.region!r}; it has: {known}")
        return self._endpoint.regions[self.region]

    def _key(self) -> str:
        """The API key, or "" where none is needed. Raises Unauthorized."""
        name = self._row.key
        key = self.api_key.get_secret_value() if self.api_key else os.environ.get(name, "")
        if not key and name and self.base_url is None:
            raise Unauthorized(
                f"{self._row.title} needs an API key: set the environment variable {name}, "
                f'or write api_key = {{ env = "NAME" }}'
            )
        if not key.isascii() or not key.isprintable():
            raise Unauthorized(f"the API key in {name or 'api_key'} has characters no key has")
        return key

    def _known(self) -> VendorModel:
        """The table's entry for this model. Raises ModelMissing."""
        found = _vendors.find_model(self._row, self.model)
        if found is not None:
            return found
        if not (self._row.open or self.base_url or self.context_window):
            near = difflib.get_close_matches(self.model, [m.name for m in self._row.models], 3, 0.3)
            raise ModelMissing(
                f"{self._row.title} has no model {self.model!r} in the table; "
                f"near: {', '.join(near) or 'none'}. If it is newer, set context_window"
            )
        able = Capabilities(tools=True, parallel_tools=True, json_schema=True, counting="estimated")
        return VendorModel(
            name=self.model, context_window=self.context_window or DEFAULT_WINDOW, can=able
        )


class Bill:
    """Keeps a call's meter at what was used so far."""

    def __init__(self, meter: Meter) -> None:
        self._meter = meter
        self._settled = Usage(prompt=0, completion=0)

    def settle(self, used: Usage) -> None:
        """This much was used, all in all."""
        before, self._settled = self._settled, used
        if used is before:
            return
        for name, value in METERED:
            if change := getattr(used, value) - getattr(before, value):
                self._meter.add(name, change)


METERED = (
    ("llm.prompt_tokens", "prompt"),
    ("llm.cached_tokens", "cached"),
    ("llm.completion_tokens", "completion"),
    ("llm.cache_written_tokens", "cache_written"),
    ("llm.reasoning_tokens", "reasoning"),
)


def _row(name: str, wire: Wire) -> Vendor:
    rows = _vendors.table()
    if name not in rows:
        near = difflib.get_close_matches(name, rows, 1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise ValueError(f"no vendor {name!r}; {hint}known: {', '.join(sorted(rows))}")
    row = rows[name]
    if wire not in row.endpoints:
        raise ValueError(
            f"{row.title} does not speak {wire!r}; use driver = {next(iter(row.endpoints))!r}"
        )
    return row
