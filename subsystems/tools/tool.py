"""Python functions as tools: a typed signature becomes a JSON schema, and a call of it a call."""

import inspect
import json
import re
from collections.abc import Awaitable, Callable, Iterator
from functools import partial
from typing import (
    Annotated,
    Any,
    NamedTuple,
    NewType,
    TypeVar,
    cast,
    get_args,
    get_type_hints,
    overload,
)

from anyio import to_thread
from pydantic import (
    ConfigDict,
    Field,
    JsonValue,
    TypeAdapter,
    ValidationError,
    create_model,
)
from pydantic.errors import PydanticUserError
from pydantic.json_schema import GenerateJsonSchema
from pydantic_core import from_json, to_json

from ...kernel.message import Effect
from ...kernel.secrets import Sensitive, is_sensitive, keep
from ..llm.messages import JsonObject, ToolSpec
from .messages import Access, BadArguments, Kind, Reconciled, ToolError, ToolFailed, Touch, unknown

__all__ = ["FunctionTool", "IdempotencyKey", "Reconciler", "Sensitive", "Touches", "tool"]

IdempotencyKey = NewType("IdempotencyKey", str)
"""A parameter of this type is not the model's to fill: it gets the call's key.

The key is the same when the call is repeated after a crash, so that a shop or a bank can
recognise an order that it has already.
"""


class Touches(NamedTuple):
    """Says what a parameter names, and what the tool does with that.

    `path: Annotated[str, Touches("path", "write")]`. A policy rules by it, and calls of one turn
    that touch the same thing are not made at the same time.
    """

    kind: Kind
    access: Access = "read"


NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")  # what every provider takes as a tool's name
IDENTIFIER = re.compile(r"[A-Za-z_]\w*")

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


class _Schema(GenerateJsonSchema):
    """A schema for a model to read: without titles, and without defaults JSON cannot say."""

    def field_title_should_be_set(self, schema: Any) -> bool:
        return False

    def emit_warning(self, kind: Any, detail: str) -> None:
        pass


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
        self._positional: list[str] = []
        self._keys: list[str] = []
        self._arguments: list[str] = []
        self._sensitive: list[str] = []
        touches: list[Touch] = []
        fields: dict[str, Any] = {}
        hints = _hints(self.name, function)
        for parameter in inspect.signature(function).parameters.values():
            hint = _checked(self.name, parameter, hints)
            if parameter.kind is parameter.POSITIONAL_ONLY:
                self._positional.append(parameter.name)
            if hint is IdempotencyKey:
                self._keys.append(parameter.name)
                continue
            # The alias frees the names: pydantic's own attributes (`json`, `copy`) are taken.
            aliased = Annotated[hint, Field(alias=parameter.name)]  # type: ignore[valid-type]
            default = ... if parameter.default is parameter.empty else parameter.default
            fields[f"argument_{len(fields)}"] = (aliased, default)
            self._arguments.append(parameter.name)
            touches += _touched(parameter.name, hint)
            if is_sensitive(hint):
                self._sensitive.append(parameter.name)
        config = ConfigDict(extra="forbid")
        self._model = create_model("Arguments", __config__=config, **fields)
        schema = self._model.model_json_schema(schema_generator=_Schema)
        schema.pop("title")
        _hide(self._sensitive, schema)
        description = _first_paragraph(function)
        self.spec = ToolSpec(name=self.name, description=description, parameters=schema)
        self.touches = tuple(touches)

    async def call(self, arguments: JsonObject, key: str) -> JsonValue:
        """Check, run, and give the result as JSON. Raises BadArguments or ToolFailed.

        A function in a thread cannot be stopped: a cancelled call leaves a read behind, and
        waits for anything else to end.
        """
        try:
            named = self._bind(arguments, key)
            placed = [named.pop(name) for name in self._positional]
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

    def _bind(self, arguments: JsonObject, key: str) -> dict[str, Any]:
        try:
            checked = self._model.model_validate_json(json.dumps(arguments))
        except ValidationError as error:
            problems = _problems(error, arguments, self._arguments)
            raise BadArguments.at(self.name, problems) from error
        for name in self._sensitive:
            if isinstance(value := arguments.get(name), str):
                keep(value)
        values = [getattr(checked, field) for field in self._model.model_fields]
        return dict(zip(self._arguments, values, strict=True)) | dict.fromkeys(self._keys, key)

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


def _hints(name: str, function: Callable[..., Any]) -> dict[str, Any]:
    try:
        return get_type_hints(function, include_extras=True)
    except NameError as error:
        raise TypeError(f"tool {name!r}: {error}; define that type above the function") from error


def _checked(name: str, parameter: inspect.Parameter, hints: dict[str, Any]) -> Any:
    """The parameter's type, if a JSON argument can fill it."""
    where = f"tool {name!r}: argument {parameter.name!r}"
    if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
        raise TypeError(f"tool {name!r}: {parameter} has no schema; name each argument")
    if parameter.name == "self" and "self" not in hints:
        raise TypeError(f"tool {name!r} is a method; pass it bound, as thing.{name}")
    if parameter.name not in hints:
        raise TypeError(f"{where} has no type; write for example {parameter.name}: str")
    hint = hints[parameter.name]
    try:
        if hint is not IdempotencyKey:
            TypeAdapter(hint).json_schema(schema_generator=_Schema)
    except PydanticUserError as error:
        raise TypeError(f"{where} has a type that JSON cannot fill: {hint!r}") from error
    return hint


def _touched(name: str, hint: Any) -> Iterator[Touch]:
    for mark in get_args(hint):
        if isinstance(mark, Touches):
            yield Touch(argument=name, kind=mark.kind, access=mark.access)


def _hide(names: list[str], schema: dict[str, Any]) -> None:
    """Take parameters out of what the model sees."""
    for name in names:
        del schema["properties"][name]
        if name in schema.get("required", ()):
            schema["required"].remove(name)


def _first_paragraph(function: Callable[..., Any]) -> str:
    return " ".join((inspect.getdoc(function) or "").partition("\n\n")[0].split())


def _problems(
    error: ValidationError, arguments: JsonObject, known: list[str]
) -> Iterator[tuple[str, str]]:
    for problem in error.errors(include_url=False, include_context=False, include_input=False):
        steps, kind, what = problem["loc"], problem["type"], problem["msg"]
        lost = steps[-1:] if kind == "missing" else ()
        path = _path(steps, arguments) + "".join(map(_step, lost))
        if kind == "extra_forbidden" and len(steps) == 1:
            what = f"no such argument; there are: {', '.join(known) or 'none'}"
        yield path.removeprefix(".") or "arguments", what


def _path(steps: tuple[int | str, ...], value: Any) -> str:
    """Where in the arguments. A step that is not there names a branch of a union: no place."""
    path = ""
    for step in steps:
        listed = isinstance(value, list) and isinstance(step, int)
        if listed or (isinstance(value, dict) and step in value):
            path += _step(step)
            value = value[step]
    return path


def _step(step: int | str) -> str:
    plain = isinstance(step, str) and IDENTIFIER.fullmatch(step)
    return f".{step}" if plain else f"[{json.dumps(step)}]"


def _as_json(name: str, value: Any) -> JsonValue:
    try:
        result: JsonValue = from_json(to_json(value, inf_nan_mode="strings"))
    except ValueError as error:
        raise ToolFailed(
            f"{name} returned a {type(value).__name__} that is not JSON: {error}"
        ) from error
    return result
