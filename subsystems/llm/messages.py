"""What others may say to a model: prompts in, completions and token counts out."""

from typing import Literal

from pydantic import Field, JsonValue

from ...kernel.message import Event, Request, Value

Role = Literal["system", "user", "assistant", "tool"]
Finish = Literal["stop", "length", "tool_calls", "refused"]
JsonObject = dict[str, JsonValue]


class ToolCall(Value):
    """The model asks for a tool. `id` ties the result to the call."""

    id: str
    name: str
    arguments: JsonObject


class ChatMessage(Value):
    """One message of a conversation, in the shape every provider knows."""

    role: Role
    text: str = ""
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str | None = None


class ToolSpec(Value):
    """A tool as the model sees it; `parameters` is a JSON schema of type object."""

    name: str
    description: str
    parameters: JsonObject


class Sampling(Value):
    """How to draw tokens. `None` leaves the driver's default; temperature 0 is greedy."""

    temperature: float | None = Field(default=None, ge=0)
    top_p: float | None = Field(default=None, gt=0, le=1)
    max_tokens: int | None = Field(default=None, gt=0)
    seed: int | None = None
    stop: tuple[str, ...] = ()


class Usage(Value):
    """Tokens of one call; `cached` of the prompt's came from the driver's prefix cache."""

    prompt: int = Field(ge=0)
    completion: int = Field(ge=0)
    cached: int = Field(default=0, ge=0)

    @property
    def total(self) -> int:
        return self.prompt + self.completion


class Completion(Value):
    """A model's reply. `model` is what answered, as the driver reports it."""

    text: str
    tool_calls: tuple[ToolCall, ...] = ()
    finish: Finish
    usage: Usage
    model: str


class Complete(Request[Completion], topic="llm.complete", effect="idempotent", addressed=True):
    """Continue this conversation.

    `tools` offers tools; `json_schema` constrains the text to JSON of that schema.
    The two exclude each other. A caller that passes a `sink` gets each `Delta` as it comes.
    """

    messages: tuple[ChatMessage, ...] = Field(min_length=1)
    tools: tuple[ToolSpec, ...] = ()
    json_schema: JsonObject | None = None
    sampling: Sampling = Sampling()


class Count(Request[int], topic="llm.count", effect="none", addressed=True):
    """How many tokens is this prompt, tools included, for this model?"""

    messages: tuple[ChatMessage, ...]
    tools: tuple[ToolSpec, ...] = ()


class ModelCard(Value):
    """What a model is and can do. Sizes in tokens; `slots` = requests it serves at once."""

    model: str
    driver: str
    context_window: int = Field(gt=0)
    slots: int = Field(default=1, gt=0)
    native_tools: bool = False
    note: str = ""
    """An honest sentence for people, e.g. that the model is too small to choose tools."""


class Describe(Request[ModelCard], topic="llm.describe", effect="none", addressed=True):
    """What is this model?"""


class Delta(Event, topic="llm.delta"):
    """A piece of text as it was generated; the copy on the bus may drop, counted.

    `offset` is the number of characters before it within `attempt` of `call`.
    """

    call: str
    attempt: int
    offset: int
    text: str


class Completed(Event, topic="llm.completed"):
    """A model has answered `caller`. Times in seconds; `address` is the model's service name."""

    call: str
    caller: str
    address: str
    model: str
    usage: Usage
    finish: Finish
    seconds: float
    first_token_s: float | None
