"""A bucket: what the calls of one account, tenant, tool or host may use together."""

import hashlib
import math
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

import anyio

from .costs import CALL, Cost
from .limits import DIMENSIONS, Dimension, Limit
from .messages import BucketState, Level, TooLarge
from .pacer import Free, Paced, Pacer, SharedPacer
from .seats import Seats

CONCURRENT_S = 1.0
"""A call that finds no place is told to ask again then; it is told earlier when one is free."""


FREE = Free()
LONGEST_NAME = 200


def stored(name: str) -> str:
    """A name that every database takes: keys and hosts may be anything."""
    if len(name) > LONGEST_NAME:
        digest = hashlib.sha256(name.encode("utf-8", "backslashreplace")).hexdigest()
        name = f"{name[: LONGEST_NAME - len(digest)]}{digest}"
    return name if name.isprintable() else name.encode("unicode_escape").decode("ascii")


class Shortage(NamedTuple):
    """A bucket that cannot take a call before `until`, then one of its like each `every_s`."""

    until: float
    every_s: float
    reason: str


class Bucket:
    """Paced by its limit, and for a provider's account by what the provider says."""

    __slots__ = (
        "_held_until", "_held_why", "_learned", "_most_inside", "_paced", "bell", "entering",
        "has_tokens", "inside", "limit", "line", "name", "only", "seats", "turned_away",
    )  # fmt: skip

    def __init__(self, name: str, limit: Limit | None) -> None:
        self.name = name
        self.inside = self.entering = 0
        self.line = anyio.Lock()
        self.bell = anyio.Event()
        self.turned_away: dict[str, float] = {}  # addresses whose calls rest, until when at most
        self._learned: dict[Dimension, Pacer] = {}
        self._held_until, self._held_why = -math.inf, ""
        self._paced: dict[Dimension, Paced] = {}
        self.limit: Limit | None = None
        self.seats: Seats | None = None
        """Its places, where kernels share them."""
        self.only: Pacer | None = None
        """The rate of calls, where there is nothing else to look at."""
        self.change(limit, 0.0)

    def change(self, limit: Limit | None, now: float) -> None:
        """Another limit of the same name; what has been drawn stays drawn."""
        if self._paced and limit == self.limit:
            return
        self.limit = limit
        self._change_places(limit)
        before, self._paced = self._paced, {}
        for what, rate in (limit.rates if limit else {}).items():
            old, most = before.get(what), rate.most(what, shared=limit.shared) if limit else 0
            if limit and limit.shared:
                shared = SharedPacer(
                    stored(f"{self.name} {what}"), rate.each_s, most, in_blocks=what == "requests"
                )
                self._paced[what] = shared
            else:
                pacer = old if isinstance(old, Pacer) else Pacer(rate.each_s, most)
                pacer.change(rate.each_s, most, now)
                self._paced[what] = pacer
        self._look()

    def _change_places(self, limit: Limit | None) -> None:
        places = None if limit is None else limit.concurrency
        if limit is None or places is None or not limit.shared:
            self.seats, self._most_inside = None, places or math.inf
            return
        self._most_inside = math.inf
        self.seats = self.seats or Seats(stored(f"{self.name} concurrency"), places)
        self.seats.change(places)

    def _look(self) -> None:
        """What has to be looked at from now on."""
        dimensions = {*self._paced, *self._learned}
        self.has_tokens = bool(dimensions - {"requests"})
        pacer = self._paced.get("requests", FREE)
        is_plain = not (self.has_tokens or self._learned) and self._held_until == -math.inf
        is_plain = is_plain and self._most_inside == math.inf and self.seats is None
        self.only = pacer if is_plain and isinstance(pacer, Pacer) else None

    @property
    def shared(self) -> list[tuple[Dimension, SharedPacer]]:
        """What stands in the database."""
        return [(w, one) for w, one in self._paced.items() if isinstance(one, SharedPacer)]

    @property
    def is_shared(self) -> bool:
        """Something of it has to be asked for."""
        return self.seats is not None or bool(self.shared)

    @property
    def is_quiet(self) -> bool:
        """Nobody is inside and nobody waits."""
        waiting = self.entering or self.line.statistics().tasks_waiting
        return not self.inside and not waiting

    def is_awaited(self, now: float) -> bool:
        """Calls of this kernel would enter, were there a place."""
        return self.line.locked() or any(until > now for until in self.turned_away.values())

    def is_full(self, now: float) -> bool:
        """Nothing would be forgotten with it."""
        pacers = (*self._paced.values(), *self._learned.values())
        has_none = self.seats is None or self.seats.is_idle
        full = all(one.left(now) >= one.burst for one in pacers)
        return self._held_until <= now and has_none and full

    # Calls

    def shortage(self, cost: Cost, now: float) -> Shortage | None:
        """Why a call cannot enter now, the longest wait of all; None when it can."""
        if self._held_until > now:
            return Shortage(self._held_until, 0.0, self._held_why)
        self._let_go(now)
        wait_s, dimension, each_s = 0.0, "", 0.0
        for what, pacer in self._paced.items():
            if (waits_s := pacer.wait_s(cost.of(what), now)) > wait_s:
                wait_s, dimension, each_s = waits_s, what, cost.of(what) * pacer.each_s
        for what, pacer in self._learned.items():
            amount = min(cost.of(what), pacer.burst)  # whether it is too much, its provider says
            if (waits_s := pacer.wait_s(amount, now)) > wait_s:
                wait_s, dimension, each_s = waits_s, what, amount * pacer.each_s
        if wait_s:
            reason = f"{self.name} has no {dimension.replace('_', ' ')} left for {wait_s:.3g} s"
            return Shortage(now + wait_s, each_s, reason)
        if self.inside >= self._most_inside:
            reason = f"{self.name} has {self.inside} calls under way, which is its most"
            return Shortage(now + CONCURRENT_S, 0.0, reason)
        if self.seats is not None and (waits_s := self.seats.wait_s(self.inside, now)):
            reason = f"{self.name} has no place left of the {self.seats.places} of all kernels"
            return Shortage(now + waits_s, 0.0, reason)
        return None

    def _let_go(self, now: float) -> None:
        """Of what holds no longer."""
        over = [what for what, pacer in self._learned.items() if pacer.full_at <= now]
        for what in over:
            del self._learned[what]
        if over or self._held_until > -math.inf:
            self._held_until = -math.inf
            self._look()

    def _all(self) -> Iterable[tuple[Dimension, Paced]]:
        if not self._learned:
            return self._paced.items()
        return (*self._paced.items(), *self._learned.items())

    def check_size(self, cost: Cost) -> None:
        """Raises TooLarge for a call that would wait for ever."""
        for what, pacer in self._paced.items():
            most = pacer.kept_burst if isinstance(pacer, SharedPacer) else pacer.burst
            if cost.of(what) > most:
                raise TooLarge(
                    f"the call may use {cost.of(what):.0f} {what.replace('_', ' ')}, and {self.name} "
                    f"never lets more than {most:.0f} through at once; ask for less (max_tokens), "
                    "or give its rate a larger burst",
                    rule=self.name,
                )

    def enter(self, cost: Cost, now: float) -> None:
        """Reserve what the call may use."""
        self.inside += 1
        if self.seats is not None:
            self.seats.entered(self.inside)
        for what, pacer in self._all():
            pacer.draw(cost.of(what), now)

    def leave(self, reserved: Cost, used: Cost, now: float) -> tuple[str, ...]:
        """Settle; a place is free now for these addresses, whose calls were turned away."""
        self.inside -= 1
        for what, pacer in self._all():
            if unused := reserved.of(what) - used.of(what):
                pacer.draw(-unused, now)
        if self.seats is not None:
            self.seats.left(self.inside, now)
            return () if self.seats.called else self.call(now)
        return () if self._most_inside == math.inf else self.call(now)

    def call(self, now: float) -> tuple[str, ...]:
        """There is a place; for whom, of those that were turned away."""
        self.bell.set()  # who stands first in line looks again
        self.bell = anyio.Event()
        if self.turned_away:
            self.turned_away = {to: at for to, at in self.turned_away.items() if at > now}
        return tuple(sorted(self.turned_away))

    def return_one(self, now: float) -> None:
        """A call that entered did not begin."""
        for what, pacer in self._paced.items():
            pacer.draw(-CALL.of(what), now)

    # What the provider says

    def hold(self, until: float, reason: str) -> None:
        """Let nothing in before then."""
        if until > self._held_until:
            self._held_until, self._held_why = until, f"{self.name}: {reason}"
            self._look()

    def told(self, what: Dimension, limit: int, remaining: int, reset_s: float, now: float) -> None:
        """The provider has so much left, and will be full again in so many seconds."""
        used = limit - remaining
        if used <= 0 or reset_s <= 0:
            self._learned.pop(what, None)
        else:
            pacer = Pacer(reset_s / used, float(limit))
            pacer.draw(used + self.inside * (what == "requests"), now)
            self._learned[what] = pacer
        self._look()

    def shown(self, now: float) -> BucketState:
        """How it stands, as others may see it."""
        levels = (
            Level(what=what, left=pacer.left(now), most=pacer.burst)
            for what, pacer in sorted(self._all(), key=lambda one: DIMENSIONS.index(one[0]))
        )
        most = self.seats.places if self.seats is not None else self._most_inside
        return BucketState(
            name=self.name,
            levels=tuple(levels),
            inside=self.inside,
            concurrency=None if most == math.inf else int(most),
            held_s=max(self._held_until - now, 0.0),
            shared=bool(self.shared) or self.seats is not None,
            held=0 if self.seats is None else self.seats.held,
        )


def take_one(buckets: tuple[Bucket, ...], now: float) -> bool:
    """Enter them all, where each has nothing but a rate of calls, and has one left."""
    for bucket in buckets:
        pacer = bucket.only
        if pacer is None or pacer.full_at > now + pacer.ahead_s:
            return False
    for bucket in buckets:
        bucket.inside += 1
        if (pacer := bucket.only) is not None:
            pacer.full_at = max(pacer.full_at, now) + pacer.each_s
    return True


def give_back(buckets: tuple[Bucket, ...], now: float) -> None:
    """The call that took one never began."""
    for bucket in buckets:
        bucket.return_one(now)


@contextmanager
def remembered(buckets: tuple[Bucket, ...]) -> Iterator[None]:
    """None of them is forgotten meanwhile, for another of its name would know nothing of it."""
    for bucket in buckets:
        bucket.entering += 1
    try:
        yield
    finally:
        for bucket in buckets:
            bucket.entering -= 1
