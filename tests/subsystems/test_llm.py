"""Models as services: addresses, defaults, streams, usage."""

from typing import Any

import anyio
import pytest
from pydantic import ValidationError
from system import System

from aoskernel import Kernel
from aoskernel.drivers.llm.scripted import Scripted
from aoskernel.kernel import Unroutable
from aoskernel.subsystems.llm.messages import (
    Allowance,
    ChatMessage,
    Complete,
    Completed,
    Delta,
    Describe,
    LimitsTold,
)
from aoskernel.subsystems.llm.service import Model

ASK = Complete(messages=(ChatMessage(role="user", text="hi"),))


def two_models() -> tuple[Model, Model]:
    slow = Model(Scripted(script=["slow and steady"], name="slow")).named("llm.slow")
    return slow, Model(Scripted(script=["fast"], name="fast")).named("llm.fast")


async def test_each_model_is_asked_by_its_address() -> None:
    async with Kernel(*two_models()) as kernel:
        assert (await kernel.request(ASK, to="llm.fast")).text == "fast"
        assert (await kernel.request(ASK, to="llm.slow")).text == "slow and steady"
        assert (await kernel.request(Describe(), to="llm.fast")).model == "scripted:fast"


async def test_two_models_without_a_default_want_an_address() -> None:
    async with Kernel(*two_models()) as kernel:
        with pytest.raises(Unroutable, match=r"to= one of llm\.fast, llm\.slow"):
            await kernel.request(ASK)
        with pytest.raises(Unroutable, match=r"did you mean 'llm\.fast'"):
            await kernel.request(ASK, to="llm.fats")


async def test_the_configured_default_answers_when_nobody_is_named() -> None:
    routes = {"llm.complete": {"default": "llm.slow"}}
    async with Kernel(*two_models(), routes=routes) as kernel:
        assert (await kernel.request(ASK)).text == "slow and steady"


@pytest.mark.parametrize("messages", [(), ("hi",), (*ASK.messages, "hi"), (*ASK.messages, None)])
def test_a_prompt_that_is_not_all_messages_is_refused(messages: Any) -> None:
    with pytest.raises(ValidationError, match="messages"):
        Complete(messages=messages)


def test_messages_that_are_made_are_taken_as_they_are() -> None:
    assert Complete(messages=ASK.messages).messages is ASK.messages


async def test_a_sink_gets_every_delta_with_its_place(system: System) -> None:
    pieces: list[Delta] = []

    async def sink(delta: Delta) -> None:
        pieces.append(delta)

    async with system(["one two three"]) as kernel:
        reply = await kernel.request(ASK, sink=sink)
    assert "".join(piece.text for piece in pieces) == reply.text == "one two three"
    assert [piece.offset for piece in pieces] == [0, 4, 8]
    assert {piece.attempt for piece in pieces} == {1}
    assert len({piece.call for piece in pieces}) == 1


class Telling(Scripted):
    """Is told by its provider what is left, with each reply."""

    def allowances(self) -> tuple[Allowance, ...]:
        return (Allowance(what="requests", limit=60, remaining=2, reset_s=58),)


async def test_what_a_provider_says_of_its_limits_is_told() -> None:
    driver = Telling(script=["done"])
    async with Kernel(Model(driver)) as kernel, kernel.listen("llm.limits_told") as told:
        await kernel.request(ASK, to="llm")
        with anyio.fail_after(20):
            assert await anext(told) == LimitsTold(address="llm", allowances=driver.allowances())


async def test_a_completion_is_told_with_its_usage(system: System) -> None:
    async with system(["done"]) as kernel, kernel.listen("llm.completed") as told:
        reply = await kernel.request(ASK)
        event: Any = await anext(told)
    assert isinstance(event, Completed)
    assert event.usage == reply.usage
    assert event.address == "llm.default"
    assert event.seconds >= (event.first_token_s or 0) >= 0
