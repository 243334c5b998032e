"""The conformance kit finds what is wrong: each fault here is found by the check that is for it."""

from collections.abc import Callable
from typing import Any

import anyio
import pytest

from aoskernel.drivers.llm.scripted import Scripted
from aoskernel.subsystems.llm.conformance import (
    CHECKS,
    Check,
    Nonconforming,
    NotApplicable,
    Subject,
    examine,
    script,
)
from aoskernel.subsystems.llm.driver import (
    Capabilities,
    ChatMessage,
    Complete,
    Completion,
    Emit,
    Meter,
    ModelCard,
    PromptTooLong,
    ToolSpec,
    Usage,
)

BY_NAME = {check.name: check for check in CHECKS}


class Told(Scripted):
    """Conforms; each model below has one fault."""

    def __init__(self, **config: Any) -> None:
        super().__init__(script=script, slots=2, **config)


class Promising(Told):
    """Says that it can do everything."""

    def card(self) -> ModelCard:
        able = Capabilities(reasoning=True, prefix_cache=True, tools=True, json_schema=True)
        return super().card().model_copy(update={"can": able})


class Imprecise(Told):
    """Counts too much, and more the more tools come first."""

    async def count(self, messages: tuple[ChatMessage, ...], tools: tuple[ToolSpec, ...]) -> int:
        counted = await super().count(messages, tools)
        return counted + 5 + (len(tools[0].name) if tools else 0)


class Answering(Told):
    """Its `complete` is changed by a function of the ask, the answer, the emit and the meter."""

    async def complete(self, ask: Complete, emit: Emit, meter: Meter) -> Completion:
        return await self.changed(ask, emit, meter, super().complete)

    async def changed(self, ask: Complete, emit: Emit, meter: Meter, complete: Any) -> Completion:
        raise NotImplementedError


class InOnePiece(Answering):
    async def changed(self, ask: Complete, emit: Emit, meter: Meter, complete: Any) -> Completion:
        pieces: list[str] = []

        async def collect(text: str, kind: str = "text", /) -> None:
            pieces.append(text)

        answer: Completion = await complete(ask, collect, meter)
        if pieces:
            await emit("".join(pieces))
        return answer


class Unmetered(Answering):
    async def changed(self, ask: Complete, emit: Emit, meter: Meter, complete: Any) -> Completion:
        answer: Completion = await complete(ask, emit, Meter())
        return answer


class Limitless(Answering):
    """Takes no notice of max_tokens, stop texts, tools and schemas."""

    async def changed(self, ask: Complete, emit: Emit, meter: Meter, complete: Any) -> Completion:
        free = Complete(messages=ask.messages)
        answer: Completion = await complete(free, emit, meter)
        return answer


class Misnamed(Answering):
    async def changed(self, ask: Complete, emit: Emit, meter: Meter, complete: Any) -> Completion:
        answer: Completion = await complete(ask, emit, meter)
        return answer.model_copy(update={"model": "another"})


class Numb(Answering):
    """Swallows what its reader raises, its cancellation as well."""

    async def changed(self, ask: Complete, emit: Emit, meter: Meter, complete: Any) -> Completion:
        async def swallowing(text: str, kind: str = "text", /) -> None:
            try:
                await emit(text)
            except (ConnectionResetError, anyio.get_cancelled_exc_class()):
                pass

        answer: Completion = await complete(ask, swallowing, meter)
        return answer


class Forgetful(Answering):
    """Gives every call of a tool the same id, and not the arguments that it was told."""

    async def changed(self, ask: Complete, emit: Emit, meter: Meter, complete: Any) -> Completion:
        answer: Completion = await complete(ask, emit, meter)
        calls = [one.model_copy(update={"id": "call_1"}) for one in answer.tool_calls]
        if len(calls) == 1:
            calls = [calls[0].model_copy(update={"arguments": {}})]
        return answer.model_copy(update={"tool_calls": tuple(calls)})


class Halving(Answering):
    """Emits characters whose halves were decoded one by one."""

    async def changed(self, ask: Complete, emit: Emit, meter: Meter, complete: Any) -> Completion:
        async def halve(text: str, kind: str = "text", /) -> None:
            await emit("".join(bytes([b]).decode(errors="replace") for b in text.encode()))

        answer: Completion = await complete(ask, halve, meter)
        return answer


class Dropping(Answering):
    """Emits a piece less than it says."""

    async def changed(self, ask: Complete, emit: Emit, meter: Meter, complete: Any) -> Completion:
        pieces: list[str] = []

        async def drop(text: str, kind: str = "text", /) -> None:
            pieces.append(text)
            if len(pieces) != 2:
                await emit(text)

        answer: Completion = await complete(ask, drop, meter)
        return answer


class Boundless(Answering):
    """Answers whatever the length of the prompt."""

    async def changed(self, ask: Complete, emit: Emit, meter: Meter, complete: Any) -> Completion:
        try:
            answer: Completion = await complete(ask, emit, meter)
        except PromptTooLong:
            usage = Usage(prompt=1, completion=1)
            return Completion(text="", finish="stop", usage=usage, model="scripted")
        return answer


class Jammed(Told):
    """Never gives a slot back."""

    async def complete(self, ask: Complete, emit: Emit, meter: Meter) -> Completion:
        await self._permits.acquire()
        return await super().complete(ask, emit, meter)


class Leaky(Told):
    """Cannot stop before it has started."""

    async def start(self) -> None:
        self.started = True

    async def stop(self) -> None:
        del self.started


FAULTS: list[tuple[Callable[..., Scripted], str]] = [
    (InOnePiece, "an_answer_comes_in_pieces"),
    (Dropping, "an_answer_comes_in_pieces"),
    (Unmetered, "the_meter_holds_what_the_answer_used"),
    (Unmetered, "calls_at_once_do_not_mix"),
    (Misnamed, "an_answer_bears_the_name_on_the_card"),
    (Limitless, "the_token_limit_ends_an_answer"),
    (Limitless, "a_stop_text_ends_an_answer_before_it"),
    (Dropping, "a_slow_reader_loses_nothing"),
    (Promising, "reasoning_comes_apart"),
    (Numb, "a_cut_call_stops_and_the_next_one_works"),
    (Unmetered, "a_cut_call_stops_and_the_next_one_works"),
    (Numb, "an_error_of_the_reader_ends_the_call"),
    (Jammed, "calls_beyond_the_slots_wait_their_turn"),
    (Leaky, "a_driver_stops_twice_and_without_a_start"),
    (Limitless, "a_schema_makes_the_answer_json"),
    (Limitless, "a_schema_does_not_lift_the_token_limit"),
    (Halving, "characters_of_many_tokens_come_out_whole"),
    (Limitless, "tools_and_a_schema_exclude_each_other"),
    (Forgetful, "a_call_is_of_an_offered_tool"),
    (Forgetful, "calls_at_once_have_ids_of_their_own"),
    (Limitless, "a_conversation_with_calls_goes_on"),
    (Forgetful, "a_later_call_has_a_new_id"),
    (Imprecise, "a_count_is_near_what_is_reported"),
    (Imprecise, "tools_cost_tokens_and_their_order_does_not"),
    (Boundless, "a_prompt_beyond_the_window_is_refused"),
    (Promising, "a_repeated_beginning_is_read_from_the_cache"),
]


def subject(make: Callable[..., Scripted], **more: Any) -> Subject:
    return Subject(make=make, nature="told", small_window={"context_window": 512}, **more)


@pytest.mark.parametrize(("faulty", "name"), FAULTS)
async def test_a_fault_is_found(faulty: Callable[..., Scripted], name: str) -> None:
    patience_s = 1 if faulty is Jammed else 20
    with anyio.fail_after(30), pytest.raises((Nonconforming, AttributeError)):
        await BY_NAME[name](subject(faulty, patience_s=patience_s))


def test_every_check_has_a_fault_that_it_finds() -> None:
    assert {name for _, name in FAULTS} == set(BY_NAME)


@pytest.mark.parametrize("check", CHECKS, ids=str)
async def test_a_check_asks_no_more_than_it_says(check: Check) -> None:
    asked: list[int] = []

    class Counted(Answering):
        async def changed(
            self, ask: Complete, emit: Emit, meter: Meter, complete: Any
        ) -> Completion:
            tokens = await self.count(ask.messages, ask.tools)
            if ask.json_schema is None or not ask.tools:
                asked.append(tokens + (ask.sampling.max_tokens or 0))
            answer: Completion = await complete(ask, emit, meter)
            return answer

    with anyio.fail_after(30):
        try:
            await check(subject(Counted))
        except NotApplicable:
            return
    assert len(asked) <= check.calls


async def test_an_exempt_check_is_not_made_and_says_why() -> None:
    name = "the_token_limit_ends_an_answer"
    with pytest.raises(NotApplicable, match="has no limit"):
        await BY_NAME[name](subject(Limitless, exempt={name: "this model has no limit"}))


async def test_an_examination_goes_on_after_a_failure() -> None:
    with anyio.fail_after(30):
        verdicts = [one async for one in examine(subject(Misnamed), CHECKS)]
    outcomes = {one.check: one.outcome for one in verdicts}
    assert list(outcomes) == list(BY_NAME)
    assert outcomes["an_answer_bears_the_name_on_the_card"] == "failed"
    assert outcomes["an_answer_comes_in_pieces"] == "passed"
    assert outcomes["reasoning_comes_apart"] == "not applicable"
    assert all(one.reason for one in verdicts if one.outcome != "passed")
