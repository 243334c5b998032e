"""Rates that kernels share, in this process's memory."""

import anyio

from ...subsystems.storage import driver as d

TOLERANCE = 1e-6


class Rates:
    """Each full at a moment; drawing puts that off. All kernels here have one clock."""

    def __init__(self) -> None:
        self._full_at: dict[str, float] = {}
        self._drawn: dict[str, d.DrawRate] = {}

    def draw(self, draw: d.DrawRate) -> d.Drawn:
        now = anyio.current_time()
        since = max(self._full_at.get(draw.name, now), now) + draw.owed * draw.each_s
        since = max(since, now)  # what comes back makes it full at most
        room = draw.burst - (since - now) / draw.each_s
        taken = min(draw.most, room) if room + TOLERANCE >= draw.least else 0.0
        full_at = self._full_at[draw.name] = since + taken * draw.each_s
        self._drawn[draw.name] = draw
        return d.Drawn(taken, max(full_at - now + (draw.least - draw.burst) * draw.each_s, 0.0))

    def read(self) -> tuple[d.SharedRate, ...]:
        now = anyio.current_time()
        return tuple(
            d.SharedRate(
                name=name,
                each_s=drawn.each_s,
                burst=drawn.burst,
                left=drawn.burst - (self._full_at[name] - now) / drawn.each_s,
            )
            for name, drawn in sorted(self._drawn.items())
            if self._full_at[name] > now
        )
