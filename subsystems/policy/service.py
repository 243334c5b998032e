"""Policy: what may be called at all. What no rule allows is refused."""

import functools
import glob
import json
from fnmatch import fnmatchcase
from typing import Any, NamedTuple, Self

from ...kernel.call import Call
from ...kernel.errors import Refused
from ...kernel.message import TOPIC, R
from ...kernel.service import Proceed, Service
from ..tools.messages import CallTool
from .messages import CallRefused

REMEMBERED = 4096
"""How many decisions are kept; tool names may come from a model, so they must be bounded."""


class Rule(NamedTuple):
    """`topic:subject`. The subject is a pattern; of a tool it is the name, else the address."""

    topic: str
    subject: str

    @classmethod
    def parse(cls, text: str) -> Self:
        topic, colon, subject = text.partition(":")
        if not (colon and subject.strip() == subject != "" and TOPIC.fullmatch(topic)):
            raise ValueError(
                f"allow: {text!r} is no rule; write topic:subject, "
                'for example "tools.call:read_file", "tools.call:*" or "llm.complete:llm.fast"'
            )
        return cls(topic, subject)

    @classmethod
    def exactly(cls, topic: str, subject: str) -> Self:
        """The rule that allows this and nothing else, whatever signs stand in the subject."""
        return cls(topic, glob.escape(subject))

    def covers(self, topic: str, subject: str) -> bool:
        return topic == self.topic and fnmatchcase(subject, self.subject)

    def __str__(self) -> str:
        return f"{self.topic}:{self.subject}"


class Policy(Service, name="policy", pinned=True):
    """A guard that lets through what a rule allows, and nothing else.

    [services.policy]
    allow = ["llm.complete:*", "tools.call:read_file"]
    """

    def __init__(self, allow: tuple[str, ...] = ()) -> None:
        """Raises ValueError for a rule that cannot be read."""
        self._rules = tuple(Rule.parse(text) for text in allow)
        self._allows = functools.lru_cache(REMEMBERED)(self._decide)

    async def guard(self, call: Call[R], proceed: Proceed[R]) -> R:
        topic, subject = call.message.topic, _subject(call)
        if not self._allows(topic, subject):
            raise await self._refused(call, topic, subject)
        return await proceed(call)

    def _decide(self, topic: str, subject: str) -> bool:
        return any(rule.covers(topic, subject) for rule in self._rules)

    async def _refused(self, call: Call[Any], topic: str, subject: str) -> Refused:
        """Tell it, and give the error that says how to allow it."""
        who = call.sender if call.origin is None else str(call.origin)
        decided = f"{self.address}.allow"
        await self.publish(CallRefused(who=who, what=f"{topic}:{subject}", rule=decided))
        return Refused(
            f"no rule allows {topic} of {subject!r}; to allow it, add "
            f"{json.dumps(str(Rule.exactly(topic, subject)))} to allow in "
            f"[services.{self.address}]",
            rule=decided,
        )


def _subject(call: Call[Any]) -> str:
    message = call.message
    return message.name if isinstance(message, CallTool) else call.address
