"""Python functions as tools: a typed signature becomes a JSON schema, and a call of it a call."""

import inspect
import re
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, TypeVar, cast, overload

from anyio import to_thread
from pydantic import JsonValue
from pydantic_core import from_json, to_json

from ...kernel.message import Effect
from ...kernel.secrets import Sensitive
from ..llm.messages import JsonObject, ToolSpec
from .messages import Reconciled, ToolError, ToolFailed, unknown
from .signature import IdempotencyKey, Signature, Touches

__all__ = ["FunctionTool", "IdempotencyKey", "Reconciler", "Sensitive", "Touches", "tool"]

NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")  # what every provider takes as a tool's name

F = TypeVar("F", bound=Callable[..., Any])

Reconciler = Callable[[str], Reconciled | Awaitable[Reconciled]]
"""Says what became of the call with this key: `done(result)`, `not_done` or `unknown`."""


@overload
def tool(function: F, /) -> F: ...
@overload
def tool(
    *, effect: Effect = "once", reconcile: Reconciler | None = None, refuses_repeats: bool = False
) -> Callable[[F], F]: ...
def tool(
    function: Any = None,
    /,
    *,
    effect: Effect = "once",
    reconcile: Reconciler | None = None,
    refuses_repeats: bool = False,
) -> Any:
    """Declare a function as a tool; it stays the function it is.

        @tool(effect="none")
        async def weather(city: Annotated[str, Field(description="a city's name")]) -> str:
            \"\"\"What the weather is like.\"\"\"

    `effect` says what a retry may do; undeclared it is "once". `reconcile` is asked what became
    of a call that a crash has cut, by its key; `refuses_repeats` promises that a key is taken
    once, however late it comes. The arguments' types and the
    first paragraph of the docstring are what the model sees. A function that is not async
    runs in a thread. Raises TypeError for an argument without a type.
    """
    declared = {
        "__tool_effect__": effect,
        "__tool_reconcile__": reconcile,
        "__tool_refuses_repeats__": refuses_repeats,
    }
    if function is None:
        return partial(_declare, declared=declared)
    return _declare(function, declared=declared)


def _declare(function: F, *, declared: dict[str, Any]) -> F:
    if next(iter(inspect.signature(function).parameters), "") != "self":
        FunctionTool(function)  # a method is checked later, when it is bound
    vars(function).update(declared)
    return function


class FunctionTool:
    """A function that can be called with JSON arguments.

    They are checked as JSON is, not as Python: "3" is taken for a number and "2026-05-01" for
    a date, a number is not taken for text, and an argument the function lacks is an error.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        """Raises TypeError where the signature does not say all that a schema needs."""
        self.function = function
        self._is_async = inspect.iscoroutinefunction(function)
        self.effect: Effect = getattr(function, "__tool_effect__", "once")
        self._reconcile: Reconciler | None = getattr(function, "__tool_reconcile__", None)
        self.refuses_repeats: bool = getattr(function, "__tool_refuses_repeats__", False)
        self.name = _name_of(function)
        self._signature = Signature(self.name, function)
        self.touches = self._signature.touches
        self.spec = ToolSpec(
            name=self.name,
            description=_first_paragraph(function),
            parameters=self._signature.schema,
        )

    async def call(self, arguments: JsonObject, key: str) -> JsonValue:
        """Check, run, and give the result as JSON. Raises BadArguments or ToolFailed.

        A function in a thread cannot be stopped: a cancelled call leaves a read behind, and
        waits for anything else to end.
        """
        try:
            placed, named = self._signature.bind(arguments, key)
            return _as_json(self.name, await self._run(placed, named))
        except ToolError:
            raise
        except (Exception, SystemExit) as error:  # the driver edge: users' code
            raise ToolFailed(f"{self.name} failed: {type(error).__name__}: {error}") from error

    @property
    def reconciles(self) -> bool:
        """Can it say what became of a call?"""
        return self._reconcile is not None

    async def reconcile(self, key: str) -> Reconciled:
        """What became of the call with this key? Raises ToolFailed when that fails."""
        if self._reconcile is None:
            return unknown
        try:
            if not inspect.iscoroutinefunction(self._reconcile):
                return cast(Reconciled, await to_thread.run_sync(self._reconcile, key))
            return cast(Reconciled, await self._reconcile(key))
        except (Exception, SystemExit) as error:  # the driver edge: users' code
            told = f"{type(error).__name__}: {error}"
            raise ToolFailed(f"{self.name} could not say what became of it: {told}") from error

    async def _run(self, placed: list[Any], named: dict[str, Any]) -> Any:
        if self._is_async:
            return await self.function(*placed, **named)
        work = partial(self.function, *placed, **named)
        result = await to_thread.run_sync(work, abandon_on_cancel=self.effect == "none")
        return await result if inspect.isawaitable(result) else result


def _name_of(function: Callable[..., Any]) -> str:
    name = getattr(function, "__name__", "")
    if not NAME.fullmatch(name):
        raise TypeError(
            f"{function!r} cannot be a tool: a tool is a function whose name has at most 64 "
            "letters, digits, - and _; write it with def"
        )
    return str(name)


def _first_paragraph(function: Callable[..., Any]) -> str:
    return " ".join((inspect.getdoc(function) or "").partition("\n\n")[0].split())


def _as_json(name: str, value: Any) -> JsonValue:
    try:
        result: JsonValue = from_json(to_json(value, inf_nan_mode="strings"))
    except ValueError as error:
        raise ToolFailed(
            f"{name} returned a {type(value).__name__} that is not JSON: {error}"
        ) from error
    return result
