"""How exact a limit is: a hundred callers at fifty calls a second, for three seconds.

150 is ideal; `off_by` is how far from it. `most_within_1s` is the worst window.
"""

import time
from collections.abc import Awaitable, Callable

import anyio

from aoskernel import Kernel, admitted
from aoskernel.subsystems.breaker.service import Breaker
from aoskernel.subsystems.limiter.limits import Limit
from aoskernel.subsystems.limiter.service import Limiter

from .case import Effort, Figures, Goal, case
from .guarding import peer

PER_S, CALLERS, SECONDS = 50, 100, 3.0
Acquire = Callable[[], Awaitable[None]]


async def accuracy(acquire: Acquire, effort: Effort) -> Figures:
    """Each caller comes again as soon as it was let through."""
    seconds = SECONDS if effort.seconds else 0.1
    given: list[float] = []
    served: set[int] = set()
    began, cpu = time.perf_counter(), time.process_time()

    async def caller(number: int) -> None:
        while True:
            await acquire()
            if (now := time.perf_counter() - began) >= seconds:
                return
            given.append(now)
            served.add(number)

    with anyio.move_on_after(seconds):
        async with anyio.create_task_group() as tasks:
            for number in range(CALLERS):
                tasks.start_soon(caller, number)
    return {
        "given": float(len(given)),
        "most_within_1s": float(max(_following(given), default=0)),
        "callers_served": float(len(served)),
        "cpu_ms": (time.process_time() - cpu) * 1e3,
    }


def _following(given: list[float]) -> list[int]:
    """How many were let through within a second of each."""
    return [sum(at <= other < at + 1 for other in given) for at in given]


@case("admitted", "floor: next moment", floor=True)
async def next_moment(effort: Effort) -> Figures:
    free_at = anyio.current_time()

    async def acquire() -> None:
        nonlocal free_at
        at = max(free_at, anyio.current_time())
        free_at = at + 1 / PER_S
        await anyio.sleep(max(at - anyio.current_time(), 0))

    return await accuracy(acquire, effort)


@case("admitted", "admitted", goals=[Goal("off_by", value=1)])
async def ours(effort: Effort) -> Figures:
    limit = Limit.model_validate({"of": "api", "per": "all", "requests": f"{PER_S}/s"})
    async with Kernel(Limiter((limit,)), Breaker()) as kernel:

        async def acquire() -> None:
            async with admitted(kernel, "api"):
                pass

        figures = await accuracy(acquire, effort)
        return {**figures, "off_by": abs(figures["given"] - PER_S * SECONDS)}


@peer("admitted", "aiolimiter, smooth", "aiolimiter")
async def aiolimiter_smooth(effort: Effort) -> Figures:
    from aiolimiter import AsyncLimiter

    return await accuracy(AsyncLimiter(1, 1 / PER_S).acquire, effort)


@peer("admitted", "aiolimiter, bucket", "aiolimiter")
async def aiolimiter_bucket(effort: Effort) -> Figures:
    from aiolimiter import AsyncLimiter

    return await accuracy(AsyncLimiter(PER_S, 1).acquire, effort)


@peer("admitted", "pyrate-limiter, GCRA", "pyrate_limiter")
async def pyrate_gcra(effort: Effort) -> Figures:
    from pyrate_limiter import Duration, Limiter, Rate, StateBucket, TokenBucket

    rate = Rate(PER_S, Duration.SECOND, burst=1)
    limiter = Limiter(StateBucket([rate], algorithm=TokenBucket()), buffer_ms=0)

    async def acquire() -> None:
        await limiter.try_acquire_async("x")

    return await accuracy(acquire, effort)
