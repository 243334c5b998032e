"""What every suite may use: a whole kernel on a scripted model."""

from collections.abc import Callable
from typing import Any

import pytest

from aoskernel import Kernel

System = Callable[..., Kernel]


@pytest.fixture
def system() -> System:
    """Makes the default kernel on a scripted model: `system(script, processes={...})`."""

    def make(script: Any = None, **tables: dict[str, Any]) -> Kernel:
        model = {"driver": "scripted", "script": script or (lambda ask: ask.messages[-1].text)}
        policy = {"allow": ("llm.complete:*", "tools.call:*")}
        services = {"policy": policy, **tables}
        services["llm.default"] = {**model, **tables.get("llm.default", {})}
        return Kernel.from_config(services=services)

    return make
