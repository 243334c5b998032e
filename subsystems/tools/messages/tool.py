"""A tool, and the things in the world that a call of it touches."""

from typing import Literal, NamedTuple
from urllib.parse import urlsplit

from ....kernel.message import Effect, Value
from ...llm.messages import JsonObject, ToolSpec

Kind = Literal["path", "url", "resource"]
"""What a name names: a file or directory, a URL, or something the tool's own."""
Access = Literal["read", "write", "delete"]


class Touch(Value):
    """What a tool does with the thing that one of its arguments names.

    `below` is the directory where relative paths begin.
    """

    argument: str
    kind: Kind
    access: Access
    below: str = ""


class Resource(NamedTuple):
    """A thing that a call touches. A path is absolute where its tool says where it begins.

    It is as the caller wrote it: `..` and links in it are still to be followed.
    """

    kind: Kind
    name: str
    access: Access

    @property
    def host(self) -> str:
        """Of a URL, whom it asks, in small letters; empty where it names nobody."""
        try:
            return (urlsplit(self.name).hostname or "").rstrip(".") if self.kind == "url" else ""
        except ValueError:
            return ""


class Tool(Value):
    """A tool that can be called: what the model sees, what a retry may do, who has it.

    `reconciles`: it can say what became of a call. `refuses_repeats`: a key that it has seen
    it does not take again. `touches`: what its arguments name; none where that is not declared.
    """

    spec: ToolSpec
    effect: Effect
    address: str
    reconciles: bool = False
    refuses_repeats: bool = False
    touches: tuple[Touch, ...] = ()

    @property
    def name(self) -> str:
        return self.spec.name


def resources(tool: Tool, arguments: JsonObject) -> tuple[Resource, ...]:
    """What a call with these arguments touches, as far as its tool declares it.

    An argument that is left out counts as its default, a list as all that is in it.
    """
    return tuple(
        Resource(touch.kind, _placed(touch, name), touch.access)
        for touch in tool.touches
        for name in _named(touch.argument, tool, arguments)
    )


def _named(argument: str, tool: Tool, arguments: JsonObject) -> list[str]:
    properties = tool.spec.parameters.get("properties")
    declared = properties.get(argument) if isinstance(properties, dict) else None
    default = declared.get("default") if isinstance(declared, dict) else None
    given = arguments.get(argument, default)
    values = given if isinstance(given, list) else [given]
    return [str(value) for value in values if isinstance(value, str | int)]


def _placed(touch: Touch, name: str) -> str:
    is_relative = touch.kind == "path" and touch.below and not name.startswith("/")
    return f"{touch.below.rstrip('/')}/{name}" if is_relative else name
