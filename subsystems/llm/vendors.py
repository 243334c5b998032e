"""Vendors of models as data: who serves what, over which wire, at which price."""

import re
from typing import Literal, Protocol

from pydantic import Field

from ...kernel.message import Value
from .messages import Capabilities, JsonObject, Price

Wire = Literal["openai", "anthropic", "ollama"]
"""A protocol between a client and a model's server; each has one driver, of the same name."""


Trouble = Literal[
    "key", "funds", "rate", "busy", "timeout", "content", "too_long", "model", "prompt"
]
"""What a vendor's error code means: Unauthorized, OutOfFunds, RateLimited, ModelUnavailable,
ModelTimeout, ContentRefused, PromptTooLong, ModelMissing, BadPrompt."""

SNAPSHOT = re.compile(r"-(latest|\d{4}|\d{8}|\d{4}-\d{2}-\d{2})")
"""What follows a model's name to mean its state of some day."""


class VendorModel(Value):
    """A model, or a family of them, that a vendor serves. Sizes in tokens.

    `name` may end in `*`. `retired` says since when it is gone, or will be, and what took its
    place. `price` is that of the row's default region.
    """

    name: str
    context_window: int = Field(gt=0)
    max_output: int | None = Field(default=None, gt=0)
    can: Capabilities = Capabilities()
    price: Price | None = None
    regional: dict[str, Price] = {}
    """Its price in the regions where it is another one."""
    fixed_sampling: bool = False
    """It refuses a temperature and a top_p of one's own."""
    extra: JsonObject = {}
    """What the request's body needs besides, for this model."""
    with_tools: JsonObject = {}
    """What the body needs besides when it offers tools."""
    retired: str = ""
    note: str = ""

    def fits(self, name: str) -> bool:
        """Whether this entry is about the model of that name, or about a snapshot of it."""
        if self.name.endswith("*"):
            return name.startswith(self.name[:-1])
        rest = name.removeprefix(self.name)
        return name == self.name or (rest != name and SNAPSHOT.fullmatch(rest) is not None)


class Endpoint(Value):
    """How a vendor speaks one wire: where, and what is peculiar to it."""

    base_url: str
    regions: dict[str, str] = {}
    """Other base URLs by region, e.g. {"mainland": ..., "international": ...}."""
    cached_tokens: str = ""
    """Where in `usage` the cached tokens stand: "prompt_tokens_details.cached_tokens"."""
    reasoning_tokens: str = ""
    reasoning: str = ""
    """The field of a message or delta that holds the reasoning text."""
    reasoning_back: Literal["never", "with_tools", "always"] = "never"
    """Whether past reasoning must be sent again: never, with replies that call tools, always."""
    echo: tuple[str, ...] = ()
    """Fields of a reply's message that must be sent again as they were."""
    max_tokens: str = "max_tokens"
    """What the limit of the reply's tokens is called."""
    stream_usage: bool = True
    """Usage comes in a stream when `stream_options.include_usage` asks for it."""
    schema_as: Literal["json_schema", "json_object", "tool", "none"] = "json_schema"
    """How a JSON schema is asked for: as `json_object` it stands in the prompt, as `tool` it is
    the input of a tool that must be called."""
    think_tags: bool = False
    """Reasoning stands in the text, between <think> and </think>."""
    min_temperature: float = 0
    max_temperature: float = 2
    count_path: str = ""
    """Where prompts can be counted."""
    extra: JsonObject = {}
    """What every request's body needs besides."""
    headers: dict[str, str] = {}


class Vendor(Value):
    """A row of the table: who serves models over which wires, as found out on `checked`.

    `key` is the environment variable of the API key, empty where none is needed. `open`: any
    model's name goes, such as on one's own server; `models` are then examples.
    """

    name: str
    title: str
    key: str = ""
    open: bool = False
    endpoints: dict[Wire, Endpoint] = Field(min_length=1)
    models: tuple[VendorModel, ...] = ()
    errors: dict[str, Trouble] = {}
    """Its own error codes, where the status and the usual words do not say what they mean."""
    checked: str
    source: tuple[str, ...]
    note: str = ""

    def model(self, name: str) -> VendorModel | None:
        """Its entry for the model of this name: its own one, else the one that says most."""
        fitting = [model for model in self.models if model.fits(name)]
        return max(fitting, key=lambda model: (model.name == name, len(model.name)), default=None)


class Catalogue(Protocol):
    """A driver class that knows vendors (`aosk models list`)."""

    @classmethod
    def vendors(cls) -> tuple[Vendor, ...]:
        """The vendors that speak this driver's wire."""
        ...
