"""The limiter: what it costs a call that it lets through, beside others around `await noop()`."""

from aoskernel.subsystems.limiter.limits import Limit
from aoskernel.subsystems.limiter.service import Limiter

from .case import Effort, Figures, Goal, case
from .guarding import drive, guarding, noop, peer

MOST = "1000000/s burst 1000000"


@case("limiter", "floor: bare await", floor=True)
async def bare(effort: Effort) -> Figures:
    return await drive(noop, effort)


@case("limiter", "limiter, one rate", goals=[Goal("call_us", above=2.0)])
async def one_rate(effort: Effort) -> Figures:
    limits = (Limit.model_validate({"requests": MOST}),)
    return await guarding(Limiter(limits, learn=False), effort)


@case("limiter", "limiter, one rate, learning")
async def learning(effort: Effort) -> Figures:
    limits = (Limit.model_validate({"requests": MOST}),)
    return await guarding(Limiter(limits), effort)


@case("limiter", "limiter, as by default")
async def default(effort: Effort) -> Figures:
    return await guarding(Limiter(), effort)


@peer("limiter", "aiolimiter", "aiolimiter")
async def aiolimiter(effort: Effort) -> Figures:
    from aiolimiter import AsyncLimiter

    limiter = AsyncLimiter(1e9, 1)

    async def once() -> None:
        async with limiter:
            await noop()

    return await drive(once, effort)


@peer("limiter", "pyrate-limiter, log", "pyrate_limiter")
async def pyrate_log(effort: Effort) -> Figures:
    from pyrate_limiter import InMemoryBucket, Limiter, Rate

    limiter = Limiter(InMemoryBucket([Rate(100_000, 1)]))  # 1 ms: the log stays short

    async def once() -> None:
        await limiter.try_acquire_async("x")
        await noop()

    return await drive(once, effort)


@peer("limiter", "pyrate-limiter, GCRA", "pyrate_limiter")
async def pyrate_gcra(effort: Effort) -> Figures:
    from pyrate_limiter import Duration, Limiter, Rate, StateBucket, TokenBucket

    rate = Rate(10_000_000, Duration.SECOND)
    limiter = Limiter(StateBucket([rate], algorithm=TokenBucket()))

    async def once() -> None:
        await limiter.try_acquire_async("x")
        await noop()

    return await drive(once, effort)
