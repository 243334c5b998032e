"""When a provider is asked how long a prompt is, and how its answer reads."""

from collections.abc import Mapping
from typing import Any, Literal

from .._http import Fault

Counting = Literal["auto", "provider", "estimate"]

NEAR = 0.7
"""From this part of the window on, the estimate with its reserve may refuse what would fit."""

ABSENT = (404, 405, 501)
PASSING = ("timeout", "cut", "connect")


class Counter:
    """Decides for one endpoint, which may lie at `path`; one that is absent is asked once."""

    def __init__(self, how: Counting, *, path: str, window: int, title: str) -> None:
        if how == "provider" and not path:
            raise ValueError(f'{title} counts no prompts: set counting to "auto" or "estimate"')
        self.path = path if path.startswith("/") else f"/{path}"
        self._how = how if path else "estimate"
        self._near = NEAR * window

    @property
    def card(self) -> Literal["provider", "estimated"]:
        """What a caller may rely on."""
        return "provider" if self._how == "provider" else "estimated"

    def asks(self, most: int) -> bool:
        """Whether a prompt of at most so many tokens is worth a round trip."""
        return self._how == "provider" or (self._how == "auto" and most >= self._near)

    def forgives(self, fault: Fault) -> bool:
        """Whether the estimate will do, the provider having failed to count."""
        if self._how == "provider":
            return False
        if fault.status in ABSENT:
            self._how = "estimate"
            return True
        return fault.kind in PASSING or fault.status == 429 or fault.status >= 500


def counted(payload: Any) -> int:
    """The number in an answer, in any vendor's spelling. Raises Fault."""
    match payload:
        case {"input_tokens": int(tokens)}:  # Anthropic, llama.cpp
            return tokens
        case {"data": {"total_tokens": int(tokens)}}:  # Kimi
            return tokens
        case {"count": int(tokens)}:  # vLLM
            return tokens
    known = ", ".join(payload) if isinstance(payload, Mapping) else str(payload)[:80]
    raise Fault("no_api", f"the answer has no number of tokens, but {known}")
