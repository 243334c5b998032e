"""What a guard costs a call that it lets through: driven as a route drives it, beside a bare await.

Others' cases are run where they are installed: `pip install --group peers`.
"""

from collections.abc import Awaitable, Callable
from importlib.util import find_spec
from typing import Any

from aoskernel import Kernel, Request, Service, handles
from aoskernel.kernel import Call

from .case import Effort, Figures, Run, case, cpu_us

BATCH = 2000


class Ping(Request[int], topic="bench.ping", effect="none"):
    """Are you there?"""


class Ponging(Service, name="ponging"):
    """It is."""

    @handles(Ping)
    async def pong(self, request: Ping) -> int:
        return 1


async def noop() -> int:
    return 1


async def pong(call: Call[int]) -> int:
    return 1


async def drive(once: Callable[[], Awaitable[Any]], effort: Effort) -> Figures:
    """One call after the other."""

    async def work(times: int) -> None:
        for _ in range(times):
            await once()

    return {"call_us": await cpu_us(work, effort, batch=BATCH)}


async def guarding(guard: Service, effort: Effort) -> Figures:
    """A guard on a call's way, in a kernel that runs."""
    async with Kernel(Ponging(), guard):
        call = Call(Ping(), "ponging", None, "app", 0.0, None, None)
        assert await guard.guard(call, pong) == 1
        return await drive(lambda: guard.guard(call, pong), effort)


def peer(bench: str, name: str, module: str) -> Callable[[Run], Run]:
    """A case of somebody else's, where it is installed."""
    return case(bench, name) if find_spec(module) else lambda run: run
