"""`admitted`: the limits and circuits of the kernel, for an application's own calls."""

from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager, suppress
from typing import Protocol

import anyio

from ...kernel.errors import KernelStopped
from ...kernel.message import R, Request
from ..breaker.messages import Enter, Leave, classes_of
from .messages import Admit, Depart


class Asks(Protocol):
    """A kernel, or whatever can ask it."""

    def request(self, message: Request[R], /) -> Awaitable[R]: ...


@asynccontextmanager
async def admitted(kernel: Asks, name: str, /, *, key: str = "") -> AsyncIterator[None]:
    """Do something within the limits of `name`, as long as its circuit is closed.

        async with admitted(kernel, "payments-api", key="user-001"):
            await client.post(...)

    Waits for its turn, first come, first served, until the caller gives up. What the body
    raises counts for the circuit as on a route: `counts` of the breaker names what is a
    failure. Limits `per = "key"` have a bucket for each `key`.
    """
    turn = await kernel.request(Enter(name=name))
    errors: tuple[str, ...] = ()
    began, cancelled, stay = anyio.current_time(), True, 0
    try:
        stay = await kernel.request(Admit(name=name, key=key))
        began = anyio.current_time()
        yield
        cancelled = False
    except Exception as error:
        cancelled = not stay
        errors = classes_of(error)
        raise
    finally:
        seconds = anyio.current_time() - began if stay else 0.0
        left = Leave(name=name, turn=turn, seconds=seconds, errors=errors, cancelled=cancelled)
        with anyio.CancelScope(shield=True), suppress(KernelStopped):
            await kernel.request(left)
            await kernel.request(Depart(stay=stay))
