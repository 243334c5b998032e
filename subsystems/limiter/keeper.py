"""The keeper of shared places: asks the database for them, and gives back what is idle."""

import itertools
from collections.abc import Awaitable, Callable
from typing import Protocol
from uuid import uuid4

import anyio

from ...kernel.errors import KernelError
from ...kernel.log import log
from ...kernel.message import Event, R, Request
from ..storage.messages import HoldSeats, SeatsCalled
from .bucket import Bucket
from .messages import Refilled
from .seats import IDLE_S, Seats


class Asks(Protocol):
    def __call__(self, message: Request[R], /) -> Awaitable[R]: ...


class Keeper:
    """Speaks for all buckets of this kernel that have shared places."""

    def __init__(self, ask: Asks, publish: Callable[[Event], Awaitable[None]]) -> None:
        self._ask, self._publish = ask, publish
        self._holder, self._turns = uuid4().hex, itertools.count(1)
        self._kept: dict[str, tuple[Bucket, Seats]] = {}
        self._bell = anyio.Event()
        self.time = anyio.current_time

    async def fetch(self, bucket: Bucket) -> None:
        """Ask for a place, where the last block does not do."""
        seats = bucket.seats
        if seats is None or not seats.has_to_ask(bucket.inside, self.time()):
            return
        async with seats.asking:
            if seats.has_to_ask(bucket.inside, self.time()):
                await self._hold(bucket, seats, wants=True)
        if seats.waits or seats.wanted:
            self._bell.set()

    async def _hold(
        self, bucket: Bucket, seats: Seats, *, wants: bool = False, most: int = 0
    ) -> None:
        """Nobody else is asking for it. Raises StorageError."""
        if seats.name not in self._kept:
            self._bell.set()  # from now on there is something to give back
        self._kept[seats.name] = (bucket, seats)
        asked_at, used = self.time(), bucket.inside if bucket.seats is seats else 0
        most = seats.block(used, asked_at) if wants else most
        seats.ask(used, most)
        answer = await self._ask(
            HoldSeats(
                name=seats.name,
                holder=self._holder,
                turn=next(self._turns),
                places=seats.places,
                used=used,
                wants=wants,
                most=most,
            )
        )
        granted = answer.held > used if wants else None
        seats.answered(answer, bucket.inside, asked_at, self.time(), granted=granted)

    def left(self, bucket: Bucket) -> None:
        """A call of it is over, and perhaps its place is another kernel's."""
        if bucket.seats is not None and (bucket.seats.wanted or bucket.seats.waits):
            self._bell.set()

    def hear(self, called: SeatsCalled) -> None:
        """Another kernel waits, or has given back."""
        bucket, seats = self._kept.get(called.name, (None, None))
        if bucket is None or seats is None or called.holder == self._holder:
            return
        if called.wanted:
            seats.hear_wanted(bucket.inside, called.share)
        if called.freed:
            seats.hear_freed()
        self._bell.set()

    async def run(self) -> None:
        """Until cancelled; asleep while nothing is held."""
        while True:
            with anyio.move_on_after(IDLE_S if self._kept else None):
                await self._bell.wait()
            self._bell = anyio.Event()
            for bucket, seats in tuple(self._kept.values()):
                try:
                    await self._look(bucket, seats)
                except KernelError as error:
                    log.warning("limiter.places_not_settled", bucket=bucket.name, error=str(error))

    async def _look(self, bucket: Bucket, seats: Seats) -> None:
        async with seats.asking:
            if bucket.seats is not seats:
                await self._hold(bucket, seats)
            elif seats.called and bucket.is_awaited(self.time()):
                await self._hold(bucket, seats, wants=True)
                await self._tell(bucket, seats)
            else:
                await self._trim(bucket, seats)
        if seats.is_idle:
            self._kept.pop(seats.name, None)

    async def _trim(self, bucket: Bucket, seats: Seats) -> None:
        now = self.time()
        most = seats.keep(bucket.inside, now)
        if most < seats.held or seats.has_given_up(now):
            await self._hold(bucket, seats, most=most)

    async def _tell(self, bucket: Bucket, seats: Seats) -> None:
        """Those who were turned away, as many as may come."""
        now = self.time()
        if (places := seats.room(bucket.inside, now)) and (addresses := bucket.call(now)):
            await self._publish(Refilled(bucket=bucket.name, addresses=addresses, places=places))

    def hand_over(self, successor: "Keeper") -> None:
        """It goes on under this one's name."""
        successor._holder, successor._turns = self._holder, self._turns
        successor._kept, self._kept = self._kept, {}
        successor._bell.set()
