"""What others may say to a model: prompts in, completions and token counts out."""

from typing import Annotated, Any, Literal

from pydantic import Field, JsonValue, ValidatorFunctionWrapHandler, WrapValidator

from ...kernel.message import Event, Request, Value

Role = Literal["system", "user", "assistant", "tool"]
Finish = Literal["stop", "length", "tool_calls", "refused"]
JsonObject = dict[str, JsonValue]
DeltaKind = Literal["text", "reasoning"]


class ToolCall(Value):
    """The model asks for a tool. `id` ties the result to the call."""

    id: str
    name: str
    arguments: JsonObject


class ChatMessage(Value):
    """One message of a conversation, in the shape every provider knows.

    An assistant's message carries its completion's `reasoning` and `echo`; a driver sends
    them back only where its vendor requires it.
    """

    role: Role
    text: str = ""
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str | None = None
    reasoning: str = ""
    echo: JsonObject | None = None


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
    """Tokens of one call.

    Of the prompt's, `cached` were read from the provider's prefix cache and `cache_written`
    were written to it at a price of their own; of the completion's, `reasoning` were thought.
    """

    prompt: int = Field(ge=0)
    completion: int = Field(ge=0)
    cached: int = Field(default=0, ge=0)
    cache_written: int = Field(default=0, ge=0)
    reasoning: int = Field(default=0, ge=0)
    estimated: bool = False

    @property
    def total(self) -> int:
        return self.prompt + self.completion


class Completion(Value):
    """A model's reply. `model` is what answered, as the driver reports it.

    `reasoning` is what it thought aloud before. `echo` is what its provider wants to see
    again, unread by anyone else, such as signed reasoning; its key "wire" names whose it is.
    A reply that is `kept` came from the cache: no model was asked, so its usage is nothing.
    """

    text: str
    tool_calls: tuple[ToolCall, ...] = ()
    finish: Finish
    usage: Usage
    model: str
    reasoning: str = ""
    echo: JsonObject | None = None
    kept: bool = False

    def as_message(self) -> ChatMessage:
        """The reply as the next request's history has it."""
        return ChatMessage(
            role="assistant",
            text=self.text,
            tool_calls=self.tool_calls,
            reasoning=self.reasoning,
            echo=self.echo,
        )


def _once(messages: Any, validate: ValidatorFunctionWrapHandler) -> Any:
    """What are messages already need no second look: a prompt may have thousands."""
    made = type(messages) is tuple and set(map(type, messages)) == {ChatMessage}
    return messages if made else validate(messages)


Messages = Annotated[tuple[ChatMessage, ...], WrapValidator(_once)]


class Complete(Request[Completion], topic="llm.complete", effect="idempotent", addressed=True):
    """Continue this conversation.

    `tools` offers tools; `json_schema` constrains the text to JSON of that schema.
    The two exclude each other. A caller that passes a `sink` gets each `Delta` as it comes.
    """

    messages: Annotated[Messages, Field(min_length=1)]
    tools: tuple[ToolSpec, ...] = ()
    json_schema: JsonObject | None = None
    sampling: Sampling = Sampling()


class Count(Request[int], topic="llm.count", effect="none", addressed=True):
    """How many tokens is this prompt, tools included, for this model?"""

    messages: Messages
    tools: tuple[ToolSpec, ...] = ()


class Capabilities(Value):
    """What a model behind its driver can do.

    `tools` it was trained to call; where it was not, a driver may offer them in the prompt.
    `reasoning` is thought aloud and streamed apart. `prefix_cache` says that a prompt's
    unchanged beginning is cheaper. `resumable`: a cut reply can be continued where it ended.
    """

    streaming: bool = True
    tools: bool = False
    parallel_tools: bool = False
    json_schema: bool = False
    reasoning: bool = False
    prefix_cache: bool = False
    resumable: bool = False
    counting: Literal["exact", "provider", "estimated"] = "exact"
    """Tokens are counted by the model's tokenizer, by asking the provider, or by learning."""


class Price(Value):
    """Money per million tokens, in `currency` (ISO 4217). None where it is not known.

    `cached` is for prompt tokens read from the prefix cache, `cache_written` for those written
    to it; None means the price of other prompt tokens. `source` says who says so, and when.
    """

    currency: str = Field(pattern="^[A-Z]{3}$")
    prompt: float = Field(ge=0)
    completion: float = Field(ge=0)
    cached: float | None = Field(default=None, ge=0)
    cache_written: float | None = Field(default=None, ge=0)
    source: str = ""

    def of(self, usage: Usage) -> float:
        """What this usage costs."""
        cached = self.prompt if self.cached is None else self.cached
        written = self.prompt if self.cache_written is None else self.cache_written
        plain = usage.prompt - usage.cached - usage.cache_written
        prompt = plain * self.prompt + usage.cached * cached + usage.cache_written * written
        return (prompt + usage.completion * self.completion) / 1e6

    def dearest(self, prompt: int, completion: int) -> float:
        """What so many tokens may cost at most, wherever the prompt's are read or written."""
        rate = max(self.prompt, self.cached or 0, self.cache_written or 0)
        return (prompt * rate + completion * self.completion) / 1e6


class ModelCard(Value):
    """What a model is and can do. Sizes in tokens; `slots` = requests it serves at once.

    `account` is the same for models that use one provider's key, and tells nothing of it; ""
    where there is none.
    """

    model: str
    driver: str
    vendor: str = ""
    account: str = ""
    context_window: int = Field(gt=0)
    max_output: int | None = Field(default=None, gt=0)
    slots: int = Field(default=1, gt=0)
    can: Capabilities = Capabilities()
    price: Price | None = None
    note: str = ""
    """An honest sentence for people, e.g. that the model is too small to choose tools."""
    members: tuple[str, ...] = ()
    """Of an alias: the addresses of the models it stands for, in the order they are tried."""


class Allowance(Value):
    """A provider's limit as it last told it: this much is left, until `reset_s` from then."""

    what: Literal["requests", "tokens", "prompt_tokens", "completion_tokens"]
    limit: int | None = None
    remaining: int | None = None
    reset_s: float | None = None


class Describe(Request[ModelCard], topic="llm.describe", effect="none", addressed=True):
    """What is this model?"""


class Delta(Event, topic="llm.delta"):
    """A piece of text as it was generated; the copy on the bus may drop, counted.

    `offset` is the number of characters of its kind before it within `attempt` of `call`.
    """

    call: str
    attempt: int
    offset: int
    text: str
    kind: DeltaKind = "text"


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


class LimitsTold(Event, topic="llm.limits_told"):
    """A provider has said, with this reply or before it, what is left of its limits."""

    address: str
    allowances: tuple[Allowance, ...]


class CompletionFailed(Event, topic="llm.failed"):
    """A model has not answered `caller`: `error` names the error's class, e.g. "RateLimited".

    It is "cancelled" where the caller gave up. `model` is what the model's card says, `usage`
    what was used all the same, as far as the driver knows.
    """

    call: str
    caller: str
    address: str
    model: str
    error: str
    usage: Usage
    seconds: float
