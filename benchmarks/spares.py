"""What retry, failover and cache add to a call when nothing fails.

The floor is a guard that does nothing on the same route, before the same model.
"""

from typing import Any

from aoskernel import Kernel, Service, handles
from aoskernel.kernel.message import Request
from aoskernel.subsystems.cache.service import Cache
from aoskernel.subsystems.failover.alias import Alias
from aoskernel.subsystems.failover.service import Failover
from aoskernel.subsystems.llm.messages import (
    ChatMessage,
    Complete,
    Completion,
    Describe,
    ModelCard,
    Sampling,
    Usage,
)
from aoskernel.subsystems.retry.service import Retry

from .case import Effort, Figures, Goal, case, cpu_us
from .request import PassThrough

BATCH = 2000
PLAIN = Complete(messages=(ChatMessage(role="user", text="hello"),))
GREEDY = PLAIN.model_copy(update={"sampling": Sampling(temperature=0)})
REPLY = Completion(text="hi", finish="stop", usage=Usage(prompt=1, completion=1), model="m")


class Instant(Service, name="llm"):
    """Has its answer ready."""

    @handles(Complete)
    async def complete(self, ask: Complete) -> Completion:
        return REPLY

    @handles(Describe)
    async def describe(self, request: Describe) -> ModelCard:
        return ModelCard(model="m", driver="bench", context_window=1000)


async def drive(
    guard: Service, effort: Effort, ask: Request[Completion] = PLAIN, to: str = "llm"
) -> Figures:
    """One call after another through this guard."""
    alias = Alias(models=("llm", "llm.other")).named("llm.alias")
    services = [Instant(), Instant().named("llm.other"), alias, guard]
    routes: dict[str, Any] = {"llm.complete": [guard.address]}
    async with Kernel(*services, routes=routes) as kernel:

        async def calls(times: int) -> None:
            for _ in range(times):
                assert (await kernel.request(ask, to=to)).text == "hi"

        return {"call_us": await cpu_us(calls, effort, batch=BATCH)}


@case("spares", "floor: a guard that passes", floor=True)
async def passing(effort: Effort) -> Figures:
    return await drive(PassThrough(), effort)


@case("spares", "retry", goals=[Goal("call_us", above=1.5)])
async def retry(effort: Effort) -> Figures:
    return await drive(Retry(), effort)


@case("spares", "failover, a model", goals=[Goal("call_us", above=1)])
async def failover(effort: Effort) -> Figures:
    return await drive(Failover(), effort)


@case("spares", "failover, an alias", goals=[Goal("call_us", above=10)])
async def failover_of_an_alias(effort: Effort) -> Figures:
    return await drive(Failover(), effort, to="llm.alias")


@case("spares", "cache, not greedy", goals=[Goal("call_us", above=1)])
async def cache_passed_by(effort: Effort) -> Figures:
    return await drive(Cache(), effort)


@case("spares", "cache, hit", goals=[Goal("call_us", above=50)])
async def cache_hit(effort: Effort) -> Figures:
    return await drive(Cache(), effort, GREEDY)
