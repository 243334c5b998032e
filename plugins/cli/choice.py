"""Which configuration, and which model of it."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ...kernel import ConfigError
from ...kernel.config import Config, RouteConfig, installed, load
from ...subsystems.llm.driver import Fetchable
from . import vendors
from .exits import ExitCode, Stop

HERE = Path("aosk.toml")
DEFAULT = "llm.default"
TOPICS = ("llm.complete", "llm.count", "llm.describe")
ACCOUNT = ("api_key", "base_url", "region", "proxy")
"""What one model of a vendor shares with its others."""


def find(path: Path | None) -> Path | None:
    """The file to use: the named one, the one that is here, or none."""
    return path or (HERE if HERE.exists() else None)


def addresses(config: Config) -> list[str]:
    """Whom a model can be asked at: the configured models, and the aliases of some of them."""
    return [a for a, keys in config.services.items() if _service(a, keys) in ("llm", "alias")]


def models(config: Config) -> list[str]:
    """The configured models, each of which has a driver."""
    return [a for a in addresses(config) if _service(a, config.services[a]) == "llm"]


def with_model(config: Config, model: str | None) -> Config:
    """The configuration with this model as the one that answers. Raises Stop.

    A model file, or a vendor's model, takes the place of llm.default, so that what may use
    that may use it.
    """
    if model is None:
        return config
    for address in (model, f"llm.{model}"):
        if address in addresses(config):
            return _answering(config, address)
    table = _of_a_file(config, model) or _of_a_vendor(config, model)
    if table is None:
        raise _unknown(config, model)
    services = {**config.services, DEFAULT: table}
    return _answering(config.model_copy(update={"services": services}), DEFAULT)


def fetchables() -> Iterator[tuple[str, Fetchable]]:
    """The installed drivers that know model files."""
    for name in sorted(installed("aoskernel.drivers.llm")):
        try:
            driver = load("aoskernel.drivers.llm", name, "driver for llm")
        except ConfigError:
            continue  # `aosk drivers` says why
        if hasattr(driver, "weights") and hasattr(driver, "fetch"):
            yield name, driver()


def workspace(config: Config) -> Path:
    """The directory that the file tools are kept in."""
    tables = (keys for keys in config.services.values() if keys.get("driver") == "files")
    return Path(next(tables, {}).get("root", ".")).expanduser().absolute()


def _of_a_file(config: Config, model: str) -> dict[str, Any] | None:
    """The service's table for a model file, known by name or given by its path."""
    driver = next((name for name, d in fetchables() if model in _names(d)), None)
    if driver is None and model.endswith(".gguf"):
        driver = "llamacpp"
    if driver is None:
        return None
    table = config.services.get(DEFAULT, {})
    table = table if table.get("driver") == driver else {"driver": driver}
    return {**table, "model": model}


def _of_a_vendor(config: Config, model: str) -> dict[str, Any] | None:
    """The service's table for a model of a vendor, whose account may be configured. Raises Stop."""
    offer = vendors.meant(model)
    if offer is None:
        return None
    mine = {"driver": offer.driver, "vendor": offer.vendor.name}
    tables = (keys for keys in config.services.values() if mine.items() <= keys.items())
    account = {key: value for key, value in next(tables, {}).items() if key in ACCOUNT}
    if not {"api_key", "base_url"} & set(account):
        vendors.ready(offer)
    region = {"region": offer.region} if offer.region else {}
    return {**mine, "model": offer.name, **account, **region}


def _unknown(config: Config, model: str) -> Stop:
    known = sorted(name for _, d in fetchables() for name in _names(d))
    close = vendors.near(model)
    hint = f" Near: {', '.join(close)}." if close else ""
    return Stop(
        f"no model {model!r}.{hint} Configured: {', '.join(addresses(config))}; files known by "
        f"name: {', '.join(known)}; or give the path of a .gguf file, or a model of a vendor "
        "(`aosk models list --vendor NAME`).",
        ExitCode.USAGE,
    )


def _answering(config: Config, address: str) -> Config:
    routes = dict(config.routes)
    for topic in TOPICS:
        route = routes.get(topic, RouteConfig())
        routes[topic] = route.model_copy(update={"default": address})
    return config.model_copy(update={"routes": routes})


def _names(driver: Fetchable) -> list[str]:
    return [weights.name for weights in driver.weights()]


def _service(address: str, keys: dict[str, object]) -> object:
    return keys.get("use", address.partition(".")[0])
