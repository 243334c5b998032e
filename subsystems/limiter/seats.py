"""What this kernel holds of places that all kernels on the database share."""

import math

import anyio

from ..storage.messages import Held
from .pacer import TOLERANCE_S

IDLE_S = 1.0
"""Places that were not needed for so long are given back."""
GIVEN_UP_S = 0.5
"""Whoever was refused and has not come by then, when it may ask again, does not wait any more."""


class Seats:
    """So many calls may be inside here; more have to ask the database.

    Places come in blocks, each twice as large as the last, and are used again by the next call.
    While another kernel waits, what is above this one's share is not: the database says whose
    turn it is. They are good as long as the kernel's lease, from before it was asked.
    """

    __slots__ = (
        "_allowed", "_dry_until", "_due", "_good_until", "_peak", "_peak_since", "asking", "called",
        "held", "name", "places", "share", "waits", "wanted",
    )  # fmt: skip

    def __init__(self, name: str, places: int) -> None:
        self.name, self.places = name, places
        self.asking = anyio.Lock()
        self.held, self.share = 0, places
        self.wanted = False
        """Others wait for places."""
        self.waits = False
        """This kernel was refused one, and it is its turn at some time."""
        self.called = False
        """It has to be asked whether there is a place now."""
        self._allowed = self._peak = self._due = 0
        self._peak_since = self._good_until = self._dry_until = -math.inf

    def change(self, places: int) -> None:
        """Another number of them: what is held has to be asked for again."""
        if places != self.places:
            self.places, self._allowed = places, 0

    # Calls

    def room(self, inside: int, now: float) -> int:
        """How many more calls may enter."""
        return max(self._allowed - inside, 0) if now < self._good_until else 0

    def wait_s(self, inside: int, now: float) -> float:
        if self.room(inside, now):
            return 0.0
        return max(self._dry_until - now, TOLERANCE_S)

    def has_to_ask(self, inside: int, now: float) -> bool:
        """Could the database have one?"""
        return not self.room(inside, now) and now >= self._dry_until

    def entered(self, inside: int) -> None:
        self._peak, self._due = max(self._peak, inside), 0

    def left(self, inside: int, now: float) -> None:
        """A place that is above the share is not used again while others wait."""
        if self.wanted:
            self._lower(inside)
        if (self.wanted or self.waits) and not self.room(inside, now):
            self.called = True

    def _lower(self, inside: int) -> None:
        """To its share; but a call that was just given a place has it."""
        self._allowed = min(self._allowed, max(inside + self._due, self.share))

    # The database

    def block(self, inside: int, now: float) -> int:
        """How many to ask for, in all; no more than before where that is only to be renewed."""
        most = 2 * self.held if now < self._good_until else self.held
        return min(self.places, max(inside + 1, most))

    def has_given_up(self, now: float) -> bool:
        """Nobody has asked again for a while."""
        return self.waits and now > self._dry_until + GIVEN_UP_S

    @property
    def is_idle(self) -> bool:
        """The database knows nothing of it that matters."""
        return not self.held and not self.waits

    def keep(self, inside: int, now: float) -> int:
        """How many to keep, in all."""
        most = self.held
        if self.wanted:
            most = min(most, self.share)
        if now >= self._peak_since + IDLE_S:
            most = min(most, self._peak)
            self._peak, self._peak_since, self._due = inside, now, 0
        return max(inside + self._due, most)

    def ask(self, inside: int, most: int) -> None:
        """It is being asked: until it answers nobody enters beyond those who are inside."""
        self._allowed, self._due, self.called = inside, 0, False
        self.held = max(self.held, most)  # as far as is known, should no answer come

    def answered(
        self, answer: Held, inside: int, asked_at: float, now: float, *, granted: bool | None
    ) -> None:
        """How it stands from now on; a refusal is good until it may ask again.

        One more was `granted` or not; None where none was asked for.
        """
        refused = granted is False
        self.held = self._allowed = answer.held
        self.share, self.wanted, self.waits = answer.share, answer.wanted, refused
        self._due = int(granted is True)
        if refused and self.wanted:
            self._lower(inside)
        self._good_until = asked_at + answer.good_s
        self._dry_until = now + answer.wait_s if refused else -math.inf
        if self._peak_since == -math.inf:
            self._peak_since = now

    def hear_wanted(self, inside: int, share: int) -> None:
        """Another kernel waits."""
        self.wanted, self.share = True, share
        self._lower(inside)

    def hear_freed(self) -> None:
        """Another kernel has given some back."""
        self.called = self.called or self.waits
