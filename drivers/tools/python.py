"""Python functions as tools."""

import pkgutil
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from ...subsystems.tools import driver as d


@dataclass(kw_only=True)
class PythonTools:
    """Your own functions, or their names: `functions = ["my_package.tools:add"]`.

    Raises TypeError or ValueError for a function that cannot be a tool.
    """

    functions: tuple[Callable[..., Any] | str, ...] = ()
    _tools: dict[str, d.FunctionTool] = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self) -> None:
        for function in self.functions:
            tool = d.FunctionTool(_found(function) if isinstance(function, str) else function)
            if tool.name in self._tools:
                raise ValueError(f"functions: two are named {tool.name!r}; rename one")
            self._tools[tool.name] = tool

    async def start(self) -> None:
        """Nothing to acquire."""

    async def stop(self) -> None:
        """Nothing to release."""

    async def offers(self) -> tuple[d.Offer, ...]:
        return tuple(
            d.Offer(
                spec=tool.spec,
                effect=tool.effect,
                reconciles=tool.reconciles,
                refuses_repeats=tool.refuses_repeats,
                touches=tool.touches,
            )
            for tool in self._tools.values()
        )

    async def call(self, name: str, arguments: d.JsonObject, key: str) -> d.JsonValue:
        if name not in self._tools:
            raise d.UnknownTool.among(name, self._tools)
        return await self._tools[name].call(arguments, key)

    async def reconcile(self, name: str, key: str) -> d.Reconciled:
        """What became of the call with this key?"""
        return await self._tools[name].reconcile(key) if name in self._tools else d.unknown


def _found(name: str) -> Any:
    if ":" not in name:
        raise ValueError(f"functions: write {name!r} as package.module:function")
    try:
        return pkgutil.resolve_name(name)
    except (ImportError, AttributeError, ValueError) as error:
        raise ValueError(f"functions: cannot load {name!r}: {error}") from error
