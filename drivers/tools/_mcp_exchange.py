"""One exchange with an MCP server that is under way: its patience, its progress, its questions."""

import math
from collections.abc import Awaitable, Callable
from contextvars import ContextVar

import anyio
import mcp_types as types

from ...subsystems.tools import driver as d
from ._mcp_form import BadAnswer, Params, filled, question

LONGEST = 500
"""Characters of what a server says of its progress."""
LAST_WORDS_S = 5.0
"""For withdrawing a question."""
TRIES = 3
"""Answers that do not fit a form until the server hears that there is none."""

current: "ContextVar[Exchange | None]" = ContextVar("aoskernel_mcp_exchange", default=None)
"""The exchange that this task makes."""


class Exchange:
    """Its patience ends after so long without a sign of life; a human may take any time."""

    def __init__(self, name: str, host: d.Host, patience_s: float) -> None:
        self._name, self._host, self._patience_s = name, host, patience_s
        self._ask = host.asker()
        self._questions: dict[anyio.CancelScope, anyio.Event] = {}
        self.patience = anyio.CancelScope()
        self.renew()

    def renew(self) -> None:
        """It lives."""
        waiting = math.inf if self._questions else anyio.current_time() + self._patience_s
        self.patience.deadline = waiting

    async def end(self) -> None:
        """Nobody waits for answers any more; what is asked is withdrawn first."""
        with anyio.move_on_after(LAST_WORDS_S, shield=True):
            while self._questions:
                scope, withdrawn = next(iter(self._questions.items()))
                scope.cancel()
                await withdrawn.wait()

    async def progress(self, progress: float, total: float | None, message: str | None) -> None:
        self.renew()
        await self._host.progressed(self._name, progress, total, (message or "")[:LONGEST])

    async def elicit(self, server: str, params: Params) -> types.ElicitResult:
        """What a human answers, as the server wants it."""
        with anyio.CancelScope() as scope:
            self._questions[scope] = anyio.Event()
            self.renew()
            try:
                return await _answered(self._ask, server, params)
            finally:
                self._questions.pop(scope).set()
                self.renew()
        return types.ElicitResult(action="cancel")


async def _answered(
    ask: Callable[[d.ToolAsks], Awaitable[None]], server: str, params: Params
) -> types.ElicitResult:
    problem = ""
    for _ in range(TRIES):
        asked = question(server, params, problem)
        await ask(asked)
        try:
            return filled(params, asked.answer)
        except BadAnswer as error:
            problem = f"The answer {asked.answer!r} does not fit: {error}\n"
    return types.ElicitResult(action="cancel")
