"""Who leaves memory though nobody sends a signal: who waits for long, and all at the end."""

import asyncio
from typing import TYPE_CHECKING

import anyio

from ..storage.messages import State
from .live import LAST_WORDS_S

if TYPE_CHECKING:
    from .service import Processes


async def park_idle(service: "Processes", after_s: float) -> None:
    """Park what has waited for long. One sweep looks at all, so none needs a timer.

    Where nothing is adopted nothing would bring it back.
    """
    while True:
        await anyio.sleep(max(after_s / 4, 0.01))
        limit = service.bus.time() - after_s
        for live in tuple(service.live.values()):
            if service.adoption.adopts and live.idle_since(limit) and not live.sealed:
                live.cut("parked", sealed=True)


async def suspend_all(service: "Processes", verdict: State, drain_s: float) -> None:
    """Let those at work finish for a while; whoever waits, now or then, leaves at once."""
    service.ending = True
    for live in tuple(service.live.values()):
        live.leave_with(verdict)
    await _until_gone(service, drain_s)
    for live in tuple(service.live.values()):
        if not live.sealed:  # else it is leaving, and writes down what it waits for
            live.cut(verdict, sealed=True)
    await _until_gone(service, LAST_WORDS_S)


async def _until_gone(service: "Processes", seconds: float) -> None:
    tasks = [live.task for live in service.live.values() if live.task is not None]
    if tasks:
        await asyncio.wait(tasks, timeout=seconds)
