"""A process of this command's own kernel, watched to its end."""

from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import anyio

from ...kernel import Event, Kernel
from ...kernel.config import Config
from ...subsystems.llm.messages import Delta
from ...subsystems.processes.messages import ProcessExited
from ...subsystems.processes.program import ProcessRef
from . import output
from .desk import alone, at_hand
from .progress import Progress
from .view import View

Begin = Callable[[Kernel], Awaitable[ProcessRef[Any]]]
"""Gives the process to watch; it may be at work already."""
Leave = Callable[[ProcessRef[Any]], Awaitable[None]]
"""What becomes of it when nobody waits for it any more: Ctrl-C, or a closed pipe."""

LEAVE_S = 5


@asynccontextmanager
async def foreground(config: Config) -> AsyncIterator[Kernel]:
    """A kernel of this configuration that leaves alone what others have left behind."""
    config = alone(config)
    async with (
        at_hand(config),
        Kernel(*config.build(), config=config.kernel, routes=config.routes) as kernel,
    ):
        yield kernel


class Watch:
    """Shows what a process does, and notes how it is going."""

    def __init__(self, view: View) -> None:
        self._view, self.progress = view, Progress()
        self._all_said = anyio.Event()

    async def to_the_end(self, kernel: Kernel, begin: Begin, leave: Leave) -> ProcessRef[Any]:
        """Begin it and follow it. Returns when it has ended, well or not."""
        with self._view.shown():
            async with kernel.listen("*") as events, anyio.create_task_group() as tasks:
                tasks.start_soon(self._follow, events)
                agent = await begin(kernel)
                try:
                    async for delta in agent.stream():
                        self._view.said(delta)
                except BaseException:
                    with anyio.move_on_after(LEAVE_S, shield=True):
                        await leave(agent)
                    raise
                self._all_said.set()
        return agent

    def done(self, answer: str) -> None:
        """It came to its end with this answer."""
        self._view.done(answer)
        if self.progress.finish == "length":
            output.tell("The answer was cut: the model wrote as many tokens as it may.")

    async def _follow(self, events: AsyncIterable[Event]) -> None:
        """Take note of events until the process has ended, which is told last."""
        async for event in events:
            if isinstance(event, ProcessExited):
                await self._all_said.wait()
            if not isinstance(event, Delta):  # those come by the stream, where none is dropped
                self.progress.take(event)
                self._view.heard(event, self.progress)
            if isinstance(event, ProcessExited):
                return
