"""Models over Ollama's native wire.

Reference: https://github.com/ollama/ollama/blob/main/docs/api.md
"""

import difflib
import re
from dataclasses import dataclass
from operator import attrgetter
from typing import Any, Literal

from ...subsystems.llm.driver import (
    BadPrompt,
    Capabilities,
    ChatMessage,
    Complete,
    JsonObject,
    ModelError,
    ModelMissing,
    ModelUnavailable,
    PromptTooLong,
    ToolSpec,
)
from .._http import Fault
from ._fault import NO_MODEL
from ._known import DEFAULT_WINDOW
from ._ollama_reply import Reply
from ._remote import Remote
from ._reply import Reply as AnyReply

NO_ENDPOINT = (404, 405, 501)
NUM_CTX = re.compile(r"^num_ctx\s+(\d+)", re.MULTILINE)


@dataclass(kw_only=True)
class Ollama(Remote):
    """A model of an Ollama server: `ollama serve`, and `ollama pull` for its weights.

    [services."llm.default"]
    driver = "ollama"
    model = "qwen3:8b"
    context_window = 32768

    `context_window` is sent with every call: a server that is not told cuts the beginning of a
    longer prompt off, silently, and its own default is small. Without it the window is what
    the model's file says, else at most 8,192 tokens, because the server reserves memory for
    all of it. `think` lets a model think that can, or not, or how much; `keep_alive` is how
    long it stays loaded ("10m", seconds, -1 for ever). `api = "generate"` is for base models
    without a chat template: the texts of the messages, a blank line between them, are what
    the model continues.
    """

    think: bool | Literal["low", "medium", "high", "max"] | None = None
    keep_alive: str | int | None = None
    api: Literal["chat", "generate"] = "chat"

    wire = "ollama"
    path = "/api/chat"
    framing = "lines"
    home = "ollama"

    async def start(self) -> None:
        """Open the client and ask what the model is.

        Raises ModelMissing, ModelUnavailable, Unauthorized, NoApi, or ModelError for a config
        that the model cannot follow.
        """
        await super().start()
        shown = await self._show()
        if shown is None:
            return  # not Ollama itself but a server that speaks its wire, or some of it
        able = shown.get("capabilities")
        if able is not None:
            self._check_able(able)
        self._model = self._model.model_copy(update=self._learned_from(shown, able))
        self._can = self._able()

    async def _show(self) -> dict[str, Any] | None:
        """What the server says of the model; None where it has no such endpoint."""
        try:
            shown = await self._running().ask("POST", "/api/show", {"model": self.model})
        except Fault as fault:
            if fault.status not in NO_ENDPOINT:
                raise self._translated(fault) from fault
            if NO_MODEL.search(str(fault.told)):
                raise await self._missing() from fault
            return None
        return shown if isinstance(shown, dict) else None

    async def _missing(self) -> ModelMissing:
        """Names the command, and the models that are there."""
        try:
            listed = await self._running().ask("GET", "/api/tags")
        except Fault:
            listed = {}
        names = [one["name"] for one in listed.get("models", ())]
        near = difflib.get_close_matches(self.model, names, 3, 0.3) or sorted(names)[:3]
        return ModelMissing(
            f"{self._row.title} has no model {self.model!r}; get it with: "
            f"ollama pull {self.model}. At hand: {', '.join(near) or 'none'}"
        )

    def _check_able(self, able: list[str]) -> None:
        if "completion" not in able:
            raise ModelError(
                f"{self.model} writes no text, it can: {', '.join(able)}; an embedding model "
                'belongs into [services."embedding.NAME"]'
            )
        if self.think and "thinking" not in able:
            raise ModelError(f"{self.model} cannot think: leave `think` out")

    def _learned_from(self, shown: dict[str, Any], able: list[str] | None) -> dict[str, Any]:
        """The window, and what the model can do."""
        info: dict[str, Any] = shown.get("model_info") or {}
        trained = next((n for key, n in info.items() if key.endswith(".context_length")), None)
        if trained and (self.context_window or 0) > trained:
            raise ModelError(f"context_window is {self.context_window}; {self.model} has {trained}")
        learned: dict[str, Any] = self._window(shown, trained)
        if able is not None:
            learned["can"] = Capabilities(
                tools="tools" in able,
                parallel_tools="tools" in able,
                json_schema=True,
                reasoning="thinking" in able,
                prefix_cache=True,
                counting="estimated",
            )
        return learned

    def _window(self, shown: dict[str, Any], trained: int | None) -> dict[str, Any]:
        if trained and shown.get("remote_host"):
            return {"context_window": trained}  # it takes no memory here
        if found := NUM_CTX.search(shown.get("parameters") or ""):
            return {"context_window": int(found[1])}
        window = min(trained or DEFAULT_WINDOW, DEFAULT_WINDOW)
        if self.context_window or window == trained or not trained:
            return {"context_window": window}
        note = f"It could have {trained} tokens; set context_window if there is memory for them."
        return {"context_window": window, "note": note}

    def _headers(self, key: str) -> dict[str, str]:
        return {"Authorization": f"Bearer {key}"} if key else {}

    def _path(self) -> str:
        return f"/api/{self.api}"

    def _reply(self, ask: Complete) -> AnyReply:
        return Reply(
            calls_before=sum(len(message.tool_calls) for message in ask.messages),
            prompt=lambda: self._estimator.prompt(ask.messages, ask.tools).tokens,
        )

    def _check(self, ask: Complete) -> None:
        if self.api == "generate" and ask.tools:
            raise BadPrompt('api = "generate" knows no tools: leave them out, or use "chat"')
        super()._check(ask)

    def _body(self, ask: Complete) -> JsonObject:
        body: JsonObject = {"model": self.model, **self._prompt(ask), "stream": True}
        # An error is better than a prompt without its beginning.
        body |= {"truncate": False, "shift": False}
        if ask.json_schema is not None:
            body["format"] = ask.json_schema
        if self.think is not None:
            body["think"] = self.think
        if self.keep_alive is not None:
            body["keep_alive"] = self.keep_alive
        body |= self._endpoint.extra | self._model.extra | self.extra
        more = body.get("options")
        body["options"] = self._options(ask) | (more if isinstance(more, dict) else {})
        return body

    def _prompt(self, ask: Complete) -> JsonObject:
        if self.api == "generate":
            return {"prompt": "\n\n".join(one.text for one in ask.messages), "raw": True}
        names = {call.id: call.name for message in ask.messages for call in message.tool_calls}
        told: JsonObject = {"messages": [self._message(one, names) for one in ask.messages]}
        if ask.tools:
            told["tools"] = [_tool(tool) for tool in sorted(ask.tools, key=attrgetter("name"))]
        return told

    def _message(self, message: ChatMessage, names: dict[str, str]) -> JsonObject:
        told: JsonObject = {"role": message.role, "content": message.text}
        if message.tool_call_id is not None:
            told["tool_call_id"] = message.tool_call_id
            told["tool_name"] = names.get(message.tool_call_id, "")
        if message.tool_calls:
            told["tool_calls"] = [
                {"id": call.id, "function": {"name": call.name, "arguments": call.arguments}}
                for call in message.tool_calls
            ]
            if message.reasoning:  # of replies without calls it is not wanted back
                told["thinking"] = message.reasoning
        return told

    def _options(self, ask: Complete) -> JsonObject:
        sampling = ask.sampling
        temperature = self.temperature if sampling.temperature is None else sampling.temperature
        chosen: dict[str, Any] = {
            "num_ctx": self.context_window or self._model.context_window,
            "num_predict": sampling.max_tokens or self.max_tokens,
            "temperature": temperature,
            "top_p": sampling.top_p,
            "seed": sampling.seed,
            "stop": list(sampling.stop) or None,
        }
        return {name: value for name, value in chosen.items() if value is not None}

    def _translated(self, fault: Fault, reply: AnyReply | None = None) -> ModelError:
        error = super()._translated(fault, reply)
        match error:
            case PromptTooLong(window=None):
                window = self.context_window or self._model.context_window
                return PromptTooLong(tokens=error.tokens, window=window)
            case ModelMissing():
                return ModelMissing(f"{error}; get it with: ollama pull {self.model}")
            case ModelUnavailable() if fault.kind == "connect":
                return ModelUnavailable(f"{error}; start it with: ollama serve")
        return error


def _tool(tool: ToolSpec) -> JsonObject:
    return {
        "type": "function",
        "function": {
            "name": tool.name,
            "description": tool.description,
            "parameters": tool.parameters,
        },
    }
