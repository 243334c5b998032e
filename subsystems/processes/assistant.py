"""The assistant: think, call the tools the model asks for, until it asks for none."""

from typing import Self

from pydantic import BaseModel, JsonValue

from ...kernel.errors import KernelError
from ..tools.messages import FINDER
from .program import Exit, Process, Program

SYSTEM = "You are a careful assistant. Use the tools when they help. Answer briefly."


ENOUGH = "Answer now, from what you have read: "


class Conclusion(BaseModel):
    """What the model must come to in the end."""

    answer: str


class StepLimit(KernelError):
    """The assistant took as many steps as it may, and was not done."""


class Assistant(Program[str], name="assistant", version="1"):
    """A task, worked at with tools; its result is the model's last answer.

    `tools` are the names it may use, all there are when None. `model` is an address. When
    it only asks for what it has had, it is told to answer from that.
    """

    task: str
    system: str = SYSTEM
    tools: tuple[str, ...] | None = None
    model: str | None = None
    max_steps: int = 20
    max_tokens: int | None = None
    steps: int = 0
    asked: tuple[str, ...] = ()
    found: tuple[str, ...] = ()

    async def step(self, process: Process) -> Self | Exit[str]:
        if self.steps == 0:
            await process.note(self.system, role="system")
        reply = await process.think(
            self.task if self.steps == 0 else None,
            tools=self.tools,
            found=self.found,
            model=self.model,
            max_tokens=self.max_tokens,
        )
        if not reply.tool_calls:
            return Exit(reply.text)
        if self.steps + 1 >= self.max_steps:
            raise StepLimit(f"not done after {self.max_steps} steps; more with max_steps=")
        results = await process.attempt_all(reply.tool_calls)
        asked = tuple(f"{call.name}{call.arguments}" for call in reply.tool_calls)
        if set(asked) <= set(self.asked):  # it turns in circles
            last = await process.think(
                ENOUGH + self.task, schema=Conclusion, model=self.model, max_tokens=self.max_tokens
            )
            return Exit(last.answer)
        pairs = zip(reply.tool_calls, results, strict=True)
        new = [name for call, told in pairs if call.name == FINDER for name in _named(told)]
        found = tuple(dict.fromkeys((*self.found, *new)))
        return self.next(steps=self.steps + 1, asked=(*self.asked, *asked), found=found)


def _named(told: JsonValue) -> list[str]:
    """The tools that a search has found; a failure is text, and found none."""
    return list(told) if isinstance(told, dict) else []


assistant = Assistant
"""Spawn it: `await spawn(kernel, assistant(task="..."))`."""
