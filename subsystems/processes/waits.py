"""What a process may wait for: a letter, an answer, the end of another process, a time.

Each may be waited for outside of memory: who comes back looks first, and then waits on.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

import anyio

from ..storage.messages import CloseQuestion, Pid, Question, TakeLetter
from . import exits
from .doubt import Outcome
from .live import FOR_LETTERS, LAST_WORDS_S, Live, Waiting
from .messages import Ask, Origin, Withdraw

if TYPE_CHECKING:
    from .service import Processes
    from .transcript import Transcript

FOR_AN_ANSWER = Waiting("ask")


async def letter(service: "Processes", live: Live, origin: Origin) -> Outcome:
    """The next one that no other branch takes. In one frame: thousands wait here."""
    while True:
        heard = live.rung
        found = await service.mail.next(live, origin.key)
        if found is not None:
            return found.body, (TakeLetter(number=found.number),)
        if live.rung != heard:
            continue  # one has come while we looked
        try:
            live.block(FOR_LETTERS)
            await live.bell()
        finally:
            live.unblock(FOR_LETTERS)


async def _rung(live: Live) -> None:
    await live.bell()


async def end(service: "Processes", live: Live, pid: Pid, origin: Origin) -> Outcome:
    """Of another process, in whichever kernel."""
    return await live.wait(Waiting("wait", child=pid), exits.wait(service, pid)), ()


async def time(
    service: "Processes",
    live: Live,
    said: "Transcript",
    make: Callable[[], float],
    origin: Origin,
) -> Outcome:
    """The moment that is made up the first time, by the wall clock, which may be set."""
    moment = await said.promise(origin, make)
    await live.wait(Waiting("sleep", until=moment), _until(service, moment))
    return moment, ()


async def _until(service: "Processes", moment: float) -> None:
    while (left := moment - service.bus.wall()) > 0:
        await anyio.sleep(left)


async def human(
    service: "Processes",
    live: Live,
    said: "Transcript",
    text: str,
    choices: tuple[str, ...],
    seconds: float | None,
    origin: Origin,
) -> Outcome:
    """Somebody's answer, within so many seconds."""
    deadline = None
    if seconds is not None:
        deadline = await said.promise(origin, lambda: said.wall() + seconds)
    answered = await answer(service, live, asking(origin, text, choices, deadline))
    return answered, (CloseQuestion(key=origin.key),)


def asking(origin: Origin, text: str, choices: tuple[str, ...], deadline: float | None) -> Ask:
    """The question of a syscall."""
    assert origin.pid is not None
    return Ask(
        pid=origin.pid,
        epoch=origin.epoch,
        key=origin.key,
        text=text,
        choices=choices,
        deadline=deadline,
    )


async def answer(service: "Processes", live: Live, ask: Ask) -> str:
    """A human's, until the deadline. A question that nobody waits for any more is withdrawn."""
    withdraw = Withdraw(pid=ask.pid, epoch=ask.epoch, key=ask.key)
    left = None if ask.deadline is None else ask.deadline - service.bus.wall()
    try:
        with anyio.move_on_after(left):
            return await _answered(service, live, ask)
    except anyio.get_cancelled_exc_class():
        if not live.sealed:
            with anyio.move_on_after(LAST_WORDS_S, shield=True):
                await service.request(withdraw)
        raise
    question = await service.request(withdraw)
    if question.answer is not None:  # it came at the last moment
        return question.answer
    raise TimeoutError(f"nobody has answered {ask.text!r} in time")


async def answer_within(service: "Processes", live: Live, ask: Ask) -> str:
    """A human's, for a call that is under way: it holds the process in memory."""
    try:
        question: Question = await service.request(ask)
        while question.answer is None:
            heard = live.rung
            (question,) = await service.questions(ask)
            if question.answer is None and live.rung == heard:
                await live.bell()
    except anyio.get_cancelled_exc_class():
        if not live.sealed:
            with anyio.move_on_after(LAST_WORDS_S, shield=True):
                await service.request(Withdraw(pid=ask.pid, epoch=ask.epoch, key=ask.key))
        raise
    return question.answer


async def _answered(service: "Processes", live: Live, ask: Ask) -> str:
    question: Question = await service.request(ask)
    while question.answer is None:
        heard = live.rung
        (question,) = await service.questions(ask)
        if question.answer is None and live.rung == heard:
            await live.wait(_for(ask), _rung(live))
    return question.answer


def _for(ask: Ask) -> Waiting:
    return FOR_AN_ANSWER if ask.deadline is None else Waiting("ask", until=ask.deadline)
