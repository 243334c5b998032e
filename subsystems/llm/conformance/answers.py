"""Answers: streamed whole, metered, ended where they must end."""

import anyio

from ..driver import Completion, Meter, Usage
from .check import check
from .prompts import COUNT_UP, HELLO, STORY, THINK, question
from .subject import Model, Subject, expect

READER_S = 0.02
"""What a slow reader takes for each piece."""


@check(calls=1, tokens=60)
async def an_answer_comes_in_pieces(subject: Subject) -> None:
    """The pieces of text that are emitted join to the answer, in more than one if it streams."""
    async with subject.model() as model:
        answer = await model.ask(question(COUNT_UP, most=16))
        _expect_joined(model, answer.text, answer.reasoning)
        expect(bool(answer.text), "the answer is empty")
        pieces = sum(kind == "text" for _, kind in model.heard)
        expect(
            pieces > 1 or not model.card.can.streaming,
            "the card says that the model streams, and the answer came in one piece",
        )
        expect(all(text for text, _ in model.heard), "an empty piece was emitted")


@check(calls=1, tokens=40)
async def the_meter_holds_what_the_answer_used(subject: Subject) -> None:
    """At the end the meter says the same as the answer's usage, which is more than nothing."""
    async with subject.model() as model:
        answer = await model.ask(question(HELLO, most=8))
        used = answer.usage
        _expect_metered(model, used)
        expect(used.prompt > 0 and used.completion > 0, f"the usage has a zero: {used}")
        expect(used.cached + used.cache_written <= used.prompt, f"more cached than sent: {used}")
        expect(used.reasoning <= used.completion, f"more thought than written: {used}")


@check(calls=1, tokens=40)
async def an_answer_bears_the_name_on_the_card(subject: Subject) -> None:
    """The card can be read again after a call, and the answer bears the model's name on it."""
    async with subject.model() as model:
        answer = await model.ask(question(HELLO, most=8))
        card = model.driver.card()
        expect(card == model.card, f"the card was {model.card} and became {card}")
        expect(
            answer.model == card.model,
            f"the answer is by {answer.model!r}, the card says {card.model!r}",
        )
        expect(isinstance(model.driver.allowances(), tuple), "allowances() is no tuple")


@check(calls=1, tokens=40)
async def the_token_limit_ends_an_answer(subject: Subject) -> None:
    """At `max_tokens` an answer ends with finish "length" and keeps what was written."""
    async with subject.model() as model:
        answer = await model.ask(question(COUNT_UP, most=5))
        expect(answer.finish == "length", f"it finished with {answer.finish!r}")
        expect(answer.usage.completion <= 5, f"5 tokens asked, {answer.usage.completion} used")
        _expect_joined(model, answer.text, answer.reasoning)


@check(calls=3, tokens=160)
async def a_stop_text_ends_an_answer_before_it(subject: Subject) -> None:
    """A stop text ends the answer, and neither the answer nor a piece has it."""
    async with subject.model() as model:
        whole = (await model.ask_warm(question(COUNT_UP, most=10))).text
        stop = next((sign for sign in whole[3:] if sign.isalnum()), whole[:1])
        answer = await model.ask(question(COUNT_UP, most=10, stop=(stop,)))
        expect(stop not in answer.text, f"the answer has the stop text {stop!r}: {answer.text!r}")
        _expect_joined(model, answer.text, answer.reasoning)
        if whole.startswith(answer.text):  # the same words again, so this is where it was cut
            expect(
                answer.text == whole.partition(stop)[0],
                f"{whole!r} was cut to {answer.text!r}, not before {stop!r}",
            )
            expect(answer.finish == "stop", f"it finished with {answer.finish!r}")


@check(calls=3, tokens=180)
async def a_slow_reader_loses_nothing(subject: Subject) -> None:
    """Who reads slowly hears every piece."""
    async with subject.model() as model:
        ask = question(STORY, most=10)
        whole = await model.ask_warm(ask)
        pieces: list[str] = []

        async def emit(text: str, kind: str = "text", /) -> None:
            await anyio.sleep(READER_S)
            if kind == "text":
                pieces.append(text)

        slow = await model.driver.complete(ask, emit, Meter())
        expect("".join(pieces) == slow.text, f"{slow.text!r} was read as {''.join(pieces)!r}")
        if slow.text == whole.text:
            same = slow.usage.completion == whole.usage.completion
            expect(same, "the same answer was counted otherwise for a slow reader")


@check(calls=2, tokens=120)
async def calls_at_once_do_not_mix(subject: Subject) -> None:
    """Two calls at once each get their own pieces and their own meter."""
    async with subject.model() as model:
        callers = [Model(model.driver), Model(model.driver)]
        answers: list[tuple[Model, Completion]] = []

        async def ask(caller: Model, text: str) -> None:
            answers.append((caller, await caller.ask(question(text, most=8))))

        async with anyio.create_task_group() as tasks:
            for caller, text in zip(callers, (COUNT_UP, STORY), strict=True):
                tasks.start_soon(ask, caller, text, name=text)
        for caller, answer in answers:
            _expect_joined(caller, answer.text, answer.reasoning)
            _expect_metered(caller, answer.usage)


@check(calls=1, tokens=600)
async def reasoning_comes_apart(subject: Subject) -> None:
    """Reasoning is emitted as such, and is no part of the answer's text."""
    async with subject.model() as model:
        model.needs(model.card.can.reasoning, "reasoning")
        answer = await model.ask(question(THINK, most=500))
        expect(bool(answer.reasoning), "the card says that it reasons, and no reasoning came")
        _expect_joined(model, answer.text, answer.reasoning)
        expect("<think>" not in answer.text, "the answer's text has the marks of reasoning")


def _expect_joined(model: Model, text: str, reasoning: str) -> None:
    said, thought = model.said(), model.said("reasoning")
    expect(said == text, f"emitted: {said!r}; the answer: {text!r}")
    expect(thought == reasoning, f"emitted: {thought!r}; the answer's reasoning: {reasoning!r}")


def _expect_metered(model: Model, usage: Usage) -> None:
    used = usage.model_copy(update={"estimated": False})
    expect(used == model.used, f"the usage is {used}, the meter says {model.used}")
