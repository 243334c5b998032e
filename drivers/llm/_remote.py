"""What every driver of a remote model does: find its vendor's row, speak, translate, meter.

A wire's driver derives from `Remote` and says what is peculiar to its wire: the headers, the
request's body, and how a reply is put together from what is streamed.
"""

from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from pydantic import SecretStr

from ...subsystems.llm.driver import (
    Allowance,
    Capabilities,
    ChatMessage,
    Complete,
    Completion,
    CutReply,
    Emit,
    JsonObject,
    Meter,
    ModelCard,
    ModelError,
    ModelUnavailable,
    Price,
    ToolSpec,
    Usage,
    Vendor,
    Wire,
)
from .. import _vendors
from .._account import Account
from .._http import Fault, Http, Patience
from .._stream import Framing
from ._check import check_held, check_sampling
from ._counting import Counter, Counting, counted
from ._estimate import Estimator
from ._fault import translated
from ._known import known_model, price_of
from ._meter import Bill
from ._prices import genai_price
from ._rates import allowances
from ._reply import Reply


@dataclass(kw_only=True)
class Remote:
    """A model at a provider.

    `vendor` names a row of the table (`aosk models list`), which fills in what is left out:
    the base URL, the key's variable, the window in tokens, the price. `region` picks another
    base URL of the row. `slots`: how many calls the provider takes at once. Seconds are for
    connecting, for the first byte of a reply, and between two bytes of it. `counting` says who
    counts prompts: "auto" asks the provider only near the window. `extra` goes into every
    request's body as it stands. `price` is one's own, or "genai-prices" for what that library
    says as the driver is made. `proxy` is a URL; without it the environment's is used.
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
    price: Price | Literal["genai-prices"] | None = None
    counting: Counting = "auto"
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
        self._account = Account.find(
            self.vendor or self.home,
            self.wire,
            region=self.region,
            base_url=self.base_url,
            api_key=self.api_key,
        )
        self._row, self._endpoint = self._account.row, self._account.endpoint
        self._model = known_model(self._account, self.model, window=self.context_window)
        self._price = self._priced()
        self._estimator = Estimator(self.model, reasoning_back=self._endpoint.reasoning_back)
        self._counter = Counter(
            self.counting,
            path=self._endpoint.count_path,
            window=self.context_window or self._model.context_window,
            title=self._row.title,
        )
        self._can = self._able()
        self._told: Any = {}

    @classmethod
    def vendors(cls) -> tuple[Vendor, ...]:
        """The vendors that speak this wire."""
        return _vendors.speaking(cls.wire)

    async def start(self) -> None:
        """Open the client; nothing is asked yet. Raises Unauthorized, NoApi."""
        try:
            self._http = Http(
                self._account.url,
                headers={**self._endpoint.headers, **self._headers(self._account.key)},
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
            account=self._account.fingerprint,
            context_window=self.context_window or known.context_window,
            max_output=known.max_output,
            slots=self.slots,
            can=self._can,
            price=self._price,
            note=f"Retired: {known.retired}" if known.retired else known.note,
        )

    async def complete(self, ask: Complete, emit: Emit, meter: Meter) -> Completion:
        """Answer, streamed."""
        self._check(ask)
        body = self._body(ask)
        reply, bill = self._reply(ask), Bill(meter)
        try:
            async with self._running().stream(self._path(), body, self.framing) as payloads:
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
            if reply.usage or reply.generated or reply.reasoning:
                bill.settle(self._used(ask, reply))
        return self._learned(ask, reply)

    async def count(self, messages: tuple[ChatMessage, ...], tools: tuple[ToolSpec, ...]) -> int:
        """Tokens of the prompt, by the provider's own count or estimated with a reserve."""
        most = self._estimator.prompt(messages, tools).at_most
        if not messages or not self._counter.asks(most):
            return most
        body = self._prompt(Complete(messages=messages, tools=tools))
        try:
            tokens = counted(await self._running().ask("POST", self._counter.path, body))
        except Fault as fault:
            if self._counter.forgives(fault):
                return most
            raise self._translated(fault) from fault
        self._estimator.learn(messages, tools, tokens)
        return tokens

    def allowances(self) -> tuple[Allowance, ...]:
        """What the headers of the last reply said."""
        return tuple(allowances(self._told))

    # What is peculiar to a wire

    def _path(self) -> str:
        return self.path

    def _headers(self, key: str) -> dict[str, str]:
        raise NotImplementedError

    def _prompt(self, ask: Complete) -> JsonObject:
        """The part of the body that is counted."""
        raise NotImplementedError

    def _body(self, ask: Complete) -> JsonObject:
        raise NotImplementedError

    def _reply(self, ask: Complete) -> Reply:
        raise NotImplementedError

    # What is common

    def _check(self, ask: Complete) -> None:
        """Refuse what cannot work before money is spent. Raises BadPrompt."""
        check_held(ask, self.model, self._can)
        title, temperature = self._row.title, self.temperature
        known, at = self._model, self._endpoint
        check_sampling(ask, self.model, known, at, title=title, temperature=temperature)

    def _priced(self) -> Price | None:
        if self.price == "genai-prices":
            return genai_price(self._row.name, self.region, self.model)
        return self.price or price_of(self._account, self._model)

    def _running(self) -> Http:
        if self._http is None:
            raise ModelUnavailable("the model is not started")
        return self._http

    def _translated(self, fault: Fault, reply: Reply | None = None) -> ModelError:
        error = translated(
            fault,
            title=self._row.title,
            key=self._account.key_name,
            model=self.model,
            codes=self._row.errors,
        )
        if isinstance(error, CutReply) and reply is not None:
            error.text = reply.text
        return error

    def _used(self, ask: Complete, reply: Reply) -> Usage:
        """What a call used: as the provider said, estimated where it was cut before it did."""
        told, count = reply.usage or Usage(prompt=0, completion=0), self._estimator
        if told.prompt and reply.is_whole and (told.completion or not reply.generated):
            return told
        thought = max(count.text(reply.reasoning).tokens, 1) if reply.reasoning else 0
        seen = thought + (max(count.text(reply.generated).tokens, 1) if reply.generated else 0)
        said = told.completion if reply.is_whole else 0
        return told.model_copy(
            update={
                "prompt": told.prompt or count.prompt(ask.messages, ask.tools).tokens,
                "completion": said or max(told.completion, seen),
                "reasoning": told.reasoning or thought,
                "estimated": True,
            }
        )

    def _learned(self, ask: Complete, reply: Reply) -> Completion:
        completion = reply.completion(self.model)
        used = self._used(ask, reply)
        if not used.estimated:
            self._estimator.learn(ask.messages, ask.tools, used.prompt)
        return completion.model_copy(update={"usage": used})

    def _able(self) -> Capabilities:
        """What the model can do over this wire."""
        can = self._model.can
        is_held = can.json_schema and self._endpoint.schema_as != "none"
        return can.model_copy(update={"json_schema": is_held, "counting": self._counter.card})
