"""What an MCP server asks of a human: a form or an address, as a question and its answer."""

import json
from typing import Any

import mcp_types as types
from jsonschema import Draft202012Validator
from jsonschema.exceptions import SchemaError
from referencing import Registry

from ...subsystems.tools import driver as d
from ._mcp_catalogue import clean

DECLINE, ACCEPT = "decline", "accept"
LONGEST = 4000
"""Characters of a question."""

Params = types.ElicitRequestFormParams | types.ElicitRequestURLParams


class BadAnswer(ValueError):
    """The answer does not fit the form; says where."""


def question(server: str, params: Params, problem: str = "") -> d.ToolAsks:
    """Put to whoever answers `aosk asks`. A server's words, so it is said whose they are."""
    said = f"{problem}{server} asks: {clean(params.message)}"
    if isinstance(params, types.ElicitRequestURLParams):
        told = f"{said}\nIt wants you to open {clean(params.url)}"
        return d.ToolAsks(told[:LONGEST], choices=(ACCEPT, DECLINE))
    fields = _fields(params)
    (only,) = fields.values() if len(fields) == 1 else (None,)
    if only is not None and (choices := _choices(only)):
        return d.ToolAsks(said[:LONGEST], choices=(*choices, DECLINE))
    told = "; ".join(f"{name}: {_told(field)}" for name, field in fields.items())
    how = f'answer with JSON, "{ACCEPT}" for what is the default, or "{DECLINE}"'
    return d.ToolAsks(f"{said}\n{clean(told)} ({how})"[:LONGEST])


def filled(params: Params, answer: str | None) -> types.ElicitResult:
    """What the server hears. Raises BadAnswer."""
    if answer is None:
        return types.ElicitResult(action="cancel")
    if answer == DECLINE:
        return types.ElicitResult(action="decline")
    if isinstance(params, types.ElicitRequestURLParams):
        return types.ElicitResult(action="accept")
    content = {**_defaults(params), **({} if answer == ACCEPT else _read(params, answer))}
    validator = Draft202012Validator(dict(params.requested_schema), registry=Registry())
    try:
        problems = [error.message for error in validator.iter_errors(content)]
    except SchemaError as error:
        raise BadAnswer(f"the form is no valid one: {error.message}") from error
    if problems:
        raise BadAnswer("; ".join(problems))
    return types.ElicitResult(action="accept", content=content)


def _fields(params: types.ElicitRequestFormParams) -> dict[str, Any]:
    fields = params.requested_schema.get("properties")
    return fields if isinstance(fields, dict) else {}


def _choices(field: dict[str, Any]) -> tuple[str, ...]:
    if field.get("type") == "boolean":
        return ("true", "false")
    options = field.get("oneOf")
    titled = [one.get("const") for one in options] if isinstance(options, list) else []
    values = field.get("enum") or titled
    texts = isinstance(values, list) and all(isinstance(value, str) for value in values)
    return tuple(values) if texts else ()


def _told(field: dict[str, Any]) -> str:
    what = field.get("description") or field.get("title") or ""
    kind = "/".join(_choices(field)) or field.get("type", "text")
    default = f", default {field['default']!r}" if "default" in field else ""
    return f"{kind}{default}{f', {what}' if what else ''}"


def _defaults(params: types.ElicitRequestFormParams) -> dict[str, Any]:
    fields = _fields(params).items()
    return {name: field["default"] for name, field in fields if "default" in field}


def _read(params: types.ElicitRequestFormParams, answer: str) -> dict[str, Any]:
    """A JSON object; or, where one thing is asked for, that thing as it is."""
    fields = _fields(params)
    try:
        said = json.loads(answer)
    except ValueError:
        said = answer
    if isinstance(said, dict):
        return said
    if len(fields) != 1:
        raise BadAnswer(f"it must be a JSON object with {', '.join(fields)}")
    ((name, field),) = fields.items()
    return {name: answer if field.get("type") == "string" else said}
