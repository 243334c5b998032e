"""Places that kernels share, in this process's memory."""

import math
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import anyio

from ...subsystems.storage import driver as d


@dataclass(slots=True)
class _Place:
    """Of one holder; it waits since a moment, until another."""

    turn: int = 0
    held: int = 0
    places: int = 0
    since: float = math.inf
    until: float = -math.inf

    def waits(self, now: float) -> bool:
        return self.until > now


class Seats:
    """By name and holder. No lease runs out by itself here: a kernel lives as long as its storage."""

    def __init__(self) -> None:
        self._places: dict[str, dict[str, _Place]] = {}
        self._told: list[d.TellSeats] = []

    @contextmanager
    def heard_by(self, tell: d.TellSeats) -> Iterator[None]:
        self._told.append(tell)
        try:
            yield
        finally:
            self._told.remove(tell)

    def lapse(self) -> None:
        """Nobody holds anything any more."""
        self._places.clear()

    def hold(self, hold: d.HoldSeats) -> d.Held:
        now, holders = anyio.current_time(), self._places.setdefault(hold.name, {})
        mine = holders.get(hold.holder) or _Place()
        if mine.turn >= hold.turn:
            return d.Held(0, wait_s=d.SEATS_AGAIN_S)
        others = [place for holder, place in holders.items() if holder != hold.holder]
        since, before = mine.since if mine.waits(now) else now, mine.held
        held = _granted(hold, others, since, now)
        waits = hold.wants and held <= hold.used
        until = now + d.SEATS_WAIT_S if waits else -math.inf
        holders[hold.holder] = _Place(hold.turn, held, hold.places, since, until)
        if not held and not waits:
            del holders[hold.holder]
        wanted, share = any(place.waits(now) for place in others), _share(hold, others, now)
        self._call(hold, wanted=waits, freed=wanted and held < before, share=share)
        return d.Held(held, math.inf, d.SEATS_AGAIN_S, share, wanted)

    def _call(self, hold: d.HoldSeats, *, wanted: bool, freed: bool, share: int) -> None:
        for tell in self._told if wanted or freed else ():
            tell(
                d.SeatsCalled(
                    name=hold.name, holder=hold.holder, wanted=wanted, freed=freed, share=share
                )
            )

    def read(self) -> tuple[d.SharedSeats, ...]:
        now = anyio.current_time()
        found = (
            d.SharedSeats(
                name=name,
                places=max(place.places for place in holders.values()),
                held=sum(place.held for place in holders.values()),
                waiting=sum(place.waits(now) for place in holders.values()),
            )
            for name, holders in sorted(self._places.items())
            if holders
        )
        return tuple(seats for seats in found if seats.held or seats.waiting)


def _granted(hold: d.HoldSeats, others: Iterable[_Place], since: float, now: float) -> int:
    """Whoever has waited longer has one place left for it; a block is shared while others wait."""
    room = max(hold.places - sum(place.held for place in others), 0)
    if not hold.wants:
        return min(hold.most, room)
    waiting = [place for place in others if place.waits(now)]
    free = room - sum(place.since < since for place in waiting)
    if free <= hold.used:
        return min(hold.used, room)
    most = max(hold.used + 1, min(hold.most, _share(hold, others, now))) if waiting else hold.most
    return min(free, most)


def _share(hold: d.HoldSeats, others: Iterable[_Place], now: float) -> int:
    return hold.places // (1 + sum(place.held > 0 or place.waits(now) for place in others))
