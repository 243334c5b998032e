"""Which of the calls that a model asks for at once must be made in their order.

Two that touch the same thing must, if one of them changes it, and two that spend money; and two
of one toolset of which one changes something, unless both say what they touch.
"""

import posixpath
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from functools import partial
from itertools import product
from typing import TYPE_CHECKING, Any, TypeVar
from unicodedata import normalize

import anyio

from ..llm.messages import ToolCall
from ..tools.messages import FindTools, Resource, Tool, resources
from .syscall import Suspended

if TYPE_CHECKING:
    from .live import Live
    from .service import Processes

T = TypeVar("T")


def clash(one: tuple[Tool, ToolCall], other: tuple[Tool, ToolCall]) -> bool:
    """Must these two be made one after the other?"""
    tools = one[0], other[0]
    if all(tool.effect == "none" for tool in tools):
        return False
    if tools[0].address == tools[1].address and not all(tool.touches for tool in tools):
        return True
    touched = (resources(tool, call.arguments) for tool, call in (one, other))
    return any(_meet(a, b) for a, b in product(*touched))


def _meet(one: Resource, other: Resource) -> bool:
    if one.kind != other.kind or one.access == other.access == "read":
        return False
    if one.kind != "path":
        return one.kind == "spend" or one.name == other.name
    here, there = _plain(one.name), _plain(other.name)
    return here == there or here.startswith(f"{there}/") or there.startswith(f"{here}/")


def _plain(path: str) -> str:
    """So that two spellings are one, as they are to some file systems."""
    return normalize("NFKC", posixpath.normpath(path)).casefold().rstrip("/")


class Order:
    """Calls of one turn, each of which begins when the earlier ones it clashes with are over.

    A call whose turn it is counts as at work, lest its process is parked at that moment.
    """

    def __init__(self, live: "Live", calls: Sequence[ToolCall], tools: Mapping[str, Tool]) -> None:
        self._live = live
        known = [(tools[call.name], call) if call.name in tools else None for call in calls]
        self._after: list[list[int]] = [[] for _ in calls]
        self._left = [0] * len(calls)
        self._free = [anyio.Event() for _ in calls]
        self._called: set[int] = set()
        for late, call in enumerate(known):
            for early, before in enumerate(known[:late]):
                if call is not None and before is not None and clash(before, call):
                    self._after[early].append(late)
                    self._left[late] += 1

    async def run(self, number: int, work: Callable[[], Awaitable[T]]) -> T:
        """Do the work of this call in its turn. When one fails, those after it never begin."""
        try:
            await self._turn(number)
            result = await work()
        except Suspended:
            self._over(number)  # whoever goes on now was done before, or is suspended too
            raise
        self._over(number)
        return result

    async def _turn(self, number: int) -> None:
        try:
            if self._left[number]:
                await self._free[number].wait()
        finally:
            if number in self._called:
                self._called.remove(number)
                self._live.open -= 1

    def _over(self, number: int) -> None:
        for late in self._after[number]:
            self._left[late] -= 1
            if not self._left[late]:
                self._called.add(late)
                self._live.open += 1
                self._free[late].set()


async def in_order(
    service: "Processes",
    live: "Live",
    calls: Sequence[ToolCall],
    make: Callable[[ToolCall], Coroutine[Any, Any, T]],
) -> list[Coroutine[Any, Any, T]]:
    """What makes each of these calls in its turn, to be run side by side."""
    known = {tool.name: tool for tool in await service.request(FindTools())}
    order = Order(live, calls, known)
    return [order.run(number, partial(make, call)) for number, call in enumerate(calls)]
