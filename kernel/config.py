"""Configuration: TOML, then environment, then keyword arguments; one schema; secrets by name.

This is the one place where it is decided which service and which driver is used.
"""

import difflib
import inspect
import os
import tomllib
import types
import typing
from collections.abc import Callable, Iterable, Mapping
from importlib import import_module
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from pydantic import Field, SecretStr, ValidationError, create_model, model_validator

from .errors import ConfigError
from .message import Value
from .service import Service

ENV = "AOSKERNEL__"
DEFAULTS = Path(__file__).resolve().parent.parent / "defaults.toml"


class KernelConfig(Value):
    """`[kernel]`. Times in seconds."""

    drain_s: float = Field(default=10.0, ge=0)
    """How long calls inside a service may finish when it is stopped or swapped."""
    start_s: float = Field(default=120.0, gt=0)
    """How long a service may take to start."""
    slow_start_s: float = Field(default=10.0, gt=0)
    """After so long a warning names the service that is still starting, with its stack."""


class RouteConfig(Value):
    """`[routes]`: guards in order; `off` removes; `default` addresses requests without `to=`."""

    guards: tuple[str, ...] = ()
    off: tuple[str, ...] = ()
    default: str | None = None

    @model_validator(mode="before")
    @classmethod
    def _from_list(cls, value: Any) -> Any:
        return {"guards": value} if isinstance(value, list | tuple) else value

    def under(self, user: "RouteConfig") -> "RouteConfig":
        """Merge a user's route over this one: by name, in the user's order, nothing lost."""
        order = list(user.guards)
        for position, guard in enumerate(self.guards):
            if guard not in order:
                before = [g for g in self.guards[:position] if g in order]
                order.insert(order.index(before[-1]) + 1 if before else 0, guard)
        return RouteConfig(
            guards=tuple(order),
            off=tuple(dict.fromkeys(self.off + user.off)),
            default=user.default or self.default,
        )


class Config(Value):
    """The whole configuration, checked."""

    kernel: KernelConfig = KernelConfig()
    routes: dict[str, RouteConfig] = {}
    services: dict[str, dict[str, Any]] = {}

    @classmethod
    def load(cls, path: str | os.PathLike[str] | None = None, **overrides: Any) -> "Config":
        """Defaults, then the file, then the environment, then keyword arguments."""
        layers = [_read(DEFAULTS), _read(Path(path)) if path is not None else {}]
        merged = _merge_all(layers)
        layers += [_environment(merged, os.environ), overrides]
        routes: dict[str, RouteConfig] = {}
        for layer in layers:
            for topic, route in layer.get("routes", {}).items():
                user = _checked(RouteConfig, f"routes.{topic}", route)
                routes[topic] = routes[topic].under(user) if topic in routes else user
        return _checked(cls, "", {**_merge_all(layers), "routes": routes})

    def build(self) -> list[Service]:
        """Make every configured service."""
        return [build(name, table) for name, table in self.services.items()]


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"no config file {path}; `aosk init` writes one") from None
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"cannot read {path}: {error}") from error


def _merge_all(layers: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    merged: dict[str, Any] = {}
    for layer in layers:
        for key, value in layer.items():
            old = merged.get(key)
            both = isinstance(old, Mapping) and isinstance(value, Mapping)
            merged[key] = _merge_all([old, value]) if both and "env" not in value else value
    return merged


def _environment(known: Mapping[str, Any], environ: Mapping[str, str]) -> dict[str, Any]:
    """AOSKERNEL__SERVICES__LLM_DEFAULT__DRIVER=scripted; "_" stands for "." in known names."""
    layer: dict[str, Any] = {}
    for name, text in environ.items():
        if name.startswith(ENV):
            place, table, around = layer, known, name.removeprefix(ENV).lower().split("__")
            for part in around[:-1]:
                key = next((k for k in table if k.replace(".", "_").lower() == part), part)
                place = place.setdefault(key, {})
                table = table.get(key) or {}
            try:
                place[around[-1]] = tomllib.loads(f"value = {text}")["value"]
            except tomllib.TOMLDecodeError:
                place[around[-1]] = text
    return layer


def _checked(model: Any, where: str, value: Any) -> Any:
    """Validate; the error names the key and what could stand there instead."""
    try:
        return model.model_validate(value)
    except ValidationError as error:
        raise ConfigError(_explain(error, where, list(model.model_fields))) from None


def _explain(error: ValidationError, where: str, known: list[str]) -> str:
    told = []
    for problem in error.errors():
        key = ".".join(filter(None, [where, *map(str, problem["loc"])]))
        if problem["type"] == "extra_forbidden":
            near = difflib.get_close_matches(str(problem["loc"][-1]), known, 1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            told.append(f"unknown key {key!r}{hint} Known: {', '.join(sorted(known))}")
        elif problem["type"] == "missing":
            told.append(f"{key!r} must be set")
        else:
            told.append(f"{key!r}: {problem['msg']}")
    return "config: " + "; ".join(told)


def build(name: str, table: Mapping[str, Any]) -> Service:
    """Make one service from its table: `use` names the class, `driver` its driver."""
    keys = {key: _resolve(name, key, value) for key, value in table.items()}
    service = load("aoskernel.services", keys.pop("use", name.partition(".")[0]), "service")
    if not (isinstance(service, type) and issubclass(service, Service)):
        raise ConfigError(f"services.{name}: {service!r} is not a Service class")
    where, built = f"services.{name}", {}
    if service.driver:
        if "driver" not in keys:
            names = ", ".join(sorted(installed(f"aoskernel.drivers.{service.driver}")))
            raise ConfigError(f"{where} needs a driver; installed: {names}")
        driver = load(
            f"aoskernel.drivers.{service.driver}",
            keys.pop("driver"),
            f"driver for {service.driver}",
        )
        own = set(_parameters(service)) - {"driver"}
        of_driver = {key: keys.pop(key) for key in tuple(keys) if key not in own}
        built["driver"] = construct(driver, where, of_driver, known=own)
    return construct(service, where, keys, **built).named(name)


def construct(
    make: Callable[..., Any],
    where: str,
    keys: Mapping[str, Any],
    known: Iterable[str] = (),
    **built: Any,
) -> Any:
    """Call a constructor with config keys, checked against its typed parameters."""
    fields = {k: v for k, v in _parameters(make).items() if k not in built}
    for key, value in keys.items():
        if key in fields and _is_secret(fields[key][0]) and not isinstance(value, SecretStr):
            raise ConfigError(
                f"{where}.{key} is a secret and must not stand in the config; "
                f'write {key} = {{ env = "NAME" }} and set that variable'
            )
    plain = {k: v.get_secret_value() if isinstance(v, SecretStr) and k in fields
             and not _is_secret(fields[k][0]) else v for k, v in keys.items()}  # fmt: skip
    model = create_model(where, __config__={"extra": "forbid", "arbitrary_types_allowed": True},
                         **typing.cast(Any, fields))  # fmt: skip
    try:
        checked = model.model_validate(plain)
    except ValidationError as error:
        raise ConfigError(_explain(error, where, [*fields, *known])) from None
    try:
        return make(**{k: getattr(checked, k) for k in checked.model_fields_set}, **built)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"{where}: {error}") from error


def _parameters(make: Callable[..., Any]) -> dict[str, tuple[Any, Any]]:
    target = make.__init__ if isinstance(make, type) else make  # type: ignore[misc]
    if target is object.__init__:
        return {}
    hints = typing.get_type_hints(target, include_extras=True)
    found = list(inspect.signature(make).parameters.values())
    return {
        p.name: (hints.get(p.name, Any), ... if p.default is p.empty else p.default)
        for p in found
        if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)
    }


def _is_secret(kind: Any) -> bool:
    if typing.get_origin(kind) in (typing.Union, types.UnionType):
        return any(_is_secret(part) for part in typing.get_args(kind))
    return kind is SecretStr


def _resolve(name: str, key: str, value: Any) -> Any:
    if not (isinstance(value, Mapping) and set(value) == {"env"}):
        return value
    if value["env"] not in os.environ:
        raise ConfigError(
            f"services.{name}.{key} is read from the environment variable {value['env']}, "
            f"which is not set; set it, or remove the service {name!r}"
        )
    return SecretStr(os.environ[value["env"]])


def installed(group: str) -> dict[str, str]:
    """Entry points of a group: name -> "package.module:Class"."""
    return {point.name: point.value for point in entry_points(group=group)}


def load(group: str, name: str, what: str) -> Any:
    """An entry point's object, or the one that "package.module:Class" names."""
    if ":" not in name:
        points = installed(group)
        if name not in points:
            near = difflib.get_close_matches(name, points, 1)
            hint = f"did you mean {near[0]!r}? " if near else ""
            raise ConfigError(
                f"no {what} named {name!r}; {hint}installed: {', '.join(sorted(points)) or 'none'}"
            )
        name = points[name]
    module, _, path = name.partition(":")
    try:
        found: Any = import_module(module)
        for part in path.split("."):
            found = getattr(found, part)
    except (ImportError, AttributeError) as error:
        raise ConfigError(f"cannot load {what} {name!r}: {error}") from error
    return found
