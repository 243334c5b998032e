"""Pacers: a rate and a burst, kept as one moment; nothing is counted and nothing ticks."""

import math
from typing import NamedTuple, Protocol

import anyio

from ..storage.messages import Drawn

TOLERANCE_S = 1e-6
"""A timer's and a float's error; it does not add up."""


LEAST_PAUSE_S = 0.02
"""So long the database is left alone when it was dry: then it has more than one to give."""


class Paced(Protocol):
    """One dimension of a bucket."""

    burst: float
    each_s: float

    def wait_s(self, amount: float, now: float) -> float:
        """How long until so much can be drawn; 0 when it can be now."""
        ...

    def draw(self, amount: float, now: float) -> None:
        """Take so much, less than nothing to give it back; what is not there is owed."""
        ...

    def left(self, now: float) -> float:
        """How much can be drawn now; less than 0 where more was used than was reserved."""
        ...


class Pacer:
    """Full at `full_at`, if nothing more is drawn; each unit drawn puts that off by `each_s`.

    Within any window of w seconds at most w / each_s + burst are drawn. Who comes late to draw
    loses nothing, as long as no more than a burst has gathered.
    """

    __slots__ = ("ahead_s", "burst", "each_s", "full_at")

    def __init__(self, each_s: float, burst: float) -> None:
        self.each_s, self.burst = each_s, burst
        self.ahead_s = (burst - 1) * each_s  # so far ahead it may be full, and have one left
        self.full_at = -math.inf

    def wait_s(self, amount: float, now: float) -> float:
        wait_s = self.full_at - now + (amount - self.burst) * self.each_s
        return wait_s if wait_s > TOLERANCE_S else 0.0

    def draw(self, amount: float, now: float) -> None:
        self.full_at = (max(now, self.full_at)) + amount * self.each_s

    def left(self, now: float) -> float:
        return self.burst - max(self.full_at - now, 0.0) / self.each_s

    def change(self, each_s: float, burst: float, now: float) -> None:
        """Another rate; what has been drawn stays drawn."""
        owed = max(self.full_at - now, 0.0) / self.each_s
        self.each_s, self.burst, self.full_at = each_s, burst, now + owed * each_s
        self.ahead_s = (burst - 1) * each_s


class Free(Pacer):
    """No rate at all."""

    __slots__ = ()

    def __init__(self) -> None:
        super().__init__(0.0, 1.0)
        self.ahead_s = math.inf


class Block(NamedTuple):
    """What is asked of the database: at least and at most so much, and what is owed before."""

    least: float
    most: float
    owed: float


class SharedPacer:
    """What this kernel has drawn from a bucket in the database, a block at a time.

    A block is good for `good_s`, from before it was asked for, and the database lets out so
    much less at once: late uses of all kernels together never exceed the window. Blocks double
    while they do not last that long. What was not used goes back with the next one.
    """

    __slots__ = (
        "_asked_at",
        "_block",
        "_dry_until",
        "_owed",
        "_spare",
        "_used",
        "asking",
        "burst",
        "each_s",
        "good_s",
        "in_blocks",
        "name",
    )  # fmt: skip

    def __init__(self, name: str, each_s: float, burst: float, *, in_blocks: bool) -> None:
        self.name, self.each_s, self.burst, self.in_blocks = name, each_s, burst, in_blocks
        self.good_s = good_s(each_s, burst)
        self.asking = anyio.Lock()
        self._spare = self._owed = self._used = 0.0
        self._block = 1.0
        self._asked_at = self._dry_until = -math.inf

    @property
    def kept_burst(self) -> float:
        """What the database lets out at once."""
        return self.burst - self.good_s / self.each_s

    def wait_s(self, amount: float, now: float) -> float:
        if self._good(now) >= amount:
            return 0.0
        return max(self._dry_until - now, TOLERANCE_S)

    def has_to_ask(self, amount: float, now: float) -> bool:
        """Could the database have so much?"""
        return self._good(now) < amount and now >= self._dry_until

    def _good(self, now: float) -> float:
        return self._spare if now < self._asked_at + self.good_s else 0.0

    def draw(self, amount: float, now: float) -> None:
        here = min(max(amount, 0.0), self._good(now))
        self._spare -= here
        self._used += here
        self._owed += amount - here

    def left(self, now: float) -> float:
        return self._good(now) - self._owed

    def ask(self, amount: float, now: float) -> Block:
        """What to ask the database for, for a call that needs so much."""
        if self.in_blocks:
            lasted = now >= self._asked_at + self.good_s
            self._block = max(self._used, 1.0) if lasted else self._block * 2
            self._block = min(self._block, self.good_s / self.each_s)
        owed, self._owed, self._spare = self._owed - self._spare, 0.0, 0.0
        return Block(amount, max(amount, float(int(self._block))), owed)

    def refused(self, block: Block) -> None:
        """It is not known whether the database has heard: what is owed is paid twice at most."""
        self._owed += max(block.owed, 0.0)

    def drawn(self, block: Block, drawn: Drawn, asked_at: float, now: float) -> None:
        """The database has answered: so much, or nothing before a while is over."""
        pause_s = min(LEAST_PAUSE_S, self.good_s / 4)
        if drawn.granted:
            self._spare, self._asked_at, self._used = drawn.granted, asked_at, 0.0
        else:
            pause_s = max(drawn.wait_s, pause_s)
        self._dry_until = now + pause_s if drawn.granted < block.most else -math.inf


def good_s(each_s: float, burst: float) -> float:
    """How long a block is good for: half of a burst, at most a second."""
    return min(1.0, burst * each_s / 2)
