"""Keys in the environment: what would use them. Nothing here reads a key."""

import os
from collections.abc import Iterator

from ...kernel.config import Config, installed

PROVIDERS = {
    "ANTHROPIC_API_KEY": "anthropic",
    "DEEPSEEK_API_KEY": "openai",
    "OPENAI_API_KEY": "openai",
}
"""Which driver would speak with the key's owner."""


def hints(config: Config) -> Iterator[str]:
    """For each key that is set, the `--model` that uses it, or why there is none."""
    drivers = installed("aoskernel.drivers.llm")
    for key, driver in PROVIDERS.items():
        if key not in os.environ:
            continue
        users = [name for name, keys in config.services.items() if {"env": key} in keys.values()]
        if users:
            yield f"{key} is set, and `--model {users[0]}` would use it."
        elif driver in drivers:
            yield (
                f'{key} is set; no configured model uses it: add a service "llm.NAME" with '
                f'driver = "{driver}" and api_key = {{ env = "{key}" }}, then `--model llm.NAME`.'
            )
        else:
            yield f"{key} is set; nothing uses it: no driver {driver!r} is installed."
