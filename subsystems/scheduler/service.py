"""The scheduler: the one place where calls wait, and who goes next is decided."""

import math
from collections import Counter
from typing import Literal

from ...kernel.call import Call
from ...kernel.errors import NotNow
from ...kernel.events import ServiceSwapped
from ...kernel.message import R
from ...kernel.service import Proceed, Service, handles, subscribes
from ..breaker.messages import Closed, HalfOpened, Opened
from ..limiter.messages import Dried, Refilled
from ..llm.messages import Describe
from .lane import Lane, Ticket
from .messages import Decided, LaneState, ReadLanes, Turn, Waiting
from .policies import POLICIES


class Scheduler(Service, name="scheduler", needs=[Describe]):
    """A guard that gives each model's slots out, one turn each.

    `slots` overrides, per address, how many calls are served at once; what is no model and
    stands not there has no bound. Work conserving: a free slot and a waiting call that may go
    never meet without being joined. A call that a guard below does not admit now (NotNow) gives
    its slot back and keeps its place in line; a dry key or an open circuit is given no slots.
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
        ticket, until = Ticket(call, lane.made, lane.time()), -math.inf
        while True:
            await self._acquire(lane, ticket, until)
            try:
                reply = await proceed(call)
                lane.passed(ticket)
                return reply
            except NotNow as later:
                if not call.patient:
                    raise
                until = later.until
                lane.turn_away(ticket, later)
            finally:
                lane.release(ticket)

    async def _open_lane(self, address: str) -> Lane:
        slots = await self._slots_of(address)
        return self._lanes.setdefault(address, Lane(address, slots, self._policy, self.bus.time))

    async def _slots_of(self, address: str) -> float:
        if address in self._slots:
            return self._slots[address]
        if address not in self.addresses(Describe):
            return math.inf
        return (await self.request(Describe(), to=address)).slots

    async def _acquire(self, lane: Lane, ticket: Ticket, until: float) -> None:
        """Have a slot, not before `until`. Raises NotNow where an impatient call would rest."""
        if until == -math.inf and lane.take(ticket):
            return
        granted = lane.wait(ticket, until)
        try:
            if not granted.done():
                await self.publish(
                    Waiting(
                        address=lane.address,
                        call=ticket.call.span_id,
                        origin=str(ticket.origin),
                        depth=lane.depth,
                    )
                )
            await granted
        except BaseException:
            if granted.done() and not granted.cancelled() and granted.exception() is None:
                lane.release(ticket)
            else:
                lane.forget(ticket)
            raise
        await self._tell(lane, ticket)

    async def _tell(self, lane: Lane, ticket: Ticket) -> None:
        if not self.bus.hears(Decided):
            return
        now = lane.time()
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
        return tuple(_state(lane) for lane in self._lanes.values() if lane.slots < math.inf)

    @subscribes(ServiceSwapped)
    async def refresh(self, event: ServiceSwapped) -> None:
        """A model was replaced; its successor may serve more or fewer at once."""
        lane = self._lanes.get(event.service)
        if lane is not None:
            lane.slots = await self._slots_of(event.service)
            lane.give()

    # What guards below say

    def _lanes_of(self, addresses: tuple[str, ...]) -> list[Lane]:
        return [self._lanes[address] for address in addresses if address in self._lanes]

    @subscribes(Dried)
    async def on_dried(self, event: Dried) -> None:
        """Of other lanes' keys too: this one's has been closed by the call that found it dry."""
        for lane in self._lanes_of(event.addresses):
            lane.close(event.until, every_s=event.every_s)

    @subscribes(Refilled)
    async def on_refilled(self, event: Refilled) -> None:
        for lane in self._lanes_of(event.addresses):
            lane.admit(event.places)
            lane.wake(event.bucket, event.places)

    @subscribes(Opened)
    async def on_opened(self, event: Opened) -> None:
        for lane in self._lanes_of(event.addresses):
            lane.close(event.until)
            lane.try_out(event.probes)

    @subscribes(HalfOpened)
    async def on_half_opened(self, event: HalfOpened) -> None:
        for lane in self._lanes_of(event.addresses):
            lane.try_out(event.probes)

    @subscribes(Closed)
    async def on_closed(self, event: Closed) -> None:
        for lane in self._lanes_of(event.addresses):
            lane.open()
        for lane in self._lanes.values():  # a tool's circuit closes no lane
            lane.wake(event.circuit)

    def hand_over(self, successor: "Scheduler") -> None:
        """The lanes go over whole: who waits goes on waiting, under the new policy."""
        successor._lanes = self._lanes
        for lane in self._lanes.values():
            lane.change(successor._policy, successor._slots.get(lane.address, lane.slots))


def _state(lane: Lane) -> LaneState:
    classes = Counter(ticket.origin.process_class for ticket in lane.waiting)
    slots = int(lane.slots)
    return LaneState(address=lane.address, slots=slots, busy=lane.busy, waiting=dict(classes))


def _shown(ticket: Ticket, lane: Lane, now: float) -> Turn:
    return Turn(
        call=ticket.call.span_id,
        origin=str(ticket.origin),
        key=(*lane.policy.rank(lane.policy.bucket(ticket.origin), now), ticket.number),
        waited_s=now - ticket.since,
    )
