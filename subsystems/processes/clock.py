"""Time and chance, which are the same again on resume."""

import random
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from . import waits
from .doubt import Outcome
from .messages import Origin

if TYPE_CHECKING:
    from .live import Live
    from .service import Processes
    from .transcript import Transcript


async def sleep(service: "Processes", live: "Live", said: "Transcript", seconds: float) -> None:
    """Wait for so long."""
    if seconds > 0:
        work = partial(waits.time, service, live, said, lambda: said.wall() + seconds)
        await said.syscall("sleep", seconds, work)


async def sleep_until(
    service: "Processes", live: "Live", said: "Transcript", moment: float
) -> None:
    """Wait until then, in seconds since 1970."""
    work = partial(waits.time, service, live, said, lambda: moment)
    await said.syscall("sleep_until", moment, work)


async def cron(
    service: "Processes", live: "Live", said: "Transcript", expression: str, zone: str
) -> float:
    """Wait for the next time that the expression names, later than the last one."""
    from .schedule import Schedule  # most programs keep no calendar

    occurs = Schedule(expression, zone)

    def make() -> float:
        return occurs.after(max(said.wall(), live.record.clock))

    work = partial(waits.time, service, live, said, make)
    moment = float(await said.syscall("cron", (expression, zone), work))
    live.record = replace(live.record, clock=moment)  # no time comes twice
    return moment


async def now(said: "Transcript") -> float:
    """Seconds since 1970."""

    async def work(origin: Origin) -> Outcome:
        return said.wall(), ()

    return float(await said.syscall("now", None, work))


async def chance(said: "Transcript") -> float:
    """A number in [0, 1)."""

    async def work(origin: Origin) -> Outcome:
        return random.random(), ()

    return float(await said.syscall("random", None, work))
