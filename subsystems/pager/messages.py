"""What others may say to the pager: make the prompt of a process."""

from collections.abc import Sequence
from typing import Annotated

from pydantic import SkipValidation

from ...kernel.errors import KernelError
from ...kernel.message import Request, Value
from ..llm.messages import ChatMessage, ToolSpec
from ..storage.messages import Page, Pid


class ContextOverflow(KernelError):
    """The pages do not fit the model's window. Sizes in tokens; `pinned` are the fixed ones."""

    def __init__(self, *, tokens: int, window: int, pinned: Sequence[str]) -> None:
        held = f"; pinned: {', '.join(pinned)}" if pinned else ""
        super().__init__(
            f"the context needs {tokens} tokens, the window leaves {window} for it{held}; "
            "use a model with a larger window, or a smaller max_tokens"
        )
        self.tokens = tokens
        self.window = window
        self.pinned = tuple(pinned)


class Prompt(Value):
    """A rendered prompt: pinned pages first, then the history, then what is new."""

    messages: Annotated[tuple[ChatMessage, ...], SkipValidation]  # the pager has made them
    tokens: int
    """An upper bound; exact when it came close to the window."""


class Render(Request[Prompt], topic="pager.render", effect="none"):
    """The prompt of a process, with new pages that are not committed yet at its end.

    `reserve` tokens are kept free for the answer. Raises ContextOverflow.
    """

    pid: Pid
    model: str | None = None
    new: tuple[Page, ...] = ()
    tools: tuple[ToolSpec, ...] = ()
    reserve: int = 0
