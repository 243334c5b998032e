"""Embedders over OpenAI's wire, which most vendors and local servers speak.

Reference: https://platform.openai.com/docs/api-reference/embeddings
"""

import base64
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from ._remote import Remote


@dataclass(kw_only=True)
class OpenAI(Remote):
    """A model behind `/embeddings`: of OpenAI, or of any vendor of the table.

    [services."embedding.default"]
    driver = "openai"
    model = "text-embedding-3-small"

    As base64 vectors take a third of the bytes, where the vendor knows it.
    """

    encoding_format: Literal["float", "base64"] = "float"

    wire = "openai"
    path = "/embeddings"
    home = "openai"

    def _body(self, texts: tuple[str, ...]) -> dict[str, Any]:
        body: dict[str, Any] = {
            "model": self.model,
            "input": texts,
            "encoding_format": self.encoding_format,
        }
        if self.dimensions is not None:
            body["dimensions"] = self.dimensions
        return body

    def _vectors(self, told: Any) -> Sequence[Sequence[float]]:
        ordered = sorted(told["data"], key=lambda one: int(one["index"]))
        return [_numbers(one["embedding"]) for one in ordered]

    def _tokens(self, told: Any) -> int:
        return int((told.get("usage") or {}).get("prompt_tokens") or 0)


def _numbers(told: Any) -> Sequence[float]:
    """A list of numbers, or float32 in base64."""
    if not isinstance(told, str):
        return [float(number) for number in told]
    data = base64.b64decode(told, validate=True)
    if len(data) % 4:
        raise ValueError("no whole numbers of float32")
    return struct.unpack(f"<{len(data) // 4}f", data)
