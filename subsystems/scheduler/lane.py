"""A lane: the slots of one address, who waits for them, and when none are given.

A lane is closed while its key is dry or its circuit open; those who told it so say until when,
how fast it may go on from there, and how many it may try. Between two changes nothing looks:
one timer stands at the next moment at which somebody could go.
"""

import asyncio
import heapq
import math
from collections import deque
from collections.abc import Callable
from typing import Any

from ...kernel.call import Call
from ...kernel.errors import NotNow
from ..breaker.messages import CircuitOpen
from ..limiter.messages import Dry
from ..processes.messages import Origin
from .policies import Bucket, Policy

ANYONE = Origin()
"""Calls from outside of any process count as class normal, priority 50."""

LEAST_REST_S = 0.001
"""A call that was not admitted is not asked again sooner, whatever it was told."""

PACED = 64
"""So many slots are given one by one after a lane was dry; who then still is, says so anew."""


class Ticket:
    """A call that wants a slot; asked again, it keeps its number, and so its place in line."""

    __slots__ = ("call", "granted", "is_trial", "number", "since", "turned_away_by")

    def __init__(self, call: Call[Any], number: int, since: float) -> None:
        self.call, self.number, self.since = call, number, since
        self.granted: asyncio.Future[None] | None = None
        self.is_trial = False
        self.turned_away_by = ""  # a bucket or a circuit

    @property
    def origin(self) -> Origin:
        return self.call.origin if isinstance(self.call.origin, Origin) else ANYONE


class Lane:
    """The slots of one address, and the queues in front of them.

    A swapped scheduler hands its lanes over, so calls in flight give back to the right one.
    `resting` are those who were not admitted, each until its own moment.
    """

    def __init__(
        self, address: str, slots: float, policy: Policy, time: Callable[[], float]
    ) -> None:
        self.address, self.slots, self.policy, self.time = address, slots, policy, time
        self.busy = self.made = 0
        self.queues: dict[Bucket, deque[Ticket]] = {}
        self.resting: list[tuple[float, int, Ticket]] = []
        self.opens_at = -math.inf
        self._every_s, self._paced, self._places = 0.0, 0, 0
        self._trials, self._most_trials = 0, math.inf
        self._timer: asyncio.TimerHandle | None = None

    @property
    def depth(self) -> int:
        return sum(map(len, self.queues.values())) + len(self.resting)

    @property
    def waiting(self) -> list[Ticket]:
        return [t for q in self.queues.values() for t in q] + [t for _, _, t in self.resting]

    # Who waits

    def join(self, ticket: Ticket) -> None:
        """Stand in line, at the place of its number."""
        queue = self.queues.setdefault(self.policy.bucket(ticket.origin), deque())
        if not queue or queue[-1].number < ticket.number:
            queue.append(ticket)
            return
        behind = (place for place, other in enumerate(queue) if other.number > ticket.number)
        queue.insert(next(behind), ticket)

    def forget(self, ticket: Ticket) -> None:
        """Take a ticket out whose caller gave up."""
        bucket = self.policy.bucket(ticket.origin)
        queue = self.queues.get(bucket)
        if queue is not None and ticket in queue:
            queue.remove(ticket)
            if not queue:
                del self.queues[bucket]
        else:
            self.resting = [one for one in self.resting if one[2] is not ticket]
            heapq.heapify(self.resting)
        self._set_timer()

    def pick(self, now: float) -> tuple[Bucket, Bucket | None] | None:
        """The bucket whose head goes next, and the runner-up; a pure look at the heads."""
        heads = sorted(
            self.queues, key=lambda b: (self.policy.rank(b, now), self.queues[b][0].number)
        )[:2]
        return (heads[0], heads[1] if len(heads) > 1 else None) if heads else None

    def pop(self, bucket: Bucket) -> Ticket:
        ticket = self.queues[bucket].popleft()
        if not self.queues[bucket]:
            del self.queues[bucket]
        return ticket

    def change(self, policy: Policy, slots: float) -> None:
        """Sort everyone anew under another policy, first come first."""
        waiting = sorted((t for q in self.queues.values() for t in q), key=lambda t: t.number)
        self.policy, self.slots, self.queues = policy, slots, {}
        for ticket in waiting:
            self.join(ticket)
        self.give()

    # Slots

    def take(self, ticket: Ticket) -> bool:
        """Have a slot at once, if nobody waits and one is to be had."""
        if self.queues or self.resting or not self._has_slot(self.time()):
            return False
        self._grant(ticket)
        return True

    def wait(self, ticket: Ticket, until: float = -math.inf) -> "asyncio.Future[None]":
        """Stand in line for a slot, from `until` on; the future is done when it is given."""
        ticket.granted = granted = asyncio.get_running_loop().create_future()
        if not ticket.call.patient and self.opens_at > self.time():
            granted.set_exception(self._closed())
            return granted
        if until == -math.inf:
            self.join(ticket)
        else:
            until = max(until, self.time() + LEAST_REST_S)
            heapq.heappush(self.resting, (until, ticket.number, ticket))
        self.give()
        return granted

    def release(self, ticket: Ticket) -> None:
        """A slot is free again."""
        self.busy -= 1
        self._trials -= ticket.is_trial
        if self.queues or self.resting:
            self.give()

    def give(self) -> None:
        """Give free slots to those whose turn it is, and set the timer for the rest."""
        now = self.time()
        while self.resting and self.resting[0][0] <= now:
            self.join(heapq.heappop(self.resting)[2])
        while self._has_slot(now) and (picked := self.pick(now)) is not None:
            ticket = self.pop(picked[0])
            assert ticket.granted is not None
            if not ticket.granted.done():  # else its caller has just given up
                self._grant(ticket)
                ticket.granted.set_result(None)
        self._set_timer()

    def _has_room(self) -> bool:
        return self.busy < self.slots and self._trials < self._most_trials

    def _has_slot(self, now: float) -> bool:
        return self._has_room() and (self.opens_at <= now or self._places > 0)

    def _grant(self, ticket: Ticket) -> None:
        self.busy += 1
        ticket.is_trial = self._most_trials < math.inf
        self._trials += ticket.is_trial
        if self._places:
            self._places -= 1
        elif self._paced:  # until nobody waits: who comes then may find more than one place
            self._paced = self._paced - 1 if self.queues or self.resting else 0
            self.opens_at = max(self.opens_at, self.time() - self._every_s) + self._every_s

    def _set_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        due = self.resting[0][0] if self.resting else math.inf
        if self.queues and self._has_room():
            due = min(due, self.opens_at)
        if due < math.inf:
            self._timer = asyncio.get_running_loop().call_at(due, self.give)

    # Closed

    def close(self, until: float, *, every_s: float = 0.0) -> None:
        """Give none before then, and from then on one each `every_s`."""
        self.opens_at, self._places = max(self.opens_at, until), 0
        self._every_s, self._paced = every_s, PACED if every_s else 0
        for ticket in [t for t in self.waiting if not t.call.patient]:
            self.forget(ticket)
            if ticket.granted is not None and not ticket.granted.done():
                ticket.granted.set_exception(self._closed())
        self._set_timer()

    def _closed(self) -> NotNow:
        """What an impatient call is told, for it has somewhere else to go."""
        return NotNow(self.opens_at, f"{self.address} gives no slots before")

    def turn_away(self, ticket: Ticket, later: NotNow) -> None:
        """This call was not admitted; where no other would be either, none is tried."""
        match later:
            case Dry():
                ticket.turned_away_by = later.bucket
                if later.whole:
                    self.close(later.until, every_s=later.every_s)
            case CircuitOpen():
                ticket.turned_away_by = later.circuit
            case _:
                ticket.turned_away_by = ""
        if later.sooner is not None:
            later.sooner.add_done_callback(lambda _: self._ask_again(ticket))

    def _ask_again(self, ticket: Ticket) -> None:
        """It may be admitted before its moment."""
        self._wake([one for one in self.resting if one[2] is ticket])
        self.give()

    def admit(self, places: int) -> None:
        """So many may go although the lane is closed."""
        if self.opens_at > self.time():
            self._places += places
            self.give()

    def wake(self, name: str, places: int | None = None) -> None:
        """Ask so many (or all) of those again whom this bucket or circuit has turned away."""
        rested = [one for one in self.resting if one[2].turned_away_by == name]
        if rested:
            rested.sort(key=lambda one: (self._rank(one[2]), one[1]))
            self._wake(rested[:places])
            self.give()

    def open(self) -> None:
        """Give again at once; who rests may be admitted now, and is asked."""
        self.opens_at, self._paced, self._places = -math.inf, 0, 0
        self._most_trials = math.inf
        self._wake(sorted(self.resting))
        self.give()

    def try_out(self, most: float) -> None:
        """Have no more than so many go at once of those who begin from now on."""
        self._most_trials = most
        self.give()

    def passed(self, ticket: Ticket) -> None:
        """A call came back well: what was tried out works."""
        if ticket.is_trial and self._most_trials < math.inf:
            self._most_trials = math.inf
            self.give()

    def _rank(self, ticket: Ticket) -> tuple[int, ...]:
        return self.policy.rank(self.policy.bucket(ticket.origin), self.time())

    def _wake(self, rested: list[tuple[float, int, Ticket]]) -> None:
        numbers = {number for _, number, _ in rested}
        self.resting = [one for one in self.resting if one[1] not in numbers]
        heapq.heapify(self.resting)
        for _, _, ticket in rested:
            self.join(ticket)
