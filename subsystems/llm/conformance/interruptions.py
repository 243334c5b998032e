"""Calls that are cut, fail at the reader, wait for a slot; drivers that stop."""

import anyio
from anyio.lowlevel import checkpoint

from ..driver import Meter
from .check import check
from .prompts import HELLO, STORY, question
from .subject import Model, NotApplicable, Subject, expect

MOST_SLOTS = 4
"""Of a driver with more slots than these no check waits for them all."""


@check(calls=2, tokens=120)
async def a_cut_call_stops_and_the_next_one_works(subject: Subject) -> None:
    """A cancelled call emits nothing more, its meter has what it used, and the next call works."""
    async with subject.model() as model:
        model.needs(model.card.can.streaming, "streaming")
        pieces: list[str] = []
        meter = Meter()

        async def emit(text: str, kind: str = "text", /) -> None:
            pieces.append(text)
            if len(pieces) == 2:
                scope.cancel()
                await checkpoint()

        with anyio.CancelScope() as scope:
            await model.driver.complete(question(STORY, most=400), emit, meter)
        expect(scope.cancelled_caught, "the call swallowed its cancellation")
        expect(len(pieces) == 2, f"{len(pieces) - 2} pieces came after the call was cancelled")
        used = meter.get("llm.completion_tokens", 0)
        expect(0 < used < 400, f"the meter says {used} tokens after two pieces of at most 400")
        expect(meter.get("llm.prompt_tokens", 0) > 0, "the meter of a cut call knows no prompt")
        await _expect_alive(model)


@check(calls=2, tokens=120)
async def an_error_of_the_reader_ends_the_call(subject: Subject) -> None:
    """What the reader raises leaves the call as it is, and the next call works."""
    async with subject.model() as model:

        async def emit(text: str, kind: str = "text", /) -> None:
            raise ConnectionResetError(text)

        try:
            await model.driver.complete(question(STORY, most=400), emit, Meter())
        except ConnectionResetError:
            await _expect_alive(model)
        else:
            expect(False, "the reader's error was swallowed")


@check(calls=5, tokens=200)
async def calls_beyond_the_slots_wait_their_turn(subject: Subject) -> None:
    """More calls than slots all come to their end."""
    async with subject.model(subject.one_slot) as model:
        if model.card.slots > MOST_SLOTS:
            raise NotApplicable(f"it has {model.card.slots} slots; give Subject a `one_slot`")
        ended: list[str] = []

        async def one() -> None:
            ended.append((await Model(model.driver).ask(question(HELLO, most=6))).text)

        async with anyio.create_task_group() as tasks:
            for number in range(model.card.slots + 1):
                tasks.start_soon(one, name=f"call {number}")
        expect(all(ended), "a call that waited has an empty answer")


@check(calls=1, tokens=40)
async def a_driver_stops_twice_and_without_a_start(subject: Subject) -> None:
    """Stopping is safe without a start, twice, and before a new start."""
    driver = subject.make()
    await driver.stop()
    await driver.start()
    try:
        await _expect_alive(Model(driver))
    finally:
        await driver.stop()
        await driver.stop()


async def _expect_alive(model: Model) -> None:
    answer = await model.ask(question(HELLO, most=6))
    expect(bool(answer.text or answer.reasoning), "the next call's answer is empty")
