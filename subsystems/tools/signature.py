"""What a function takes: its typed parameters as a JSON schema, and arguments checked by it."""

import inspect
import json
import re
from collections.abc import Callable, Iterator
from typing import Annotated, Any, NamedTuple, NewType, get_args, get_type_hints

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError, create_model
from pydantic.errors import PydanticUserError
from pydantic.json_schema import GenerateJsonSchema

from ...kernel.secrets import is_sensitive, keep
from ..llm.messages import JsonObject
from .messages import Access, BadArguments, Kind, Touch

IDENTIFIER = re.compile(r"[A-Za-z_]\w*")

IdempotencyKey = NewType("IdempotencyKey", str)
"""A parameter of this type is not the model's to fill: it gets the call's key.

The key is the same when the call is repeated after a crash, so that a shop or a bank can
recognise an order that it has already.
"""


class Touches(NamedTuple):
    """Says what a parameter names, and what the tool does with that.

    `path: Annotated[str, Touches("path", "write")]`. A policy rules by it, and calls of one turn
    that touch the same thing are not made at the same time.

    `amount: Annotated[Decimal, Touches("spend", currency="EUR")]` is money that a call spends, in
    whole units; in place of the currency's code may stand the parameter that says it.
    """

    kind: Kind
    access: Access = "read"
    currency: str = ""


class _Schema(GenerateJsonSchema):
    """A schema for a model to read: without titles, and without defaults JSON cannot say."""

    def field_title_should_be_set(self, schema: Any) -> bool:
        return False

    def emit_warning(self, kind: Any, detail: str) -> None:
        pass


class Signature:
    """The parameters of a tool's function.

    `schema` is what a model sees of them, and `touches` what they name.
    """

    def __init__(self, name: str, function: Callable[..., Any]) -> None:
        """Raises TypeError where it does not say all that a schema needs."""
        self._name = name
        self._positional: list[str] = []
        self._keys: list[str] = []
        self._arguments: list[str] = []
        self._sensitive: list[str] = []
        touches: list[Touch] = []
        fields: dict[str, Any] = {}
        hints = _hints(name, function)
        for parameter in inspect.signature(function).parameters.values():
            hint = _checked(name, parameter, hints)
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
        self.schema = self._model.model_json_schema(schema_generator=_Schema)
        self.schema.pop("title")
        _hide(self._sensitive, self.schema)
        self.touches = tuple(touches)
        for problem in filter(None, (touch.problem(self._arguments) for touch in touches)):
            raise TypeError(f"tool {name!r}: {problem}")

    def bind(self, arguments: JsonObject, key: str) -> tuple[list[Any], dict[str, Any]]:
        """What to call the function with, by place and by name. Raises BadArguments."""
        try:
            checked = self._model.model_validate_json(json.dumps(arguments))
        except ValidationError as error:
            problems = _problems(error, arguments, self._arguments)
            raise BadArguments.at(self._name, problems) from error
        for name in self._sensitive:
            if isinstance(value := arguments.get(name), str):
                keep(value)
        values = [getattr(checked, field) for field in self._model.model_fields]
        named = dict(zip(self._arguments, values, strict=True)) | dict.fromkeys(self._keys, key)
        return [named.pop(name) for name in self._positional], named


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
            access = "spend" if mark.kind == "spend" else mark.access
            yield Touch(argument=name, kind=mark.kind, access=access, currency=mark.currency)


def _hide(names: list[str], schema: dict[str, Any]) -> None:
    """Take parameters out of what the model sees."""
    for name in names:
        del schema["properties"][name]
        if name in schema.get("required", ()):
            schema["required"].remove(name)


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
