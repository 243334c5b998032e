"""The breaker: what a closed circuit costs a call, beside other breakers around `await noop()`."""

from aoskernel.subsystems.breaker.circuit import Rules
from aoskernel.subsystems.breaker.service import Breaker

from .case import Effort, Figures, Goal, case
from .guarding import drive, guarding, noop, peer


@case("breaker", "floor: bare await", floor=True)
async def bare(effort: Effort) -> Figures:
    return await drive(noop, effort)


@case("breaker", "breaker, closed", goals=[Goal("call_us", above=1.0)])
async def closed(effort: Effort) -> Figures:
    return await guarding(Breaker(), effort)


@case("breaker", "breaker, closed, all on")
async def closed_with_all(effort: Effort) -> Figures:
    return await guarding(Breaker(Rules(window_s=0.01, slow_s=60)), effort)


@peer("breaker", "purgatory, context", "purgatory")
async def purgatory_context(effort: Effort) -> Figures:
    from purgatory import AsyncCircuitBreakerFactory

    factory = AsyncCircuitBreakerFactory(default_threshold=5, default_ttl=30)
    await factory.initialize()
    breaker = await factory.get_breaker("x")

    async def once() -> None:
        async with breaker:
            await noop()

    return await drive(once, effort)


@peer("breaker", "purgatory, decorator", "purgatory")
async def purgatory_decorator(effort: Effort) -> Figures:
    from purgatory import AsyncCircuitBreakerFactory

    factory = AsyncCircuitBreakerFactory(default_threshold=5, default_ttl=30)
    await factory.initialize()
    return await drive(factory("x")(noop), effort)


@peer("breaker", "pybreaker, calling", "pybreaker")
async def pybreaker_calling(effort: Effort) -> Figures:
    import pybreaker

    breaker = pybreaker.CircuitBreaker(fail_max=5, reset_timeout=30)

    async def once() -> None:
        with breaker.calling():
            await noop()

    return await drive(once, effort)
