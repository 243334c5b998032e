"""The limiter: keeps calls within what a provider's key, a tenant or a tool may use."""

import itertools
from contextlib import AsyncExitStack
from typing import Any

import anyio

from ...kernel.call import Call, here
from ...kernel.errors import KernelError, NotNow
from ...kernel.events import ServiceSwapped
from ...kernel.message import R, Request
from ...kernel.service import Proceed, Service, handles, subscribes
from ..llm.messages import Complete, Describe, LimitsTold
from ..storage.messages import DrawRate, SeatsCalled
from .bucket import Bucket, Shortage, give_back, remembered, take_one
from .buckets import Buckets, Subject
from .costs import CALL, NOTHING, Cost, Estimate, metered, used
from .keeper import Keeper
from .limits import Limit
from .messages import Admit, BucketState, Depart, Dried, Dry, ReadLimits, Refilled
from .pacer import SharedPacer
from .providers import Providers, is_about_limits

LONGEST_HOLD_S = 900.0


class Limiter(Service, name="limiter"):
    """A guard that lets a call through, or says when it could be.

        [[services.limiter.limits]]
        of = "llm.*"
        per = "account"
        requests = "50/s"
        tokens = "40000/min burst 20000"

    A call draws from every bucket of its own, or from none. It reserves what it may use and
    settles what it has. With `learn`, a provider that refuses a key for a while, or tells in its
    headers what is left, is believed, up to `longest_hold_s`.
    """

    def __init__(
        self,
        limits: tuple[Limit, ...] = (),
        learn: bool = True,
        longest_hold_s: float = LONGEST_HOLD_S,
    ) -> None:
        names = [str(limit) for limit in limits]
        if twice := next((name for name in names if names.count(name) > 1), None):
            raise ValueError(f"there are two limits of {twice}; make them one")
        self._learn, self._providers = learn, Providers(longest_hold_s)
        self._time = anyio.current_time  # the kernel's, from the start on
        self._buckets = Buckets(limits, self._time)
        self._keeper = Keeper(self._ask, self.publish)
        self._accounts: dict[str, str] = {}
        self._estimates: dict[str, Estimate] = {}
        self._stays: dict[int, tuple[Bucket, ...]] = {}
        self._numbers = itertools.count(1)

    async def start(self) -> None:
        self._time = self._buckets.time = self._keeper.time = self.bus.time

    async def run(self) -> None:
        await self._keeper.run()

    async def guard(self, call: Call[R], proceed: Proceed[R]) -> R:
        buckets = self._buckets.fixed.get(call.address)
        if buckets is None:
            buckets = await self._find(call)
        if not take_one(buckets, self._time()):
            return await self._reserve(call, proceed, buckets)
        try:  # the most frequent case: nothing but a rate of calls, and it has one left
            reply = await proceed(call)
            if self._providers.refusals:
                self._providers.answered(await self._account(call.address))
            return reply
        except KernelError as error:
            if isinstance(error, NotNow):
                give_back(buckets, self._time())
            await self._learn_from(call, error)
            raise
        finally:
            for bucket in buckets:
                bucket.inside -= 1

    async def _reserve(self, call: Call[R], proceed: Proceed[R], buckets: tuple[Bucket, ...]) -> R:
        cost, before = CALL, None
        if any(bucket.has_tokens for bucket in buckets):
            cost, before = self._cost(call), metered(call)
        await self._enter(call.address, buckets, cost)
        spent, reply = CALL, None
        try:
            reply = await proceed(call)
            if self._providers.refusals:
                self._providers.answered(await self._account(call.address))
            return reply
        except NotNow:
            spent = NOTHING  # it never began
            raise
        except KernelError as error:
            await self._learn_from(call, error)
            raise
        finally:
            if before is not None and spent is not NOTHING:
                spent = self._settled(call, before, reply)
            await self._leave(buckets, cost, spent)

    async def _learn_from(self, call: Call[Any], error: KernelError) -> None:
        if self._learn and is_about_limits(error):
            account = await self._account(call.address)
            self._providers.refused(self._buckets, account, error, self._time())

    # Which buckets

    async def _find(self, call: Call[Any]) -> tuple[Bucket, ...]:
        account = await self._account(call.address)
        found = self._buckets.of(Subject.of(call, account))
        if self._learn:
            found = (*found, self._buckets.account(account))
        self._buckets.remember(call.address, found)
        return found

    async def _account(self, address: str) -> str:
        """The provider's key that this address uses; the address where it has none."""
        if address not in self._accounts:
            known = address in self.addresses(Describe)
            card = await self._ask(Describe(), to=address) if known else None
            self._accounts[address] = (card and card.account) or address
        return self._accounts[address]

    async def _ask(self, message: Request[R], to: str | None = None) -> R:
        """Of whoever is there: alone, a limiter needs neither a model nor storage."""
        return await self.bus.request(message, to, sender=self.address)

    @subscribes(ServiceSwapped)
    async def on_swapped(self, event: ServiceSwapped) -> None:
        self._accounts.pop(event.service, None)
        self._buckets.forget(event.service)

    # What a call uses

    def _cost(self, call: Call[Any]) -> Cost:
        if not isinstance(call.message, Complete):
            return CALL
        return self._estimate(call.address).before(call.message)

    def _estimate(self, address: str) -> Estimate:
        return self._estimates.setdefault(address, Estimate())

    def _settled(self, call: Call[Any], before: tuple[float, float], reply: object) -> Cost:
        spent = used(call, before, reply)
        if reply is not None and isinstance(call.message, Complete):
            self._estimate(call.address).learn(call.message, spent)
        return spent

    # In and out

    async def _enter(self, address: str, buckets: tuple[Bucket, ...], cost: Cost) -> None:
        """Draw from all of them. Raises Dry, TooLarge."""
        if any(bucket.is_shared for bucket in buckets):
            await self._fetch_all(buckets, cost)
        now = self._time()
        for bucket in buckets:
            if short := bucket.shortage(cost, now):
                bucket.check_size(cost)
                raise await self._dry(address, bucket, short)
        for bucket in buckets:
            bucket.enter(cost, now)

    async def _fetch_all(self, buckets: tuple[Bucket, ...], cost: Cost) -> None:
        with remembered(buckets):
            for bucket in buckets:
                await self._fetch(bucket, cost)

    async def _fetch(self, bucket: Bucket, cost: Cost) -> None:
        """Draw a block of what the database has, where the last one does not do."""
        await self._keeper.fetch(bucket)
        for what, pacer in bucket.shared:
            amount = cost.of(what)
            if pacer.has_to_ask(amount, self._time()):
                async with pacer.asking:
                    if pacer.has_to_ask(amount, self._time()):
                        bucket.check_size(cost)
                        await self._draw(pacer, amount)

    async def _draw(self, pacer: SharedPacer, amount: float) -> None:
        asked_at = self._time()
        block = pacer.ask(amount, asked_at)
        try:
            drawn = await self._ask(
                DrawRate(
                    name=pacer.name,
                    least=block.least,
                    most=block.most,
                    owed=block.owed,
                    each_s=pacer.each_s,
                    burst=pacer.kept_burst,
                )
            )
        except BaseException:
            pacer.refused(block)
            raise
        pacer.drawn(block, drawn, asked_at, self._time())

    async def _dry(self, address: str, bucket: Bucket, short: Shortage) -> Dry:
        """Tell it, and give the error that says until when."""
        until, every_s, reason = short
        bucket.turned_away[address] = until
        whole = bucket.limit is None or bucket.limit.is_fixed
        if self.bus.hears(Dried):
            addresses = self._buckets.sharing(bucket) if whole else ()
            event = Dried(
                bucket=bucket.name,
                addresses=addresses,
                until=until,
                every_s=every_s,
                reason=reason,
            )
            await self.publish(event)
        return Dry(bucket.name, until, reason, every_s=every_s, whole=whole)

    async def _leave(self, buckets: tuple[Bucket, ...], reserved: Cost, spent: Cost) -> None:
        now = self._time()
        for bucket in buckets:
            if addresses := bucket.leave(reserved, spent, now):
                await self.publish(Refilled(bucket=bucket.name, addresses=addresses, places=1))
            self._keeper.left(bucket)

    @subscribes(SeatsCalled)
    async def on_seats_called(self, event: SeatsCalled) -> None:
        self._keeper.hear(event)

    @subscribes(LimitsTold)
    async def on_limits_told(self, event: LimitsTold) -> None:
        """A model has answered, and said what its key has left."""
        if self._learn:
            account, now = await self._account(event.address), self._time()
            self._providers.believe(self._buckets, account, event.allowances, now)

    # For those who stand on no route

    @handles(Admit, waits=True)
    async def admit(self, request: Admit) -> int:
        """First come, first served at each bucket; woken when it has something, not before."""
        call = here()
        buckets = self._buckets.of(Subject.named(request.name, request.key, call and call.origin))
        async with AsyncExitStack() as lines:
            lines.enter_context(remembered(buckets))
            for bucket in buckets:
                await lines.enter_async_context(bucket.line)
                await self._until_free(bucket)
            while short := next(filter(self._is_short, buckets), None):
                await self._until_free(short)
            for bucket in buckets:
                bucket.enter(CALL, self._time())
        return self._stay(buckets)

    def _is_short(self, bucket: Bucket) -> bool:
        return bucket.shortage(CALL, self._time()) is not None

    async def _until_free(self, bucket: Bucket) -> None:
        while True:
            await self._fetch(bucket, CALL)
            now = self._time()
            short = bucket.shortage(CALL, now)
            if short is None:
                return
            with anyio.move_on_after(short.until - now):
                await bucket.bell.wait()

    def _stay(self, buckets: tuple[Bucket, ...]) -> int:
        number = next(self._numbers)
        self._stays[number] = buckets
        return number

    @handles(Depart)
    async def depart(self, request: Depart) -> None:
        buckets = self._stays.pop(request.stay, ())
        await self._leave(buckets, CALL, CALL)

    @handles(ReadLimits)
    async def read(self, request: ReadLimits) -> tuple[BucketState, ...]:
        now = self._time()
        busy = (one for one in self._buckets if one.inside or not one.is_full(now))
        return tuple(one.shown(now) for one in busy)

    def hand_over(self, successor: "Limiter") -> None:
        """What is drawn stays drawn, and who is inside is counted on."""
        successor._buckets.take_over(self._buckets)
        self._keeper.hand_over(successor._keeper)
        successor._accounts, successor._estimates = self._accounts, self._estimates
        successor._providers.refusals = self._providers.refusals
        successor._stays, successor._numbers = self._stays, self._numbers
