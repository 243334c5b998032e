"""What quotas cost a model's call: nobody counts, it is only counted, and it is within two.

The model takes no time and the log is in memory. The floor is the same call on a route without
the guard `quota`.
"""

from typing import Any

from aoskernel.subsystems.llm.messages import ChatMessage, Complete, Sampling
from aoskernel.subsystems.processes.messages import Origin
from aoskernel.subsystems.storage.messages import Pid

from .case import Effort, Figures, Goal, case, cpu_us
from .composition import default_kernel

BATCH = 500
ASK = Complete(
    messages=(ChatMessage(role="user", text="What is 1 + 2?"),), sampling=Sampling(max_tokens=100)
)
CALLER = Origin(
    pid=Pid(7), program="p", key="0:0", kind="think", fingerprint="00" * 12, tenant="acme"
)
PLENTY = {"tokens": 10**15}


async def _call_us(effort: Effort, routes: dict[str, Any], quota: dict[str, Any]) -> Figures:
    async with default_kernel(routes=routes, quota=quota) as kernel:

        async def calls(times: int) -> None:
            for _ in range(times):
                await kernel.bus.request(ASK, origin=CALLER)

        return {"call_us": await cpu_us(calls, effort, batch=BATCH)}


@case("quota", "floor: without the guard", floor=True)
async def without(effort: Effort) -> Figures:
    return await _call_us(effort, {"llm.complete": {"off": ["quota"]}}, {})


@case("quota", "no quota is set", goals=[Goal("call_us", above=30)])
async def counted(effort: Effort) -> Figures:
    return await _call_us(effort, {}, {})


@case("quota", "of everybody and of the tenant", goals=[Goal("call_us", above=100)])
async def bounded(effort: Effort) -> Figures:
    return await _call_us(effort, {}, {"namespace": PLENTY, "tenants": {"acme": PLENTY}})
