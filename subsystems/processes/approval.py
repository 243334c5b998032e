"""Calls that a human must approve: their process asks, and waits for the answer outside of memory."""

from typing import TYPE_CHECKING

from ...kernel.errors import Refused
from ...kernel.secrets import redacted
from ..policy.messages import ALWAYS, APPROVE, DENY, GRANTS, CallRefused, NeedsApproval
from ..storage.messages import CloseQuestion, PutRecord, Question, Write
from . import waits
from .doubt import Outcome, Work
from .messages import Ask, Origin

if TYPE_CHECKING:
    from .live import Live
    from .service import Processes

CHOICES = (APPROVE, DENY, ALWAYS)


def within_policy(service: "Processes", live: "Live", work: Work) -> Work:
    """The same work; what of it needs approval is asked for, and then made or refused."""

    async def approved(origin: Origin) -> Outcome:
        while True:
            try:
                return await work(origin)
            except NeedsApproval as needed:
                if needed.mark in origin.approved:
                    raise
                await _approve(service, live, origin, needed)
                origin = origin._replace(approved=(*origin.approved, needed.mark))

    return approved


async def _approve(
    service: "Processes", live: "Live", origin: Origin, needed: NeedsApproval
) -> None:
    """Ask; the same place finds the same question, also after a crash. Raises Refused."""
    asking = await _asking(service, origin, needed)
    try:
        answer = await waits.answer(service, live, asking)
    except TimeoutError:
        why = f"nobody has approved it within {needed.within_s:,.0f} s"
        raise await _refused(service, origin, needed, why) from None
    (question,) = await service.questions(asking)
    if not question.closed:
        await service.commit(live.record, *_answered(answer, question, needed))
    if answer == DENY:
        raise await _refused(service, origin, needed, "a human has refused it")


async def _asking(service: "Processes", origin: Origin, needed: NeedsApproval) -> Ask:
    """The question of this call, with the deadline of its first time; not one that was withdrawn."""
    now, number = service.bus.wall(), 0
    while True:
        at = origin._replace(key=f"{origin.key}?{needed.mark}.{number}")
        ask = waits.asking(at, redacted(needed.text), CHOICES, now + needed.within_s)
        found = await service.questions(ask)
        if not found:
            return ask
        ask = ask.model_copy(update={"deadline": found[0].deadline})
        if not found[0].closed or found[0].answer is not None or (ask.deadline or now) <= now:
            return ask
        number += 1


def _answered(answer: str, question: Question, needed: NeedsApproval) -> tuple[Write, ...]:
    """What is written down of the answer, in one commit."""
    decision = f"{answer}: {needed.what} ({needed.rule})"
    close = CloseQuestion(key=question.key, decision=redacted(decision))
    if answer != ALWAYS:
        return (close,)
    body = {**needed.grant, "number": question.number}
    return close, PutRecord(collection=GRANTS, key=str(question.number), body=body)


async def _refused(
    service: "Processes", origin: Origin, needed: NeedsApproval, why: str
) -> Refused:
    """Tell it, and give the error that the program and its model read."""
    rule = f"{why}: {needed.rule}"
    await service.publish(CallRefused(who=str(origin), what=needed.what, rule=rule))
    return Refused(f"{needed.what} is not done: {why} ({needed.rule})", rule=rule)
