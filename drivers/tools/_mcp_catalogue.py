"""The tools of an MCP server as ours: pinned, sorted, and trusted as far as config says.

What a server says of its tools is read by models, so it is bounded and holds no control
characters. A tool that cannot be offered is left out, with the reason; the others are.
"""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import mcp_types as types
from jsonschema import Draft202012Validator
from jsonschema.exceptions import SchemaError
from referencing import Registry
from referencing.exceptions import Unresolvable

from ...subsystems.tools import driver as d

NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
"""What every provider takes."""
NO_NAME = re.compile(r"[^A-Za-z0-9_-]+")
LONGEST = 4096
"""Characters of a description."""
LARGEST = 64 * 1024
"""Characters of a schema."""
DEEPEST = 32


@dataclass(frozen=True)
class McpTool:
    """A tool as it is offered, and its name at the server."""

    offer: d.Offer
    remote: str
    digest: str
    validator: Any

    def taken(self, arguments: d.JsonObject) -> d.JsonObject:
        """What the server gets. Raises BadArguments.

        No reference in the schema is fetched from anywhere; where there is one that leads
        outside, only the server can check. Models write null for what they leave out.
        """
        try:
            problems = list(self.validator.iter_errors(arguments))
            idle = {error.absolute_path[0] for error in problems if self._is_idle(error)}
            if idle:
                return self.taken({k: v for k, v in arguments.items() if k not in idle})
        except Unresolvable:
            return arguments
        if problems:
            told = [(_path(error.absolute_path), error.message[:500]) for error in problems]
            raise d.BadArguments.at(self.offer.spec.name, told)
        return arguments

    def _is_idle(self, error: Any) -> bool:
        """Is it about a null in an argument that may be left out?"""
        required = self.offer.spec.parameters.get("required")
        where = list(error.absolute_path)
        needed = isinstance(required, list) and where[:1] != [] and where[0] in required
        return len(where) == 1 and error.instance is None and not needed


@dataclass(frozen=True)
class Choice:
    """What of a server is offered, under which names, and what may be believed of it."""

    prefix: str = ""
    only: tuple[str, ...] | None = None
    effects: Mapping[str, d.Effect] = field(default_factory=dict)
    touches: Mapping[str, tuple[d.Touch, ...]] = field(default_factory=dict)
    trust_hints: bool = False
    pin: Path | None = None


@dataclass(frozen=True)
class Catalogue:
    """The tools by name, sorted; and those left out, with the reason."""

    tools: dict[str, McpTool] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)

    def without(self, problems: Mapping[str, str]) -> "Catalogue":
        """The same, but for those tools."""
        tools = {name: tool for name, tool in self.tools.items() if name not in problems}
        return Catalogue(tools, {**self.left_out, **problems})

    def drift(self, now: "Catalogue") -> tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]:
        """What was added since, removed, and changed in description or schema."""
        added, removed = now.tools.keys() - self.tools, self.tools.keys() - now.tools
        changed = {
            name
            for name in now.tools.keys() & self.tools
            if now.tools[name].digest != self.tools[name].digest
        }
        return tuple(sorted(added)), tuple(sorted(removed)), tuple(sorted(changed))


def catalogue(listed: list[types.Tool], malformed: Mapping[str, str], by: Choice) -> Catalogue:
    """What is offered of that list. Nothing is lost silently."""
    tools: dict[str, McpTool] = {}
    left_out = {by.prefix + name: why for name, why in malformed.items()}
    for tool in listed:
        name = by.prefix + NO_NAME.sub("_", tool.name)
        if by.only is not None and tool.name not in by.only:
            continue
        if name in tools:
            left_out[tool.name] = f"the server has another tool named {name!r}"
        elif not NAME.fullmatch(name):
            left_out[tool.name[:80]] = "a name has 1 to 64 letters, digits, _ or -"
        else:
            try:
                tools[name] = _tool(name, tool, by)
            except ValueError as error:
                left_out[name] = str(error)
    known = {tool.name for tool in listed}
    for option, names in (
        ("only", by.only or ()),
        ("effects", by.effects),
        ("touches", by.touches),
    ):
        for name in names:
            if name not in known:
                left_out.setdefault(by.prefix + name, f"the server has no such tool ({option})")
    return Catalogue(dict(sorted(tools.items())), left_out)


def _tool(name: str, tool: types.Tool, by: Choice) -> McpTool:
    """Raises ValueError for a schema that cannot be used, or that lacks an argument of `touches`."""
    schema = clean(tool.input_schema)
    text = json.dumps(schema, sort_keys=True, ensure_ascii=False)
    if len(text) > LARGEST:
        raise ValueError(f"its schema has {len(text):,} characters; {LARGEST:,} are the most")
    try:
        Draft202012Validator.check_schema(schema)
    except SchemaError as error:
        raise ValueError(f"its schema is no JSON schema: {error.message[:200]}") from error
    description = clean(tool.description or tool.title or "")
    spec = d.ToolSpec(name=name, description=_short(description), parameters=json.loads(text))
    digest = hashlib.sha256(f"{tool.name}\0{description}\0{text}".encode()).hexdigest()
    validator = Draft202012Validator(schema, registry=Registry())
    offer = d.Offer(spec=spec, effect=_effect(tool, by), touches=_touches(tool, schema, by))
    return McpTool(offer, tool.name, digest, validator)


def _touches(tool: types.Tool, schema: Any, by: Choice) -> tuple[d.Touch, ...]:
    touches, properties = by.touches.get(tool.name, ()), schema.get("properties")
    known = properties if isinstance(properties, dict) else {}
    for problem in filter(None, (touch.problem(known) for touch in touches)):
        raise ValueError(f"touches: {problem}")
    return touches


def _effect(tool: types.Tool, by: Choice) -> d.Effect:
    hints = tool.annotations
    if tool.name in by.effects:
        return by.effects[tool.name]
    if not by.trust_hints or hints is None:
        return "once"
    if hints.read_only_hint:
        return "none"
    return "idempotent" if hints.idempotent_hint else "once"


def _short(text: str) -> str:
    return text if len(text) <= LONGEST else text[: LONGEST - 1] + "…"


def clean(value: Any, depth: int = 0) -> Any:
    """The same without control and invisible formatting characters, in every text of it.

    Raises ValueError where it is nested too deeply.
    """
    if depth > DEEPEST:
        raise ValueError(f"its schema is nested more than {DEEPEST} deep")
    match value:
        case str():
            return "".join(c for c in value if c.isprintable() or c in "\n\t")
        case dict():
            return {clean(key): clean(item, depth + 1) for key, item in value.items()}
        case list():
            return [clean(item, depth + 1) for item in value]
        case _:
            return value


def _path(parts: Any) -> str:
    return (
        "".join(f"[{p}]" if isinstance(p, int) else f".{p}" for p in parts).lstrip(".") or "(all)"
    )


class Pins:
    """A lock file: of each tool, the digest of what it was when somebody accepted it.

    The first list that is seen makes the file. A tool that is new or has changed since is left
    out until its line is corrected or the file is deleted.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def refused(self, now: Catalogue) -> dict[str, str]:
        """Those that must not be offered. Raises ConfigError for a file that is no lock file."""
        digests = {name: tool.digest for name, tool in now.tools.items()}
        pinned = self._read()
        if pinned is None:
            self._path.write_text(json.dumps(digests, indent=1, sort_keys=True) + "\n", "utf-8")
            return {}
        return {
            name: f"it {'has changed' if name in pinned else 'is new'} since {self._path} was "
            f'written; to accept it, put "{name}": "{digest}" there'
            for name, digest in digests.items()
            if pinned.get(name) != digest
        }

    def _read(self) -> dict[str, str] | None:
        try:
            pinned = json.loads(self._path.read_text("utf-8"))
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            raise d.ConfigError(f"pin: cannot read {self._path}: {error}") from error
        if not isinstance(pinned, dict):
            raise d.ConfigError(f"pin: {self._path} is no lock file of tools")
        return pinned
