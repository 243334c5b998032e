"""A model that says what its script says: for tests, examples and benchmarks.

Replies are a function of the request alone, so a replayed request has the same reply. What
the script does not cover is an error, never an invented answer.
"""

import json
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from inspect import isawaitable
from typing import Any, ClassVar, Literal

import anyio

from ...subsystems.llm.driver import (
    Allowance,
    BadPrompt,
    Capabilities,
    ChatMessage,
    Complete,
    Completion,
    Emit,
    JsonObject,
    Meter,
    ModelCard,
    PromptTooLong,
    ToolCall,
    ToolSpec,
    Usage,
)
from ._scripted_tokens import BYTES_A_TOKEN, Counted, Counter, call_tokens, size, tokens

Reply = str | ToolCall | Sequence[ToolCall] | Completion
"""A text, a call or some, or a whole completion, of which only `model` is replaced."""

WORD = re.compile(r"\S+\s*|\s+")
PLACE = re.compile(r"\{(\w+)\}")


def call(name: str, /, **arguments: Any) -> ToolCall:
    """A tool call for a script: `call("read_file", path="notes.txt")`."""
    return ToolCall(id="", name=name, arguments=arguments)


@dataclass(frozen=True, kw_only=True)
class Rule:
    """Where `when` (a regex) is found in the last user or tool message, say or call this.

    In `say`, and in the texts of `arguments`, `{last}` stands for that whole message, and
    `{1}` or `{name}` for what a group of `when` matched; other braces stay. `role` narrows
    the rule, so that a tool's result is not taken for the question.
    """

    when: str = ""
    role: Literal["user", "tool"] | None = None
    say: str | None = None
    call: str | None = None
    arguments: JsonObject = field(default_factory=dict)

    __pydantic_config__: ClassVar = {"extra": "forbid"}

    def __post_init__(self) -> None:
        if (self.say is None) == (self.call is None):
            raise ValueError(f"the rule for {self.when!r} needs one of `say` and `call`")
        try:
            re.compile(self.when)
        except re.error as error:
            raise ValueError(f"{self.when!r} is no regex: {error}") from error

    def reply(self, message: ChatMessage) -> str | ToolCall | None:
        """The reply to this message; None where the rule is not for it."""
        found = re.search(self.when, message.text)
        if found is None or self.role not in (None, message.role):
            return None
        known = _places(message.text, found)
        if self.call is not None:
            return call(self.call, **_filled(self.arguments, known))
        return str(_filled(self.say, known))


@dataclass(kw_only=True)
class Scripted:
    """A model whose replies are written down, in `script` or in `rules`.

    `script` is a function of the request, async or not, or a list of replies, of which the
    n-th answers a request with n assistant messages. Of `rules` the first that matches replies:

        [[services."llm.default".rules]]
        when = 'What does (\\S+) say'
        role = "user"
        call = "read_file"
        arguments = { path = "{1}" }

    A token is four bytes of UTF-8, rounded up for each text; a message has three more.
    Seconds are the loop's, a tool call takes no `token_s`.
    Raises BadPrompt for what is not written down.
    """

    script: Callable[[Complete], Reply | Awaitable[Reply]] | Sequence[Reply] | None = None
    rules: Sequence[Rule] = ()
    name: str = ""
    context_window: int = 8192
    slots: int = 4
    first_token_s: float = 0
    token_s: float = 0
    _permits: anyio.Semaphore = field(init=False, repr=False, compare=False)
    _counter: Counter = field(default_factory=Counter, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if (self.script is None) == (not self.rules):
            raise ValueError("a scripted model needs one of `script` and `rules`")
        self._permits = anyio.Semaphore(self.slots, fast_acquire=True)

    async def start(self) -> None:
        """Nothing to acquire."""

    async def stop(self) -> None:
        """Nothing to release."""

    def card(self) -> ModelCard:
        """A card that nobody takes for a model's."""
        return ModelCard(
            model=self._model(),
            driver="scripted",
            context_window=self.context_window,
            slots=self.slots,
            can=Capabilities(tools=True, parallel_tools=True, json_schema=True),
            note="No model: it says what its script says.",
        )

    async def complete(self, ask: Complete, emit: Emit, meter: Meter) -> Completion:
        """Say what the script says, word by word."""
        counted = self._counter.count(ask.messages)
        prompt = self._fitting(ask, counted)
        async with self._permits:
            completion = self._completion(ask, await self._reply(ask), prompt, counted.calls)
            usage = completion.usage
            meter.add("llm.prompt_tokens", usage.prompt)
            meter.add("llm.cached_tokens", usage.cached)
            if self.first_token_s:
                await anyio.sleep(self.first_token_s)
            metered = await self._speak(completion.text, emit, meter)
            meter.add("llm.completion_tokens", usage.completion - metered)
            return completion

    async def count(self, messages: tuple[ChatMessage, ...], tools: tuple[ToolSpec, ...]) -> int:
        """Tokens by the rule above."""
        return self._counter.count(messages).tokens + self._counter.tools(tools)

    def allowances(self) -> tuple[Allowance, ...]:
        """Nobody limits it."""
        return ()

    def _model(self) -> str:
        return f"scripted:{self.name}" if self.name else "scripted"

    def _fitting(self, ask: Complete, counted: Counted) -> int:
        if ask.tools and ask.json_schema is not None:
            raise BadPrompt("tools and json_schema exclude each other: leave one out")
        prompt = counted.tokens + self._counter.tools(ask.tools)
        if prompt >= self.context_window:
            raise PromptTooLong(tokens=prompt, window=self.context_window)
        return prompt

    async def _reply(self, ask: Complete) -> Reply:
        if callable(self.script):
            reply = self.script(ask)
            return await reply if not isinstance(reply, str) and isawaitable(reply) else reply
        return _ruled(self.rules, ask) if self.script is None else _nth(self.script, ask)

    def _completion(self, ask: Complete, reply: Reply, prompt: int, calls: int) -> Completion:
        if isinstance(reply, Completion):
            return reply.model_copy(update={"model": self._model()})
        if isinstance(reply, str):
            text, finish = _cut(_checked(reply, ask), ask)
            usage = Usage(prompt=prompt, completion=tokens(text))
            return Completion(text=text, finish=finish, usage=usage, model=self._model())
        asked = _numbered((reply,) if isinstance(reply, ToolCall) else reply, calls)
        return Completion(
            text="",
            tool_calls=asked,
            finish="tool_calls",
            usage=Usage(prompt=prompt, completion=call_tokens(asked)),
            model=self._model(),
        )

    async def _speak(self, text: str, emit: Emit, meter: Meter) -> int:
        spoken = metered = 0
        for piece in WORD.findall(text):
            spoken += len(piece) if piece.isascii() else size(piece)
            if new := -(-spoken // BYTES_A_TOKEN) - metered:
                if self.token_s:
                    await anyio.sleep(self.token_s * new)
                metered += new
                meter.add("llm.completion_tokens", new)
            await emit(piece)
        return metered


def _nth(replies: Sequence[Reply], ask: Complete) -> Reply:
    turn = sum(message.role == "assistant" for message in ask.messages)
    if turn < len(replies):
        return replies[turn]
    raise BadPrompt(f"the script ends after {len(replies)} replies; this is turn {turn + 1}")


def _ruled(rules: Sequence[Rule], ask: Complete) -> Reply:
    heard = [message for message in ask.messages if message.role in ("user", "tool")]
    if not heard:
        raise BadPrompt("no rule can match: there is neither a user nor a tool message")
    for rule in rules:
        if (reply := rule.reply(heard[-1])) is not None:
            return reply
    raise BadPrompt(f"no rule matches the {heard[-1].role} message {heard[-1].text[:200]!r}")


def _places(text: str, found: re.Match[str]) -> dict[str, str]:
    numbered = {str(number): found[number] or "" for number in range(len(found.groups()) + 1)}
    return numbered | {"last": text} | found.groupdict(default="")


def _filled(value: Any, known: Mapping[str, str]) -> Any:
    match value:
        case str():
            return PLACE.sub(lambda place: known.get(place[1], place[0]), value)
        case list():
            return [_filled(part, known) for part in value]
        case dict():
            return {name: _filled(part, known) for name, part in value.items()}
    return value


def _checked(text: str, ask: Complete) -> str:
    if ask.json_schema is None:
        return text
    try:
        json.loads(text)
    except ValueError as error:
        raise BadPrompt(f"json_schema asks for JSON; the script says {text[:200]!r}") from error
    return text


def _cut(text: str, ask: Complete) -> tuple[str, Literal["stop", "length"]]:
    for stop in ask.sampling.stop:
        text = text.partition(stop)[0]
    most = ask.sampling.max_tokens
    if most is None or tokens(text) <= most:
        return text, "stop"
    return text.encode()[: most * BYTES_A_TOKEN].decode(errors="ignore"), "length"


def _numbered(calls: Sequence[ToolCall], earlier: int) -> tuple[ToolCall, ...]:
    """Calls without an id get their place in the conversation, the same at every replay."""
    return tuple(
        one if one.id else one.model_copy(update={"id": f"call_{number}"})
        for number, one in enumerate(calls, earlier + 1)
    )
