"""Embedders over Ollama's native wire.

Reference: https://github.com/ollama/ollama/blob/main/docs/api.md#generate-embeddings
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ...subsystems.memory.driver import EmbedderMissing, EmbedderUnavailable, EmbeddingError
from .._http import Fault
from ._remote import Remote


@dataclass(kw_only=True)
class Ollama(Remote):
    """An embedding model of an Ollama server.

    [services."embedding.default"]
    driver = "ollama"
    model = "bge-m3"

    `keep_alive` is how long the model stays loaded ("10m", seconds, -1 for ever).
    """

    keep_alive: str | int | None = None

    wire = "ollama"
    path = "/api/embed"
    home = "ollama"

    def _body(self, texts: tuple[str, ...]) -> dict[str, Any]:
        # An error is better than the vector of a text that was cut.
        body: dict[str, Any] = {"model": self.model, "input": texts, "truncate": False}
        for name in ("dimensions", "keep_alive"):
            if (value := getattr(self, name)) is not None:
                body[name] = value
        return body

    def _vectors(self, told: Any) -> Sequence[Sequence[float]]:
        return [[float(number) for number in one] for one in told["embeddings"]]

    def _tokens(self, told: Any) -> int:
        return int(told.get("prompt_eval_count") or 0)

    def _translated(self, fault: Fault) -> EmbeddingError:
        error = super()._translated(fault)
        if isinstance(error, EmbedderMissing):
            return EmbedderMissing(f"{error}; get it with: ollama pull {self.model}")
        if fault.kind == "connect":
            return EmbedderUnavailable(f"{error}; start it with: ollama serve")
        return error
