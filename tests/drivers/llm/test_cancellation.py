"""Calls that end before their reply does: cancelled, or cut by the driver's stop."""

import anyio
import pytest
from replies import WIRES, Wire, silence, talking
from wire import Asked, Send, chunk, head

from aoskernel.subsystems.llm.conformance.prompts import question
from aoskernel.subsystems.llm.driver import ModelError, NoApi

every_wire = pytest.mark.parametrize("wire", WIRES, ids=str)


@every_wire
async def test_a_cancelled_call_closes_its_connection_at_once(wire: Wire) -> None:
    gone = anyio.Event()

    async def play(asked: Asked, send: Send) -> bool:
        await send(head(wire.kind) + chunk(wire.begun("Once")))
        try:
            while True:
                await send(chunk(wire.framed(wire.delta(" more"))))
                await anyio.sleep(0.01)
        finally:
            gone.set()

    async with talking(wire, play) as talk:

        async def emit(text: str, kind: str = "text", /) -> None:
            if text == " more":
                scope.cancel()

        with anyio.CancelScope() as scope:
            await talk.model.driver.complete(question("Go on.", most=50), emit, talk.model.meter)
        assert scope.cancelled_caught
        with anyio.fail_after(1):
            await gone.wait()
        assert talk.server.gone == 1
        assert talk.model.used.completion > 0


@every_wire
async def test_a_call_that_is_cancelled_before_its_reply_closes_its_connection(wire: Wire) -> None:
    came, gone = anyio.Event(), anyio.Event()

    async def play(asked: Asked, send: Send) -> bool:
        came.set()
        with pytest.raises((anyio.BrokenResourceError, ConnectionError)):
            while True:  # an interim answer is no answer yet
                await send(b"HTTP/1.1 102 Processing\r\n\r\n")
                await anyio.sleep(0.01)
        gone.set()
        return False

    async with talking(wire, play) as talk:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(talk.ask)
            await came.wait()
            tasks.cancel_scope.cancel()
        with anyio.fail_after(1):
            await gone.wait()


@every_wire
async def test_stopping_the_driver_cuts_what_is_under_way(wire: Wire) -> None:
    play = silence(head(wire.kind), chunk(wire.begun("Hello")))
    async with talking(wire, play, slots=1) as talk:
        ended: list[ModelError] = []
        began = anyio.Event()

        async def emit(text: str, kind: str = "text", /) -> None:
            began.set()

        async def ask() -> None:
            try:
                await talk.model.driver.complete(question("Hi", most=9), emit, talk.model.meter)
            except ModelError as error:
                ended.append(error)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(ask, name="under way")
            await began.wait()
            tasks.start_soon(ask, name="waits for the slot")
            await anyio.wait_all_tasks_blocked()
            await talk.model.driver.stop()
        assert len(ended) == 2
        assert all(error.retryable for error in ended)
        assert not any(isinstance(error, NoApi) for error in ended)
