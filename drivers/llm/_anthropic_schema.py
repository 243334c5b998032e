"""A JSON schema as structured outputs take it: closed objects, no limits on numbers or texts.

What they do not know is told in the description instead, so that the model may keep to it.
https://platform.claude.com/docs/en/build-with-claude/structured-outputs
"""

import json
from typing import Any

from ...subsystems.llm.driver import BadPrompt

Schema = dict[str, Any]

FORMATS = {
    *("date-time", "time", "date", "duration"),
    *("email", "hostname", "uri", "ipv4", "ipv6", "uuid"),
}
SILENT = {"$schema", "$id", "$comment", "additionalProperties"}
"""Keywords that say nothing about a reply, or nothing more when every object is closed."""


def fitted(schema: Any) -> Schema:
    """The schema in the words that are known. Raises BadPrompt where that would change it."""
    if not isinstance(schema, dict):
        raise BadPrompt(f"the schema has {schema!r} where an object with a type should stand")
    kinds = schema.get("type")
    if isinstance(kinds, list):
        return {"anyOf": [fitted({**schema, "type": kind}) for kind in kinds]}
    told: Schema = {}
    beyond: Schema = {}
    for name, value in schema.items():
        if (known := _known(name, value)) is not None:
            told |= known
        elif name not in SILENT:
            beyond[name] = value
    if kinds == "object":
        _close(schema, told)
    if beyond:
        limits = json.dumps(beyond, ensure_ascii=False, sort_keys=True)
        told["description"] = f"{told.get('description', '')}\n{limits}".strip()
    return told


def _known(name: str, value: Any) -> Schema | None:
    """This keyword as structured outputs have it; None where they do not."""
    match name:
        case "type" | "title" | "description" | "required" | "$ref":
            return {name: value}
        case "enum" if all(map(_is_plain, value)):
            return {name: value}
        case "const" if _is_plain(value):
            return {name: value}
        case "format" if value in FORMATS:
            return {name: value}
        case "minItems" if value in (0, 1):
            return {name: value}
        case "properties" | "$defs" | "definitions":
            return {name: {key: fitted(part) for key, part in value.items()}}
        case "items":
            return {name: fitted(value)}
        case "anyOf" | "allOf":
            return {name: [fitted(part) for part in value]}
        case "oneOf":
            return {"anyOf": [fitted(part) for part in value]}
    return None


def _close(schema: Schema, told: Schema) -> None:
    """Only closed objects are taken, so one whose keys are free cannot be asked for."""
    rest = schema.get("additionalProperties")
    if isinstance(rest, dict) or (rest is not False and not schema.get("properties")):
        raise BadPrompt(
            "the schema has an object whose keys are free, which cannot be held: name its "
            "properties, or make it a list of objects with a key and a value"
        )
    told["properties"] = told.get("properties", {})
    told["additionalProperties"] = False


def _is_plain(value: Any) -> bool:
    return value is None or isinstance(value, str | int | float)
