"""Arithmetic: one tool, `calculate`."""

from dataclasses import dataclass, field
from typing import Annotated

from pydantic import Field

from ...subsystems.tools import driver as d
from ._arithmetic import Wrong
from ._arithmetic import calculate as value_of

Expression = Annotated[
    str, Field(description="such as 0.1 + 0.2, 3 * (4 - 1) ** 2, round(sqrt(2), 4)")
]


@d.tool(effect="none")
def calculate(expression: Expression) -> str:
    """Calculate an arithmetic expression exactly. There are + - * / // % **, pi, e, abs, ceil,
    exp, factorial, floor, ln, log, max, min, round, sqrt, sin, cos, tan.
    """
    try:
        return value_of(expression)
    except Wrong as error:
        raise d.ToolFailed(f"calculate: {error}") from error


@dataclass(kw_only=True)
class Calculator:
    """A tool that calculates, without a language behind it."""

    _tool: d.FunctionTool = field(
        default_factory=lambda: d.FunctionTool(calculate), init=False, repr=False
    )

    async def start(self) -> None:
        """Nothing to acquire."""

    async def stop(self) -> None:
        """Nothing to release."""

    async def offers(self) -> tuple[d.Offer, ...]:
        return (d.Offer(spec=self._tool.spec, effect=self._tool.effect),)

    async def call(self, name: str, arguments: d.JsonObject, key: str) -> d.JsonValue:
        if name != self._tool.name:
            raise d.UnknownTool.among(name, [self._tool.name])
        return await self._tool.call(arguments, key)
