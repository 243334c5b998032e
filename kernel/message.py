"""Messages: the words services say to each other, as frozen data.

A `Request` has one handler and a typed reply; an `Event` has whoever subscribed.
"""

import re
from collections.abc import Awaitable, Callable
from typing import Any, ClassVar, Generic, Literal, TypeVar

from pydantic import BaseModel, ConfigDict

R = TypeVar("R", covariant=True)

Effect = Literal["none", "idempotent", "once"]
"""What a retry may do: repeat a read, repeat with the same key, or never repeat blindly."""

Sink = Callable[[Any], Awaitable[None]]
"""Takes the pieces of a streamed reply; awaiting it is the back-pressure."""

TOPIC = re.compile(r"[a-z][a-z0-9_]*(\.[a-z][a-z0-9_]*)+")


class Meter(dict[str, float]):
    """What a call has used so far, by name; filled as it happens, so a cut call counts too."""

    __slots__ = ()

    def add(self, name: str, amount: float) -> None:
        self[name] = self.get(name, 0) + amount


class Value(BaseModel):
    """Immutable data; unknown fields are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)


class Message(Value):
    """Something one service says. `topic` names it in logs, traces, config and on the wire."""

    topic: ClassVar[str] = ""

    def __init_subclass__(cls, *, topic: str = "", **config: Any) -> None:
        super().__init_subclass__(**config)
        if topic and not TOPIC.fullmatch(topic):
            raise TypeError(f"{cls.__name__}: topic {topic!r} must read like 'noun.verb'")
        if topic:
            cls.topic = topic


class Event(Message):
    """A fact, told to every subscriber. `urgent=True` overtakes in each subscriber's queue.

    class ProcessExited(Event, topic="process.exited"):
        pid: str
    """

    urgent: ClassVar[bool] = False

    def __init_subclass__(cls, *, topic: str = "", urgent: bool = False, **config: Any) -> None:
        super().__init_subclass__(topic=topic, **config)
        cls.urgent = urgent or cls.urgent


class Request(Message, Generic[R]):
    """A question with one handler, whose reply is an `R`.

        class PageIn(Request[Page], topic="pager.page_in", effect="none"):
            page: PageId

    `effect` says what a retry may do; undeclared it is "once".
    `addressed=True` allows many handlers, chosen by `to=` or the route's default.
    """

    effect: ClassVar[Effect] = "once"
    addressed: ClassVar[bool] = False

    def __init_subclass__(
        cls, *, topic: str = "", effect: Effect = "once", addressed: bool = False, **config: Any
    ) -> None:
        super().__init_subclass__(topic=topic, **config)
        if topic:
            cls.effect = effect
            cls.addressed = addressed
