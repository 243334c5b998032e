"""The kernel's own suite runs on virtual time: no test waits for a clock."""

from typing import Any

from aoskernel.kernel.testing import VirtualLoop


def pytest_asyncio_loop_factories(config: Any, item: Any) -> dict[str, Any]:
    return {"virtual": VirtualLoop}
