"""Quotas: what a call may use is reserved before it, and what it has used is settled after.

What is counted are the reservations in storage, where a commit that does not fit is refused;
what is known here only spares the attempt. The reservation travels with the intent's commit.
"""

from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime
from functools import lru_cache
from typing import Literal

import anyio

from ...kernel.call import Call
from ...kernel.errors import NotNow, Refused
from ...kernel.events import ServiceSwapped
from ...kernel.message import R
from ...kernel.service import Proceed, Service, handles, subscribes
from ..llm.messages import Complete, Count, Describe, ModelCard
from ..processes.messages import Origin, intended
from ..storage.messages import (
    Commit,
    Overdrawn,
    Pid,
    Rang,
    ReadAccounts,
    ReadProcess,
    StorageError,
    Write,
)
from ..tools.messages import CallTool
from .books import Books, room
from .configured import configured
from .currencies import Exchange
from .ledger import Limit, Need, earliest, short
from .messages import (
    ENDS_AT,
    PROCESS,
    OverBudget,
    Quota,
    QuotaCrossed,
    SetQuota,
    TenantQuota,
)
from .passage import ANYONE, Passage
from .uses import ModelUse, ToolUse

AGAIN_S, AGAIN_RATE = 1.0, 500.0
"""Who waits asks again after so long, as other kernels may have given something back; but all
who wait together not more often than so many times a second."""
LAST_WORDS_S = 5.0
DAY_S = 86400
WITHOUT_PROMPT = frozenset({"calls", "tool_calls", "completion_tokens", ENDS_AT})
"""What is known of a call without counting its prompt."""


class Quotas(
    Service,
    name="quota",
    needs_at_start=[Commit, ReadAccounts],
    needs=[Count, Describe, ReadProcess],
    pinned=True,
):
    """A guard that keeps calls of models and tools within quotas, and counts what they use.

        [services.quota]
        namespace = { tokens = 5_000_000 }
        rates = { "USD/EUR" = 0.92 }

        [services.quota.tenants.acme]
        money = 10
        currency = "EUR"
        models = { "llm.large" = { calls = 100 } }

    Processes have theirs from `spawn(..., quota=...)`, and any from `SetQuota`. Money of one
    currency counts in another at these `rates` only. A model whose price nobody knows is
    refused under a quota of money, or let pass uncounted with `unpriced = "allow"`. A call under
    a quota must say `max_tokens`, or its model how long its replies may be; those that do not
    are given this one's `max_tokens`, if there is one.
    """

    def __init__(
        self,
        namespace: Quota | None = None,
        tenants: dict[str, TenantQuota] | None = None,
        rates: dict[str, float] | None = None,
        unpriced: Literal["refuse", "allow"] = "refuse",
        max_tokens: int | None = None,
    ) -> None:
        """Raises ValueError."""
        if max_tokens is not None and max_tokens < 1:
            raise ValueError(f"max_tokens must be at least 1, it is {max_tokens}")
        self._max_tokens = max_tokens
        self._configured = tuple(configured(namespace, tenants or {}))
        self._exchange, self._unpriced = Exchange(rates or {}), unpriced
        self._books = Books()
        self._cards: dict[str, ModelCard] = {}
        self._prompts: dict[int, tuple[str, int]] = {}  # of calls that wait: counted once

    async def start(self) -> None:
        if self._configured:
            await self._commit(ANYONE, *self._configured)
        await self._books.learn(self)

    async def run(self) -> None:
        """What was set between that look and the first bell is read now."""
        await self._books.learn(self)

    def hand_over(self, successor: "Quotas") -> None:
        """Who waits goes on waiting, under what the successor has read."""
        self._books.learn_from(successor._books)
        successor._books = self._books

    @subscribes(Rang, overflow="lossless")
    async def on_rang(self, event: Rang) -> None:
        if event.pids is None or 0 in event.pids:
            with suppress(StorageError):  # whoever is refused looks again
                await self._books.learn(self)

    @subscribes(ServiceSwapped)
    async def refresh(self, event: ServiceSwapped) -> None:
        self._cards.pop(event.service, None)

    @handles(SetQuota)
    async def set(self, request: SetQuota) -> None:
        if request.quota.wall_s is not None and not request.scope.startswith(PROCESS):
            raise ValueError(f"wall_s is for processes, and {request.scope!r} is none")
        accounts = request.quota.accounts(request.scope, self.bus.wall())
        if accounts:
            await self._commit(ANYONE, *accounts)
            await self._books.learn(self)

    # Calls

    async def guard(self, call: Call[R], proceed: Proceed[R]) -> R:
        message = call.message
        if isinstance(message, Complete):
            card = self._cards.get(call.address) or await self._card(call.address)
            model = ModelUse(message, card, call.meter, self._exchange, self._unpriced)
            passage = Passage(call, model)
        elif isinstance(message, CallTool):
            passage = Passage(call, ToolUse())
        else:
            return await proceed(call)
        limits = await self._books.limits(self, passage.origin, call.address)
        if limits:
            return await self._within(limits, passage, proceed)
        return await self._go(passage, proceed)

    async def _card(self, address: str) -> ModelCard:
        card = self._cards[address] = await self.request(Describe(), to=address)
        return card

    async def _within(self, limits: Sequence[Limit], passage: Passage, proceed: Proceed[R]) -> R:
        """Reserve what it may need; what cannot be reserved does not begin."""
        ends_at = earliest(limits)
        if ends_at is not None and self.bus.wall() >= ends_at.ceiling:
            raise await self._over(passage, Need(ends_at, 0))
        await self._count(limits, passage)
        passage.demand(limits)
        await self._admit(passage)
        try:
            with passage.held():
                if ends_at is None:
                    return await self._go(passage, proceed)
                with anyio.move_on_after(ends_at.ceiling - self.bus.wall()):
                    return await self._go(passage, proceed)
        except Overdrawn:  # other kernels were faster
            await self._books.learn(self)
            raise await self._refusal(passage) from None
        raise await self._over(passage, Need(ends_at, 0))

    async def _count(self, limits: Sequence[Limit], passage: Passage) -> None:
        """The tokens of a reply at most, and of the prompt where a limit asks for them."""
        use, call = passage.use, passage.call
        if not isinstance(use, ModelUse):
            return
        if use.ask.sampling.max_tokens is None and self._max_tokens is not None:
            call.message = use.bound(self._max_tokens)
        if WITHOUT_PROMPT.issuperset([limit.account.what for limit in limits]):
            return
        address, use.prompt = self._prompts.get(call.id, ("", 0))
        if address != call.address:
            count = Count(messages=use.ask.messages, tools=use.ask.tools)
            use.prompt = await self.request(count, to=call.address)
            room(self._prompts)[call.id] = (call.address, use.prompt)

    async def _admit(self, passage: Passage) -> None:
        """Raise NotNow or OverBudget where it does not fit, as far as is known here."""
        need = short(passage.needs)
        if need is not None:
            if passage.is_final(need) or self._books.is_stale(self.bus.time()):
                await self._books.learn(self)
            if short(passage.needs) is not None:
                raise await self._refusal(passage)
        self._prompts.pop(passage.call.id, None)
        for limit, _ in passage.needs:
            limit.waiting.pop(passage.call.id, None)

    async def _go(self, passage: Passage, proceed: Proceed[R]) -> R:
        """Proceed, and settle it however it ends."""
        use, call = passage.use, passage.call
        try:
            if passage.carried and intended(call) is None:  # nobody else will commit it
                await self._commit(passage.origin, *passage.take())
            reply = await proceed(call)
        except Overdrawn:
            passage.undo()
            raise
        except (NotNow, Refused):
            if passage.carried or not passage.ticket:  # it has not begun
                passage.undo()
            else:
                await self._settle(passage)
            raise
        except BaseException as error:
            if passage.carried:  # its process is to stop, and nothing of it has begun
                passage.undo()
                raise
            use.end = "failed" if isinstance(error, Exception) else "cut"
            with anyio.move_on_after(LAST_WORDS_S, shield=True), suppress(StorageError):
                await self._settle(passage)
            raise
        use.end = "replied"
        await self._settle(passage)
        return reply

    async def _settle(self, passage: Passage) -> None:
        """In the outcome's commit; where none is to come, or may not, in one of its own."""
        spend = passage.settle(_day(int(self.bus.wall() // DAY_S)))
        if spend is None or (passage.use.end != "cut" and passage.origin.leave(spend)):
            return
        await self._commit(passage.origin, spend, lazy=True)

    async def _commit(self, origin: Origin, *writes: Write, lazy: bool = False) -> None:
        pid = Pid(0) if origin.pid is None else origin.pid
        await self.request(Commit(pid=pid, epoch=origin.epoch, writes=writes, lazy=lazy))

    # What does not fit

    async def _refusal(self, passage: Passage) -> NotNow | OverBudget:
        """Why it cannot begin: at all, or before others have given something back."""
        need, now = short(passage.needs), self.bus.time()
        if need is None:
            return NotNow(now, "a quota was short of it a moment ago")
        limit, amount = need
        if passage.is_final(need):
            return await self._over(passage, need)
        bell = limit.wait(passage.call.id, amount)
        pause_s = max(AGAIN_S, len(limit.waiting) / AGAIN_RATE)
        scope, what = limit.account.scope, limit.account.what
        return NotNow(now + pause_s, f"the {what} of {scope} are reserved", bell)

    async def _over(self, passage: Passage, need: Need) -> OverBudget:
        limit, account = need.limit, need.limit.account
        left = limit.left if passage.use.waits else limit.free
        if self.bus.hears(QuotaCrossed):
            await self.publish(
                QuotaCrossed(
                    who=str(passage.origin),
                    scope=account.scope,
                    what=account.what,
                    needed=need.amount,
                    left=left,
                    action=account.action,
                )
            )
        return OverBudget(
            account.scope,
            account.what,
            needed=need.amount,
            left=left,
            ceiling=limit.ceiling,
            action=account.action,
            instead=account.instead,
        )


@lru_cache(8)
def _day(number: int) -> str:
    return datetime.fromtimestamp(number * DAY_S, UTC).date().isoformat()
