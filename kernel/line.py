"""Lines: tasks that wait in order for something to become true."""

import asyncio
from collections import deque
from collections.abc import Callable


class Line:
    """First come, first served; only the first in line ever looks whether it may go."""

    __slots__ = ("turns",)

    def __init__(self) -> None:
        self.turns: deque[asyncio.Future[None]] = deque()

    def wake(self) -> None:
        """Let the first look; to be called whenever what it waits for may have come true."""
        if self.turns and not self.turns[0].done():
            self.turns[0].set_result(None)

    async def wait(self, may_go: Callable[[], bool]) -> None:
        """Stand in line until `may_go()`; take what that allows before the next await."""
        if not self.turns and may_go():
            return
        loop = asyncio.get_running_loop()
        turn: asyncio.Future[None] = loop.create_future()
        self.turns.append(turn)
        try:
            await turn
            while not may_go():
                self.turns[0] = turn = loop.create_future()
                await turn
        finally:
            self.turns.remove(turn)
            self.wake()
