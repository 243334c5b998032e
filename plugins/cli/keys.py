"""Keys in the environment: what would use them. Nothing here reads a key."""

import os
from collections.abc import Iterator

from ...kernel.config import Config
from ...subsystems.llm.driver import Vendor
from . import vendors


def hints(config: Config) -> Iterator[str]:
    """For each vendor whose key is set, the `--model` that uses it."""
    for row in vendors.known().values():
        if row.key and os.environ.get(row.key):
            yield _hint(row, config)


def _hint(row: Vendor, config: Config) -> str:
    users = [name for name, keys in config.services.items() if _uses(keys, row)]
    if users:
        return f"{row.key} is set, and `--model {users[0]}` would use it."
    current = next((model.name for model in row.models if not model.retired), f"{row.name}:MODEL")
    return f"{row.key} is set, and `--model {current}` would use it, at {row.title}."


def _uses(keys: dict[str, object], row: Vendor) -> bool:
    if "api_key" in keys:
        return keys["api_key"] == {"env": row.key}
    return keys.get("vendor") == row.name
