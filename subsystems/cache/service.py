"""The cache: a model call that was answered before is answered again, word for word."""

import hashlib
import json
from typing import Any, Literal, cast

from ...kernel.call import Call
from ...kernel.errors import Unavailable
from ...kernel.message import R
from ...kernel.service import Proceed, Service
from ..llm.messages import Complete, Completion, Delta, DeltaKind, Describe, Usage
from ..processes.messages import Origin
from .messages import CacheHit
from .shelf import Shelf

NOTHING = Usage(prompt=0, completion=0)


class Cache(Service, name="cache", needs=[Describe]):
    """A guard that keeps exact replies in this kernel's memory; nothing is written to disk.

    A reply is given again to the same prompt, tools, schema and sampling, at the same address,
    from the same model, for `ttl_s` seconds. Only calls with temperature 0 are answered so, or
    with `of = "all"` every one: then agents that ask the same get the same, also where they
    wanted another try. Each tenant has its own, unless `shared_by = "everyone"`. There are at
    most `entries` replies of `size_mb` megabytes; those not asked for longest make room.

    A hit takes no slot and no quota, and says so: it is `kept`, with a usage of nothing.
    """

    def __init__(
        self,
        of: Literal["greedy", "all"] = "greedy",
        shared_by: Literal["tenant", "everyone"] = "tenant",
        ttl_s: float = 3600.0,
        entries: int = 1000,
        size_mb: float = 64.0,
    ) -> None:
        """Raises ValueError for what cannot be meant."""
        if ttl_s <= 0 or entries < 1 or size_mb <= 0:
            raise ValueError("ttl_s, entries and size_mb must be above 0")
        self._of, self._shared_by, self._ttl_s = of, shared_by, ttl_s
        self._bounds = (entries, int(size_mb * 1e6))
        self._shelf = Shelf(*self._bounds)

    async def guard(self, call: Call[R], proceed: Proceed[R]) -> R:
        ask = call.message
        if not isinstance(ask, Complete) or not self._may_keep(ask):
            return await proceed(call)
        try:
            card = await self.request(Describe(), to=call.address)
        except Unavailable:  # without the model's name nothing is known of its replies
            return await proceed(call)
        key = self._key(call, ask, card.model)
        kept = self._shelf.find(key, self.bus.time())
        if kept is not None:
            return cast(R, await self._give(call, kept))
        reply = await proceed(call)
        if isinstance(reply, Completion) and reply.finish in ("stop", "tool_calls"):
            self._shelf.keep(key, reply, self.bus.time() + self._ttl_s)
        return reply

    def _may_keep(self, ask: Complete) -> bool:
        return self._of == "all" or ask.sampling.temperature == 0

    def _key(self, call: Call[Any], ask: Complete, model: str) -> bytes:
        """The model's own name belongs to it, for another may have taken the address."""
        said = (self._owner(call), call.address, model, ask.model_dump(mode="json"))
        return hashlib.blake2b(json.dumps(said, sort_keys=True).encode()).digest()

    def _owner(self, call: Call[Any]) -> tuple[str, ...]:
        """Whose reply it is. What no process asks for belongs to the application."""
        if self._shared_by == "everyone":
            return ("everyone",)
        return ("tenant", call.origin.tenant) if isinstance(call.origin, Origin) else ("app",)

    async def _give(self, call: Call[Any], reply: Completion) -> Completion:
        """The caller's stream gets the text too, in one piece."""
        texts: tuple[tuple[DeltaKind, str], ...] = (
            ("reasoning", reply.reasoning),
            ("text", reply.text),
        )
        for kind, text in texts:
            if text and call.sink is not None:
                piece = Delta(call=call.span_id, attempt=1, offset=0, text=text, kind=kind)
                await call.sink(piece)
        await self._tell(call, reply)
        return reply.model_copy(update={"usage": NOTHING, "kept": True})

    async def _tell(self, call: Call[Any], reply: Completion) -> None:
        await self.publish(
            CacheHit(
                call=call.span_id,
                caller=str(call.origin or call.sender),
                address=call.address,
                model=reply.model,
                saved=reply.usage,
            )
        )

    def hand_over(self, successor: "Cache") -> None:
        """What is kept stays, as far as the successor has room; what it holds for is as it was."""
        self._shelf.resize(*successor._bounds)
        successor._shelf = self._shelf
