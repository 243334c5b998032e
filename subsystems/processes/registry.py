"""Programs by the names that a configuration gives them."""

import pkgutil
from collections.abc import Iterator
from types import ModuleType
from typing import Any

from ...kernel.errors import ConfigError
from .program.definition import Definition


def definitions(name: str) -> Iterator[Definition[Any]]:
    """The program of this name, or all of a module. Raises ConfigError."""
    try:
        found = pkgutil.resolve_name(name)
    except (ImportError, AttributeError, ValueError) as error:
        raise ConfigError(f"services.processes.programs: cannot load {name!r}: {error}") from error
    if not isinstance(found, ModuleType):
        yield _definition(found) or _no_program(name)
        return
    loaded = {id(d): d for d in map(_definition, vars(found).values()) if d is not None}
    yield from loaded.values() or [_no_program(name)]


def _definition(thing: Any) -> Definition[Any] | None:
    """What a function with `@program` is, and what a `Program` class has."""
    definition = getattr(thing, "definition", None) if isinstance(thing, type) else thing
    return definition if isinstance(definition, Definition) else None


def _no_program(name: str) -> Definition[Any]:
    raise ConfigError(
        f"services.processes.programs: {name!r} is no program and has none; write "
        "package.module, or package.module:name of a function with @program or of a Program"
    )
