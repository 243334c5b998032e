"""Which configuration, and which model of it."""

from collections.abc import Iterator
from pathlib import Path

from ...kernel import ConfigError
from ...kernel.config import Config, RouteConfig, installed, load
from ...subsystems.llm.driver import Fetchable
from .exits import ExitCode, Stop

HERE = Path("aosk.toml")
DEFAULT = "llm.default"
TOPICS = ("llm.complete", "llm.count", "llm.describe")


def find(path: Path | None) -> Path | None:
    """The file to use: the named one, the one that is here, or none."""
    return path or (HERE if HERE.exists() else None)


def addresses(config: Config) -> list[str]:
    """The configured models."""
    return [a for a, keys in config.services.items() if _service(a, keys) == "llm"]


def with_model(config: Config, model: str | None) -> Config:
    """The configuration with this model as the one that answers. Raises Stop.

    A model file takes the place of llm.default, so that what may use that may use it.
    """
    if model is None:
        return config
    for address in (model, f"llm.{model}"):
        if address in addresses(config):
            return _answering(config, address)
    driver = next((name for name, d in fetchables() if model in _names(d)), None)
    if driver is None and model.endswith(".gguf"):
        driver = "llamacpp"
    if driver is None:
        known = sorted(name for _, d in fetchables() for name in _names(d))
        raise Stop(
            f"no model {model!r}. Configured: {', '.join(addresses(config))}; known by name: "
            f"{', '.join(known)}; or give the path of a .gguf file.",
            ExitCode.USAGE,
        )
    table = config.services.get(DEFAULT, {})
    table = table if table.get("driver") == driver else {"driver": driver}
    services = {**config.services, DEFAULT: {**table, "model": model}}
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
