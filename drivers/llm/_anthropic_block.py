"""A block of a reply of the messages wire: text, reasoning, or a call of a tool."""

import json
from collections.abc import Mapping
from typing import Any

from ...subsystems.llm.driver import JsonObject, ModelUnavailable, ToolCall


class Block:
    """A block of the reply as its parts come in."""

    def __init__(self, told: Mapping[str, Any]) -> None:
        self.kind: str = told.get("type", "text")
        self.signature: str = told.get("signature") or ""
        self._told = told
        begun = told.get(self.kind) or ""
        if whole := told.get("input"):
            begun = json.dumps(whole, ensure_ascii=False)
        self.parts: list[str] = [begun] if isinstance(begun, str) and begun else []

    @property
    def said(self) -> str:
        return "".join(self.parts)

    @property
    def is_reasoning(self) -> bool:
        return self.kind in ("thinking", "redacted_thinking")

    def call(self, number: str) -> ToolCall:
        """Raises ModelUnavailable when the model wrote no JSON object, or no name."""
        arguments, name = _parsed(self.said or "{}"), self._told.get("name")
        if not isinstance(arguments, dict) or not name:
            raise ModelUnavailable(
                f"the model wrote arguments of {name} that are no JSON object: {self.said[:80]!r}"
            )
        return ToolCall(id=self._told.get("id") or number, name=name, arguments=arguments)

    def kept(self) -> JsonObject:
        match self.kind:
            case "thinking":
                signed = {"signature": self.signature} if self.signature else {}
                return {"type": "thinking", "thinking": self.said, **signed}
            case "text":
                return {"type": "text", "length": len(self.said)}
            case "tool_use":
                return {"type": "tool_use"}
        return dict(self._told)


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return None
