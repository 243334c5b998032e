"""What a call will use, and what it has used, in calls and tokens.

Before a call it is an estimate: of the prompt by its length, by what earlier prompts of the
same address came to; of the reply its `max_tokens`, or what earlier replies have taken.
"""

from typing import Any, NamedTuple

from ...kernel.call import Call
from ..llm.messages import Complete, Completion
from .limits import Dimension

PER_TOKEN, REPLY = 3.0, 256.0
"""Characters of a token and tokens of a reply, before anything is known."""
WEIGHT = 0.2
"""Of the newest call in what is learned."""
ROOM = 1.25
"""A reply may be so much longer than those before it were on the average."""


class Cost(NamedTuple):
    """By dimension: calls, prompt tokens, reply tokens, tokens in all."""

    requests: float = 1.0
    input_tokens: float = 0.0
    output_tokens: float = 0.0

    @property
    def tokens(self) -> float:
        return self.input_tokens + self.output_tokens

    def of(self, dimension: Dimension) -> float:
        return float(getattr(self, dimension))


CALL, NOTHING = Cost(), Cost(requests=0.0)


class Estimate:
    """What is known of an address's calls."""

    def __init__(self) -> None:
        self.per_token, self.reply = PER_TOKEN, REPLY

    def before(self, ask: Complete) -> Cost:
        """What this will use at most, as far as one can tell."""
        most = ask.sampling.max_tokens
        return Cost(1.0, length(ask) / self.per_token, float(most or self.reply * ROOM))

    def learn(self, ask: Complete, used: Cost) -> None:
        """A call has come back."""
        if used.input_tokens:
            ratio = length(ask) / used.input_tokens
            self.per_token += WEIGHT * (max(ratio, 0.1) - self.per_token)
        if used.output_tokens:
            self.reply += WEIGHT * (used.output_tokens - self.reply)


def length(ask: Complete) -> float:
    """Characters of a prompt; others than ASCII count twice, they take more tokens."""
    texts = [part for m in ask.messages for part in (m.text, m.reasoning)]
    texts += [f"{call.name}{call.arguments}" for m in ask.messages for call in m.tool_calls]
    texts += [f"{tool.name}{tool.description}{tool.parameters}" for tool in ask.tools]
    sizes = (len(text) if text.isascii() else 2 * len(text) for text in texts)
    return sum(sizes) + 12.0 * len(ask.messages)


METERED = ("llm.prompt_tokens", "llm.completion_tokens")


def metered(call: Call[Any]) -> tuple[float, float]:
    """What stands on the call's meter; a call that proceeds again goes on from there."""
    meter = call.meter
    return meter.get(METERED[0], 0.0), meter.get(METERED[1], 0.0)


def used(call: Call[Any], before: tuple[float, float], reply: object) -> Cost:
    """What a call has used since: by its meter, else as its reply says."""
    prompt, completion = (now - then for now, then in zip(metered(call), before, strict=True))
    if not prompt and not completion and isinstance(reply, Completion):
        prompt, completion = float(reply.usage.prompt), float(reply.usage.completion)
    return Cost(1.0, prompt, completion)
