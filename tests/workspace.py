"""A workspace and what lies beside it: the file tools, called as a process would."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest

from aoskernel.drivers.tools.files import Files
from aoskernel.subsystems.tools.messages import ToolFailed

SECRET = "what nobody inside may see"
TOOLS: dict[str, dict[str, Any]] = {
    "read_file": {},
    "list_files": {},
    "search_files": {"query": "what"},
}


@asynccontextmanager
async def opened(root: Path, **config: Any) -> AsyncIterator[Callable[..., Any]]:
    """Call a tool of a started driver: `await call("read_file", path=...)`."""
    files = Files(root=root, **config)
    await files.start()

    async def call(name: str, under_key: str = "", **arguments: Any) -> Any:
        with anyio.fail_after(20):
            return await files.call(name, arguments, under_key)

    try:
        yield call
    finally:
        await files.stop()


async def read(root: Path, path: str, **more: Any) -> Any:
    async with opened(root) as call:
        return await call("read_file", path=path, **more)


async def refusal(root: Path, path: str, tool: str = "read_file", **more: Any) -> str:
    async with opened(root) as call:
        with pytest.raises(ToolFailed) as caught:
            await call(tool, path=path, **more)
    return str(caught.value)
