"""What a wire makes of a stream: pieces as they come, and at the end a completion."""

from collections.abc import Iterable, Sequence
from typing import Any, Protocol

from ...subsystems.llm.driver import Completion, DeltaKind, Finish, ToolCall, Usage

Piece = tuple[str, DeltaKind]


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
    @property
    def generated(self) -> str:
        """What the model wrote besides its reasoning: the text, and its calls' arguments."""
        ...

    def take(self, payload: Any) -> Iterable[Piece]:
        """The pieces in this payload, in order. Raises Fault for an error in it."""
        ...

    def completion(self, model: str) -> Completion:
        """The reply, when it is whole."""
        ...


def agreed(finish: Finish, calls: Sequence[ToolCall]) -> Finish:
    """The end that goes with the calls, for vendors that say "stop" after a call, or the reverse."""
    if finish == "tool_calls" and not calls:
        return "stop"
    return "tool_calls" if finish == "stop" and calls else finish
