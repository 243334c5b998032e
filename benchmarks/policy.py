"""The policy: what it costs a call that it lets through, among a hundred rules."""

from pathlib import Path
from typing import Annotated, Any

from aoskernel import Kernel, Touches, tool
from aoskernel.drivers.storage.memory import MemoryStorage
from aoskernel.drivers.tools.python import PythonTools
from aoskernel.kernel import Call
from aoskernel.subsystems.policy.messages import Written
from aoskernel.subsystems.policy.service import Policy
from aoskernel.subsystems.storage.service import Storage
from aoskernel.subsystems.tools.messages import CallTool
from aoskernel.subsystems.tools.service import Toolbox, Toolset

from .case import Effort, Figures, Goal, case
from .guarding import drive, noop

ELSEWHERE: list[Written] = [f"tools.call:other_{number} path=/srv/*" for number in range(94)]
"""Of a hundred rules most are about other tools."""
SPARED: list[Written] = [f"tools.call:write path=/secret/{number}/*" for number in range(5)]


@tool(effect="idempotent")
async def write(path: Annotated[str, Touches("path", "write")], url: str = "") -> int:
    """Write."""
    return 1


@tool(effect="none")
async def fetch(url: Annotated[str, Touches("url")]) -> int:
    """Fetch."""
    return 1


async def proceed(call: Call[Any]) -> int:
    return 1


async def guarded(made: CallTool, effort: Effort, **lists: list[Written]) -> Figures:
    """One call after the other, through a policy in a kernel that runs."""
    deny, ask, allow = (tuple(lists.get(name, ())) for name in ("deny", "ask", "allow"))
    policy = Policy(allow, ask, deny)
    toolset = Toolset(PythonTools(functions=(write, fetch)))
    async with Kernel(policy, toolset, Toolbox(), Storage(MemoryStorage())):
        call = Call(made, "tools", None, "app", 0.0, None, None)
        assert await policy.guard(call, proceed) == 1
        return await drive(lambda: policy.guard(call, proceed), effort)


WRITE = CallTool(name="write", arguments={"path": f"{Path.cwd()}/notes.txt"})
FETCH = CallTool(name="fetch", arguments={"url": "https://www.example.org/a"})


@case("policy", "floor: bare await", floor=True)
async def bare(effort: Effort) -> Figures:
    return await drive(noop, effort)


@case("policy", "a tool by its name", goals=[Goal("call_us", above=5.0)])
async def by_name(effort: Effort) -> Figures:
    return await guarded(WRITE, effort, deny=[*ELSEWHERE, *ELSEWHERE[:5]], allow=["tools.call:*"])


@case("policy", "five patterns of an argument", goals=[Goal("call_us", above=5.0)])
async def by_argument(effort: Effort) -> Figures:
    return await guarded(WRITE, effort, deny=[*ELSEWHERE, *SPARED], allow=["tools.call:*"])


@case("policy", "a host")
async def by_host(effort: Effort) -> Figures:
    hosts: Written = {"call": "tools.call:fetch", "hosts": "*.example.org"}
    return await guarded(FETCH, effort, deny=ELSEWHERE, ask=SPARED, allow=[hosts])


@case("policy", "a directory, in a thread")
async def by_place(effort: Effort) -> Figures:
    below: Written = {"call": "tools.call:write", "below": "."}
    return await guarded(WRITE, effort, deny=ELSEWHERE, ask=SPARED, allow=[below])
