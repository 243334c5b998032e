"""Calls that do not fit a quota: their process stops, or a human is asked to raise it."""

import math
from typing import TYPE_CHECKING

from ..quota.messages import COUNTED, ENDS_AT, NANO, OverBudget, amount
from ..storage.messages import CloseQuestion, RaiseCeiling
from . import waits
from .doubt import Outcome, Work
from .messages import Ask, Origin
from .syscall import Suspended

if TYPE_CHECKING:
    from .live import Live
    from .service import Processes

STOP = "stop"
UNITS = {ENDS_AT: "in seconds", **{what: what.replace("_", " ") for what in COUNTED}}


def within_quota(service: "Processes", live: "Live", work: Work) -> Work:
    """The same work; where a quota is in its way, what that quota says is done."""

    async def bounded(origin: Origin) -> Outcome:
        while True:
            try:
                return await work(origin)
            except OverBudget as crossed:
                if crossed.action != "ask" or not await _is_raised(service, live, origin, crossed):
                    live.seal("stopped", crossed)
                    raise Suspended from crossed

    return bounded


async def _is_raised(
    service: "Processes", live: "Live", origin: Origin, crossed: OverBudget
) -> bool:
    """Ask a human by how much; the answer and the new ceiling are one commit."""
    asking = await _open(service, origin, _question(crossed))
    answer = await waits.answer(service, live, asking)
    close = CloseQuestion(key=asking.key)
    by = _read(answer, crossed.what)
    if by is None:
        await service.commit(live.record, close)
        return answer.strip() != STOP
    lift = RaiseCeiling(scope=crossed.scope, what=crossed.what, by=by)
    await service.commit(live.record, lift, close)
    return True


async def _open(service: "Processes", origin: Origin, text: str) -> Ask:
    """The first question at this place that is not closed: a call may be in the way again."""
    number = 0
    while True:
        key = f"{origin.key}?{number}"
        asking = waits.asking(origin._replace(key=key), text, (), None)
        found = await service.questions(asking)
        if not (found and found[0].closed):
            return asking
        number += 1


def _question(crossed: OverBudget) -> str:
    unit = UNITS.get(crossed.what, crossed.what)
    least = amount(crossed.what, max(0, crossed.needed - crossed.left))
    return f"{crossed}. Raise the ceiling by how much ({unit}, {least} at least), or {STOP!r}?"


def _read(answer: str, what: str) -> int | None:
    """By how much, as the account counts it; None where that is no number."""
    try:
        number = float(answer.replace(",", "").replace("_", ""))
    except ValueError:
        return None
    if not (0 < number < math.inf):
        return None
    return round(number if what in COUNTED or what == ENDS_AT else number * NANO)
