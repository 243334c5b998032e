"""The default kernel with a scripted model and one tool, all in memory."""

from typing import Any

from aoskernel import Kernel, Service
from aoskernel.drivers.llm.scripted import call
from aoskernel.subsystems.llm.messages import Complete, ToolCall


async def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


def script(ask: Complete) -> str | ToolCall:
    """Ask for the tool; when it has answered, say so."""
    last = ask.messages[-1]
    return f"the sum is {last.text}" if last.role == "tool" else call("add", a=1, b=2)


def default_kernel(
    *others: Service, routes: dict[str, Any] | None = None, **services: dict[str, Any]
) -> Kernel:
    """What the default config gives, without database, files and weights; all its guards stand."""
    ours: dict[str, dict[str, Any]] = {
        "storage": {"driver": "memory"},
        "llm.default": {"driver": "scripted", "script": script},
        "tools.files": {"driver": "python", "functions": (add,)},
        "policy": {"allow": ["llm.complete:*", "tools.call:add"]},
    }
    return Kernel.from_config(None, *others, services=ours | services, routes=routes or {})
