"""The event loop of a command: uvloop's where it is installed, which does the same, faster."""

from collections.abc import Awaitable, Callable
from importlib.util import find_spec
from typing import TypeVar, TypeVarTuple

import anyio

T = TypeVar("T")
Ts = TypeVarTuple("Ts")


def run(work: Callable[[*Ts], Awaitable[T]], *given: *Ts) -> T:
    """Run it to its end."""
    faster = find_spec("uvloop") is not None
    return anyio.run(work, *given, backend_options={"use_uvloop": faster})
