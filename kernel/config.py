"""Configuration: TOML, then environment, then keyword arguments; one schema; secrets by name.

This is the one place where it is decided which service and which driver is used.
"""

import inspect
import os
import tomllib
import typing
from collections.abc import Callable, Iterable, Mapping
from functools import cache, reduce
from importlib import import_module
from pathlib import Path
from typing import Any

import pydantic
from pydantic import ConfigDict, Field, SecretStr, ValidationError

from .errors import ConfigError, nearest
from .message import Value
from .secrets import keep
from .service import Service

ENV = "AOSKERNEL__"
WHO = ("use", "driver")
DEFAULTS = Path(__file__).resolve().parent.parent / "defaults.toml"

Table = Mapping[str, Any]
PathLike = str | os.PathLike[str] | None
V = typing.TypeVar("V", bound=Value)


class KernelConfig(Value):
    """`[kernel]`. Times in seconds."""

    drain_s: float = Field(default=10.0, ge=0)
    """How long calls inside a service may finish when it is stopped or swapped."""
    start_s: float = Field(default=120.0, gt=0)
    """How long a service may take to start."""
    slow_start_s: float = Field(default=10.0, gt=0)
    """After so long a warning names the service that is still starting, with its stack."""
    log_format: typing.Literal["text", "json"] = "text"
    """How `aosk up` writes its log; an application configures `logging` as it likes."""


class RouteConfig(Value):
    """`[routes]`: guards in order; `off` removes; `default` addresses requests without `to=`.

    An `optional` route (those of the defaults are) may name a request that nobody handles.
    """

    guards: tuple[str, ...] = ()
    off: tuple[str, ...] = ()
    default: str | None = None
    optional: bool = False

    @pydantic.model_validator(mode="before")
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
            optional=self.optional and user.optional,
        )


class Config(Value):
    """The whole configuration, checked."""

    kernel: KernelConfig = KernelConfig()
    routes: dict[str, RouteConfig] = Field(default_factory=dict)
    services: dict[str, dict[str, Any]] = Field(default_factory=dict)

    @classmethod
    def load(cls, path: PathLike = None, **overrides: Any) -> "Config":
        """Defaults, then the file, then the environment, then keyword arguments."""
        defaults, file = _read(DEFAULTS), {} if path is None else _read(Path(path))
        layers = [file, _environment(_merge(defaults, file), os.environ), overrides]
        configs = [_checked(cls, layer) for layer in (defaults, *layers)]
        for name, default in configs[0].services.items():
            tables = [config.services.get(name, {}) for config in configs[1:]]
            if any(t.get(k, default.get(k)) != default.get(k) for t in tables for k in WHO):
                del defaults["services"][name]  # its keys were another driver's
        routes = {t: r.model_copy(update={"optional": True}) for t, r in configs[0].routes.items()}
        for config in configs[1:]:
            for topic, route in config.routes.items():
                routes[topic] = routes[topic].under(route) if topic in routes else route
        for layer in layers:
            defaults = _merge(defaults, layer)
        return _checked(cls, {**defaults, "routes": routes})

    def build(self) -> list[Service]:
        """Make every configured service."""
        return [build(name, table) for name, table in self.services.items()]


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"no config file {path}; `aosk init` writes one") from None
    except (OSError, ValueError) as error:
        raise ConfigError(f"cannot read {path}: {error}") from error


def _merge(under: Table, over: Table) -> dict[str, Any]:
    merged = dict(under)
    for key, value in over.items():
        old = merged.get(key)
        both = isinstance(old, Mapping) and isinstance(value, Mapping) and not _is_named(value)
        merged[key] = _merge(typing.cast(Table, old), value) if both else value
    return merged


def _is_named(value: Table) -> bool:
    """Is it { env = "NAME" }?"""
    return isinstance(value.get("env"), str)


class FromEnvironment(str):
    """Text that came from the environment, where secrets may come from."""


def _environment(known: Table, environ: Mapping[str, str]) -> dict[str, Any]:
    """AOSKERNEL__SERVICES__LLM_DEFAULT__DRIVER=scripted; "_" stands for "." in known names."""
    layer: dict[str, Any] = {}
    for name in sorted(key for key in environ if key.startswith(ENV)):
        place, table, text = layer, known, environ[name]
        *path, last = name.removeprefix(ENV).lower().split("__")
        for part in path:
            key = next((k for k in table if k.replace(".", "_").lower() == part), part)
            place, inner = place.setdefault(key, {}), table.get(key)
            table = inner if isinstance(inner, Mapping) else {}
            if not isinstance(place, dict):
                raise ConfigError(f"{name}: {key} is set to a value already, it has no parts")
        try:
            is_toml = text[:1] in ("[", "{")
            place[last] = tomllib.loads(f"v = {text}")["v"] if is_toml else FromEnvironment(text)
        except ValueError as error:
            raise ConfigError(f"{name} looks like TOML but is not: {error}") from error
    return layer


def _checked(model: type[V], value: Any) -> V:
    try:
        return model.model_validate(value)
    except ValidationError as error:
        raise ConfigError(_explain(error, [], model.model_fields)) from None


def _explain(error: ValidationError, where: list[str], known: Iterable[str]) -> str:
    """Name each key, and what could stand there instead."""
    told = []
    for problem in error.errors(include_url=False, include_input=False):
        path = [*where, *map(str, problem["loc"])]
        key = ".".join(path)
        if problem["type"] == "extra_forbidden":
            inner = {"kernel": KernelConfig.model_fields, "routes": RouteConfig.model_fields}
            fields = inner.get(path[0], known) if len(path) > 1 else known
            told.append(f"unknown key {key!r}; {nearest(path[-1], fields)}")
        elif problem["type"] == "missing":
            told.append(f"{key!r} must be set")
        else:
            told.append(f"{key!r}: {problem['msg']}")
    return "config: " + "; ".join(told)


def build(name: str, table: Table) -> Service:
    """Make one service from its table: `use` names the class, `driver` its driver."""
    where, built = f"services.{name}", {}
    keys = {key: _resolve(f"{where}.{key}", value) for key, value in table.items()}
    service = load("aoskernel.services", keys.pop("use", name.partition(".")[0]), "service")
    if not (isinstance(service, type) and issubclass(service, Service)):
        raise ConfigError(f"{where}: {service!r} is not a Service class")
    if service.driver:
        group, what = f"aoskernel.drivers.{service.driver}", f"driver for {service.driver}"
        if "driver" not in keys:
            raise ConfigError(f"{where} needs a driver; {nearest('', installed(group))}")
        driver, own = load(group, keys.pop("driver"), what), _parameters(service)
        of_driver = {key: keys.pop(key) for key in tuple(keys) if key not in own}
        built["driver"] = construct(driver, where, of_driver, known=own)
    made: Service = construct(service, where, keys, **built)
    return made.named(name)


def construct(
    make: Callable[..., Any], where: str, keys: Table, known: Iterable[str] = (), **built: Any
) -> Any:
    """Call a constructor with config keys, checked against its typed parameters."""
    fields = {name: field for name, field in _parameters(make).items() if name not in built}
    for key, value in keys.items():
        kind = fields[key][0] if key in fields else Any
        secret = SecretStr in (kind, *typing.get_args(kind))
        if secret and not isinstance(value, FromEnvironment | SecretStr | None):
            raise ConfigError(
                f"{where}.{key} is a secret and must not stand in the config; "
                f'write {key} = {{ env = "NAME" }} and set that variable'
            )
    config = ConfigDict(extra="forbid", arbitrary_types_allowed=True, protected_namespaces=())
    model = pydantic.create_model(where, __config__=config, **typing.cast(Any, fields))
    try:
        checked = model.model_validate(keys)
        for value in vars(checked).values():
            if isinstance(value, SecretStr):
                keep(value.get_secret_value())
        return make(**{key: getattr(checked, key) for key in checked.model_fields_set}, **built)
    except ValidationError as error:
        raise ConfigError(_explain(error, where.split("."), [*fields, *known])) from None
    except (TypeError, ValueError) as error:
        raise ConfigError(f"{where}: {error}") from error


def _parameters(make: Callable[..., Any]) -> dict[str, tuple[Any, Any]]:
    """The constructor's parameters: name -> (type, default)."""
    return {
        p.name: (
            Any if p.annotation is p.empty else p.annotation,
            ... if p.default is p.empty else p.default,
        )
        for p in inspect.signature(make, eval_str=True).parameters.values()
        if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)
    }


def _resolve(where: str, value: Any) -> Any:
    """Put environment variables where { env = "NAME" } stands."""
    if isinstance(value, list):
        return [_resolve(where, item) for item in value]
    if not isinstance(value, Mapping):
        return value
    if set(value) != {"env"}:
        return {key: _resolve(f"{where}.{key}", item) for key, item in value.items()}
    if value["env"] not in os.environ:
        raise ConfigError(
            f"{where} is read from the environment variable {value['env']}, which is not set; "
            f"set it, or remove the service {where.split('.')[1]!r}"
        )
    return FromEnvironment(keep(os.environ[value["env"]]))


@cache
def installed(group: str) -> Mapping[str, str]:
    """Entry points of a group: name -> "package.module:Class". A boot asks a dozen times; one look is enough."""
    from importlib.metadata import entry_points  # 15 ms that a bare kernel does not need

    return {point.name: point.value for point in entry_points(group=group)}


def load(group: str, name: str, what: str) -> Any:
    """An entry point's object, or the one that "package.module:Class" names."""
    points = {} if ":" in name else installed(group)
    if ":" not in name and name not in points:
        raise ConfigError(f"no {what} named {name!r}; {nearest(name, points)}")
    module, _, path = points.get(name, name).partition(":")
    try:
        return reduce(getattr, path.split("."), import_module(module))
    except (ImportError, AttributeError) as error:
        raise ConfigError(f"cannot load {what} {name!r}: {error}") from error
