"""Models over the messages wire, which Anthropic, other vendors and local servers speak.

Reference: https://platform.claude.com/docs/en/api/messages
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from ...subsystems.llm.driver import (
    BadPrompt,
    ChatMessage,
    Complete,
    JsonObject,
    ModelCard,
    Price,
)
from ._anthropic_prompt import Cache, mark, offered, parted, texts, turns
from ._anthropic_reply import Reply
from ._anthropic_schema import fitted
from ._remote import Remote

Thinking = Literal["off", "adaptive", "low", "medium", "high", "xhigh", "max"]

VERSION = "2023-06-01"
DEFAULT_OUTPUT = 4096
"""Tokens of a reply where nobody says how many: the wire requires a number."""
LEAST_BUDGET = 1024
HOUR_PRICE = 2
"""Tokens written to the cache for an hour, in prompt tokens; the table's are for 5 minutes.
https://platform.claude.com/docs/en/build-with-claude/prompt-caching#pricing"""
REPLY = "reply"
"""The tool whose input is the answer, on servers that cannot be held to a schema otherwise."""


@dataclass(kw_only=True)
class Anthropic(Remote):
    """A model behind `/v1/messages`: of Anthropic, or of any vendor of the table.

    [services."llm.claude"]
    driver = "anthropic"
    model = "claude-sonnet-4-5"
    api_key = { env = "ANTHROPIC_API_KEY" }

    `cache` says how long the provider keeps a prompt's beginning: an hour costs more to write.
    `thinking` is a budget in tokens for models that know only that; for newer ones "adaptive",
    or how much effort they shall make. Without it, the model's own default holds.
    """

    cache: Cache = "5m"
    thinking: int | Thinking | None = None

    wire = "anthropic"
    path = "/v1/messages"
    home = "anthropic"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self._budget and self._budget < LEAST_BUDGET:
            raise ValueError(f"thinking is {self.thinking} tokens; {LEAST_BUDGET} is the least")

    def card(self) -> ModelCard:
        """What the table says; what is kept for an hour costs more to write than it says."""
        card = super().card()
        if self.cache != "1h" or isinstance(self.price, Price) or card.price is None:
            return card
        written = {"cache_written": HOUR_PRICE * card.price.prompt}
        return card.model_copy(update={"price": card.price.model_copy(update=written)})

    def _headers(self, key: str) -> dict[str, str]:
        return {"anthropic-version": VERSION} | ({"x-api-key": key} if key else {})

    def _reply(self, ask: Complete) -> Reply:
        is_forced = ask.json_schema is not None and self._endpoint.schema_as == "tool"
        return Reply(
            self._endpoint,
            vendor=self._row.name,
            calls_before=sum(len(message.tool_calls) for message in ask.messages),
            text_tool=REPLY if is_forced else "",
        )

    def _prompt(self, ask: Complete) -> JsonObject:
        """The part that is counted: model, system, messages, tools, thinking."""
        system, conversation = parted(ask.messages)
        told: dict[str, Any] = {"model": self.model}
        if leading := texts(system):
            told["system"] = leading
        told["messages"] = turns(conversation, self._row.name)
        if ask.tools:
            told["tools"] = offered(ask.tools)
        if (thinking := self._thinking(ask.messages)) is not None:
            told["thinking"] = thinking
        return told

    def _body(self, ask: Complete) -> JsonObject:
        body = self._prompt(ask) | {"max_tokens": self._most(ask), "stream": True}
        mark(body, self.cache)
        wanted = self._held(ask.json_schema)
        if isinstance(self.thinking, str) and self.thinking not in ("off", "adaptive"):
            wanted = _joined(wanted, {"output_config": {"effort": self.thinking}})
        known = self._model
        with_tools = known.with_tools if ask.tools else {}
        for part in (wanted, self._sampled(ask), self._endpoint.extra, known.extra, with_tools):
            body = _joined(body, part)
        return _joined(body, self.extra)

    def _check(self, ask: Complete) -> None:
        super()._check(ask)
        sampling = ask.sampling
        if sampling.seed is not None:
            raise BadPrompt("this wire knows no seed: leave it out, or take another driver")
        heat = self.temperature if sampling.temperature is None else sampling.temperature
        if self.thinking not in (None, "off") and heat not in (None, 1):
            raise BadPrompt(
                f'temperature is {heat}, and who thinks takes none: leave it out, or thinking "off"'
            )
        if self._budget and self._budget >= (most := self._most(ask)):
            raise BadPrompt(
                f"max_tokens is {most}, and thinking may take {self._budget} of them: "
                "set max_tokens higher or thinking lower"
            )

    def _sampled(self, ask: Complete) -> JsonObject:
        sampling, chosen = ask.sampling, dict[str, Any]()
        temperature = self.temperature if sampling.temperature is None else sampling.temperature
        for name, value in (
            ("temperature", temperature),
            ("top_p", sampling.top_p),
            ("stop_sequences", list(sampling.stop) or None),
        ):
            if value is not None:
                chosen[name] = value
        return chosen

    def _most(self, ask: Complete) -> int:
        """The most tokens that the reply may have, thinking included."""
        chosen = ask.sampling.max_tokens or self.max_tokens or self._model.max_output
        return chosen or DEFAULT_OUTPUT + self._budget

    @property
    def _budget(self) -> int:
        return self.thinking if isinstance(self.thinking, int) else 0

    def _thinking(self, messages: tuple[ChatMessage, ...]) -> JsonObject | None:
        if self.thinking is None:
            return None
        if self.thinking == "off":
            return {"type": "disabled"}
        if not self._budget:
            # Left out, `display` shows no reasoning on the newest models.
            return {"type": "adaptive", "display": "summarized"}
        if _is_midway(messages):
            return None
        return {"type": "enabled", "budget_tokens": self._budget}

    def _held(self, schema: JsonObject | None) -> JsonObject:
        """Ask for JSON of this schema, in the way that the server knows. Raises BadPrompt."""
        if schema is None:
            return {}
        match self._endpoint.schema_as:
            case "json_schema":
                return {
                    "output_config": {"format": {"type": "json_schema", "schema": fitted(schema)}}
                }
            case "tool":
                return self._forced(schema)
        raise BadPrompt(f"{self._row.title} cannot be held to a JSON schema here: leave it out")

    def _forced(self, schema: JsonObject) -> JsonObject:
        if schema.get("type") != "object":
            raise BadPrompt(f"{self._row.title} writes JSON objects only: wrap the schema in one")
        if self.thinking not in (None, "off"):
            raise BadPrompt(
                f'{self._row.title} cannot think and keep to a schema: set thinking to "off"'
            )
        tool: JsonObject = {
            "name": REPLY,
            "description": "Gives the reply.",
            "input_schema": schema,
        }
        return {"tools": [tool], "tool_choice": {"type": "tool", "name": REPLY}}


def _is_midway(messages: tuple[ChatMessage, ...]) -> bool:
    """Whether the model is between its calls, having begun without the reasoning kept.

    With a budget, a turn that calls tools must have begun with reasoning: one that another
    model began, or that began without, is finished without.
    """
    last = next((m for m in reversed(messages) if m.role != "tool"), None)
    return last is not None and bool(last.tool_calls) and last.echo is None


def _joined(body: Mapping[str, Any], more: Mapping[str, Any]) -> JsonObject:
    """The second on top of the first; objects that both have are joined as well."""
    joined = {**body, **more}
    for name in body.keys() & more.keys():
        if isinstance(body[name], dict) and isinstance(more[name], dict):
            joined[name] = {**body[name], **more[name]}
    return joined
