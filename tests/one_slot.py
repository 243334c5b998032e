"""A guard before the journal that lets one call through at a time, and the others wait."""

import anyio

from aoskernel.kernel.call import Call
from aoskernel.kernel.message import R
from aoskernel.kernel.service import Proceed, Service


class OneSlot(Service, name="one_slot"):
    """Where a scheduler would stand."""

    def __init__(self) -> None:
        self._slot = anyio.Lock()

    async def guard(self, call: Call[R], proceed: Proceed[R]) -> R:
        async with self._slot:
            return await proceed(call)
