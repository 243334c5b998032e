"""The scheduler: the one place where calls wait, and who goes next is decided."""

import asyncio
from collections import Counter, deque
from typing import Any, Literal

import anyio

from ...kernel.call import Call
from ...kernel.errors import NotNow
from ...kernel.events import ServiceSwapped
from ...kernel.message import R
from ...kernel.service import Proceed, Service, handles, subscribes
from ..llm.messages import Describe
from ..processes.messages import Origin
from .messages import Decided, LaneState, ReadLanes, Turn, Waiting
from .policies import POLICIES, Bucket, Policy

ANYONE = Origin()
"""Calls from outside of any process count as class normal, priority 50."""


class _Ticket:
    """A call that wants a slot."""

    __slots__ = ("call", "granted", "number", "since")

    def __init__(self, call: Call[Any], number: int, since: float) -> None:
        self.call, self.number, self.since = call, number, since
        self.granted: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    @property
    def origin(self) -> Origin:
        return self.call.origin if isinstance(self.call.origin, Origin) else ANYONE


class Lane:
    """The slots of one address, and the queues in front of them.

    A swapped scheduler hands its lanes over, so calls in flight give back to the right one.
    """

    def __init__(self, address: str, slots: int, policy: Policy) -> None:
        self.address, self.slots, self.policy = address, slots, policy
        self.busy = 0
        self.queues: dict[Bucket, deque[_Ticket]] = {}
        self.made = 0

    @property
    def depth(self) -> int:
        return sum(map(len, self.queues.values()))

    def join(self, ticket: _Ticket) -> None:
        self.queues.setdefault(self.policy.bucket(ticket.origin), deque()).append(ticket)

    def forget(self, ticket: _Ticket) -> None:
        """Take a ticket out whose caller gave up."""
        bucket = self.policy.bucket(ticket.origin)
        queue = self.queues.get(bucket)
        if queue is not None and ticket in queue:
            queue.remove(ticket)
            if not queue:
                del self.queues[bucket]

    def pick(self, now: float) -> tuple[Bucket, Bucket | None] | None:
        """The bucket whose head goes next, and the runner-up; a pure look at the heads."""
        heads = sorted(
            self.queues, key=lambda b: (self.policy.rank(b, now), self.queues[b][0].number)
        )[:2]
        return (heads[0], heads[1] if len(heads) > 1 else None) if heads else None

    def pop(self, bucket: Bucket) -> _Ticket:
        ticket = self.queues[bucket].popleft()
        if not self.queues[bucket]:
            del self.queues[bucket]
        return ticket

    def change(self, policy: Policy, slots: int) -> None:
        """Sort everyone anew under another policy, first come first."""
        waiting = sorted((t for q in self.queues.values() for t in q), key=lambda t: t.number)
        self.policy, self.slots, self.queues = policy, slots, {}
        for ticket in waiting:
            self.join(ticket)


class Scheduler(Service, name="scheduler", needs=[Describe]):
    """A guard that gives each model's slots out, one turn each.

    `slots` overrides, per address, how many calls a model serves at once.
    Work conserving: a free slot and a waiting call never meet without being joined.
    """

    def __init__(
        self,
        policy: Literal["fifo", "priority"] = "priority",
        slots: dict[str, int] | None = None,
    ) -> None:
        if any(number < 1 for number in (slots or {}).values()):
            raise ValueError("slots must be at least 1; a model without slots serves nobody")
        self._policy = POLICIES[policy]()
        self._slots = slots or {}
        self._lanes: dict[str, Lane] = {}

    async def guard(self, call: Call[R], proceed: Proceed[R]) -> R:
        lane = self._lanes.get(call.address) or await self._open_lane(call.address)
        lane.made += 1
        number, since = lane.made, self.bus.time()
        while True:
            await self._acquire(lane, call, number, since)
            try:
                return await proceed(call)
            except NotNow as later:
                if not call.patient:
                    raise
                until, sooner = later.until, later.sooner or anyio.Event()
            finally:
                self._release(lane)
            with anyio.move_on_after(until - self.bus.time()):
                await sooner.wait()  # without a slot; its place in line is kept

    async def _open_lane(self, address: str) -> Lane:
        slots = self._slots.get(address)
        if slots is None:
            slots = (await self.request(Describe(), to=address)).slots
        return self._lanes.setdefault(address, Lane(address, slots, self._policy))

    async def _acquire(self, lane: Lane, call: Call[Any], number: int, since: float) -> None:
        if lane.busy < lane.slots and not lane.queues:
            lane.busy += 1
            return
        ticket = _Ticket(call, number, since)
        lane.join(ticket)
        self._give(lane)
        try:
            if not ticket.granted.done():
                await self.publish(
                    Waiting(
                        address=lane.address,
                        call=call.span_id,
                        origin=str(ticket.origin),
                        depth=lane.depth,
                    )
                )
                await ticket.granted
        except BaseException:
            if ticket.granted.done() and not ticket.granted.cancelled():
                self._release(lane)
            else:
                lane.forget(ticket)
            raise
        await self._tell(lane, ticket)

    def _release(self, lane: Lane) -> None:
        lane.busy -= 1
        self._give(lane)

    def _give(self, lane: Lane) -> None:
        """Give free slots to those whose turn it is."""
        while lane.busy < lane.slots:
            picked = lane.pick(self.bus.time())
            if picked is None:
                return
            ticket = lane.pop(picked[0])
            if not ticket.granted.done():  # else its caller has just given up
                lane.busy += 1
                ticket.granted.set_result(None)

    async def _tell(self, lane: Lane, ticket: _Ticket) -> None:
        now = self.bus.time()
        following = lane.pick(now)
        runner_up = following and lane.queues[following[0]][0]
        await self.publish(
            Decided(
                address=lane.address,
                chosen=_shown(ticket, lane, now),
                runner_up=_shown(runner_up, lane, now) if runner_up else None,
            )
        )

    @handles(ReadLanes)
    async def read_lanes(self, request: ReadLanes) -> tuple[LaneState, ...]:
        return tuple(_state(lane) for lane in self._lanes.values())

    @subscribes(ServiceSwapped)
    async def refresh(self, event: ServiceSwapped) -> None:
        """A model was replaced; its successor may serve more or fewer at once."""
        lane = self._lanes.get(event.service)
        if lane is not None and event.service not in self._slots:
            lane.slots = (await self.request(Describe(), to=event.service)).slots
            self._give(lane)

    def hand_over(self, successor: "Scheduler") -> None:
        """The lanes go over whole: who waits goes on waiting, under the new policy."""
        successor._lanes = self._lanes
        for lane in self._lanes.values():
            slots = successor._slots.get(lane.address, lane.slots)
            lane.change(successor._policy, slots)
            successor._give(lane)


def _state(lane: Lane) -> LaneState:
    classes = Counter(t.origin.process_class for queue in lane.queues.values() for t in queue)
    return LaneState(address=lane.address, slots=lane.slots, busy=lane.busy, waiting=dict(classes))


def _shown(ticket: _Ticket, lane: Lane, now: float) -> Turn:
    return Turn(
        call=ticket.call.span_id,
        origin=str(ticket.origin),
        key=(*lane.policy.rank(lane.policy.bucket(ticket.origin), now), ticket.number),
        waited_s=now - ticket.since,
    )
