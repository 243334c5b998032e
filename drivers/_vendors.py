"""The table of vendors: rows of facts, not code."""

import tomllib
from functools import cache
from pathlib import Path

from ..subsystems.llm.driver import Vendor, VendorModel, Wire

TABLE = Path(__file__).with_name("vendors.toml")


@cache
def table() -> dict[str, Vendor]:
    """Every row, by name."""
    rows = tomllib.loads(TABLE.read_text("utf-8"))
    return {name: Vendor.model_validate({"name": name, **row}) for name, row in rows.items()}


def speaking(wire: Wire) -> tuple[Vendor, ...]:
    """The vendors that speak this wire."""
    return tuple(vendor for vendor in table().values() if wire in vendor.endpoints)


def find_model(vendor: Vendor, name: str) -> VendorModel | None:
    """The vendor's model of this name: by its own entry, else by the longest pattern."""
    fitting = [model for model in vendor.models if _fits(model.name, name)]
    return max(fitting, key=lambda model: (model.name == name, len(model.name)), default=None)


def _fits(pattern: str, name: str) -> bool:
    return name.startswith(pattern[:-1]) if pattern.endswith("*") else name == pattern
