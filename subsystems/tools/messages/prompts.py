"""Texts that a toolset has ready."""

from pydantic import Field

from ....kernel.message import Request, Value
from ...llm.messages import ChatMessage


class Prompt(Value):
    """A text that a toolset has ready; each argument stands with whether it must be given."""

    name: str
    description: str = ""
    arguments: dict[str, bool] = Field(default_factory=dict)


class ListPrompts(
    Request[tuple[Prompt, ...]], topic="tools.prompts", effect="none", addressed=True
):
    """Which prompts does this toolset have?"""


class GetPrompt(
    Request[tuple[ChatMessage, ...]], topic="tools.prompt", effect="none", addressed=True
):
    """A prompt, filled in. Raises ToolError."""

    name: str
    arguments: dict[str, str] = Field(default_factory=dict)
