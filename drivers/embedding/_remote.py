"""What embedders over a network share: the vendor's row, the client, errors, the meter."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from pydantic import JsonValue, SecretStr

from ...subsystems.memory.driver import (
    BadText,
    EmbedderCard,
    EmbedderMissing,
    EmbedderUnavailable,
    EmbeddingError,
    Meter,
    Vector,
    vector_of,
)
from .._account import Account
from .._http import Fault, Http, Patience

TOO_LONG = re.compile(r"too (large|long)|context.(length|size)|maximum.*tokens", re.IGNORECASE)
REFUSED = (400, 413, 422)
LATER = (408, 409, 425, 429)


@dataclass(kw_only=True)
class Remote:
    """An embedding model at a provider.

    `vendor` names a row of the table, which fills in the base URL and the key's variable;
    `region` picks another base URL of the row. `dimensions` asks for so many. A call carries
    `most_texts`, and a longer memory is embedded by its first `most_characters`.
    `least_similarity` is the cosine below which texts have nothing to do with each other: it
    differs from model to model, and 0 leaves out only what is opposite. Seconds are for
    connecting and for the reply. `extra` goes into every request's body as it stands.
    """

    model: str
    vendor: str = ""
    region: str | None = None
    base_url: str | None = None
    api_key: SecretStr | None = None
    dimensions: int | None = None
    most_texts: int = 32
    most_characters: int = 4000
    least_similarity: float = 0
    slots: int = 4
    extra: dict[str, JsonValue] = field(default_factory=dict)
    connect_s: float = 10
    reply_s: float = 120
    proxy: str | None = None
    _http: Http | None = field(default=None, init=False, repr=False, compare=False)

    wire: ClassVar[Literal["openai", "ollama"]]
    path: ClassVar[str]
    home: ClassVar[str]
    """The vendor that is meant when none is named."""

    def __post_init__(self) -> None:
        for name in ("dimensions", "most_texts", "most_characters", "slots"):
            if (value := getattr(self, name)) is not None and value < 1:
                raise ValueError(f"{name} must be at least 1")
        self._account = Account.find(
            self.vendor or self.home,
            self.wire,
            region=self.region,
            base_url=self.base_url,
            api_key=self.api_key,
        )
        self._row = self._account.row
        self._known_dimensions = self.dimensions

    async def start(self) -> None:
        """Open the client; nothing is asked yet. Raises EmbeddingError."""
        try:
            self._http = Http(
                self._account.url,
                headers=_headers(self._account.key),
                patience=Patience(
                    connect_s=self.connect_s, first_byte_s=self.reply_s, idle_s=self.reply_s
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

    def card(self) -> EmbedderCard:
        """As configured; the dimensions are known after the first text at the latest."""
        return EmbedderCard(
            model=self.model,
            driver=self.wire,
            dimensions=self._known_dimensions,
            most_texts=self.most_texts,
            most_characters=self.most_characters,
            least_similarity=self.least_similarity,
        )

    async def embed(self, texts: tuple[str, ...], meter: Meter) -> tuple[Vector, ...]:
        """Ask for the vectors of these texts."""
        if self._http is None:
            raise EmbedderUnavailable("the embedder is not started")
        meter.add("embedding.texts", len(texts))
        try:
            told = await self._http.ask("POST", self.path, self._body(texts) | self.extra)
        except Fault as fault:
            raise self._translated(fault) from fault
        try:
            vectors = tuple(vector_of(numbers) for numbers in self._vectors(told))
        except (KeyError, TypeError, ValueError) as error:
            raise EmbeddingError(
                f"{self._row.title} replied with no vectors: {str(told)[:200]}"
            ) from error
        meter.add("embedding.tokens", self._tokens(told))
        self._known_dimensions = self._known_dimensions or len(vectors[0]) // 4
        return vectors

    # What is peculiar to a wire

    def _body(self, texts: tuple[str, ...]) -> dict[str, Any]:
        raise NotImplementedError

    def _vectors(self, told: Any) -> Sequence[Sequence[float]]:
        """The numbers of each text. Raises KeyError, TypeError or ValueError."""
        raise NotImplementedError

    def _tokens(self, told: Any) -> int:
        """How many tokens the texts had, 0 where the reply does not say."""
        raise NotImplementedError

    # What is common

    def _translated(self, fault: Fault) -> EmbeddingError:
        says = f"{self._row.title}: {fault}"
        if fault.kind in ("key", "region"):
            return EmbeddingError(str(fault))
        if fault.kind in ("no_api", "missing"):
            return EmbeddingError(says)
        if fault.kind != "status":
            return EmbedderUnavailable(says)
        says = f"{self._row.title} says {fault.status}: {_message(fault.told)}"
        if fault.status in REFUSED or TOO_LONG.search(says):
            return BadText(says)
        if fault.status == 404:
            return EmbedderMissing(f"{says}; the model asked for is {self.model!r}")
        if fault.status in LATER or fault.status >= 500:
            return EmbedderUnavailable(says, retry_after_s=_retry_after(fault))
        return EmbeddingError(f"{says}; the key is read from {self._row.key or 'api_key'}")


def _headers(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"} if key else {}


def _message(told: Any) -> str:
    """What a refusal's body says, wherever in it."""
    while isinstance(told, dict):
        told = told.get("error") or told.get("message") or told.get("detail") or str(told)
    return " ".join(str(told).split())[:500]


def _retry_after(fault: Fault) -> float | None:
    try:
        return max(0.0, float(fault.headers.get("retry-after", "")))
    except ValueError:
        return None
