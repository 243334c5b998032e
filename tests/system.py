"""A whole kernel on a scripted model, in memory, for every suite."""

from typing import Any, Protocol

from aoskernel import Kernel


class System(Protocol):
    """Makes the default kernel; each keyword is a service's table in the configuration."""

    def __call__(self, script: Any = None, /, **tables: dict[str, Any]) -> Kernel: ...


def scripted_kernel(
    script: Any = None, /, *, routes: dict[str, Any] | None = None, **tables: dict[str, Any]
) -> Kernel:
    """The default kernel, whose model says what the script says, or what it was told."""
    model = {"driver": "scripted", "script": script or (lambda ask: ask.messages[-1].text)}
    policy = {"allow": ("llm.complete:*", "tools.call:*")}
    lasting = {"storage": {"driver": "memory"}, "memory": {"use": "memory_by_words"}}
    services = {"policy": policy, **lasting, **tables}
    services["llm.default"] = {**model, **tables.get("llm.default", {})}
    return Kernel.from_config(services=services, routes=routes or {})
