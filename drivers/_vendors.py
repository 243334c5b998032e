"""The table of vendors: rows of facts, not code."""

import tomllib
from functools import cache
from pathlib import Path
from typing import Any

from ..subsystems.llm.driver import Vendor, Wire

TABLE = Path(__file__).with_name("vendors.toml")


@cache
def table() -> dict[str, Vendor]:
    """Every row, by name."""
    rows = tomllib.loads(TABLE.read_text("utf-8"))
    return {name: _vendor(name, **row) for name, row in rows.items()}


def speaking(wire: Wire) -> tuple[Vendor, ...]:
    """The vendors that speak this wire."""
    return tuple(vendor for vendor in table().values() if wire in vendor.endpoints)


def _vendor(name: str, *, each: Any = None, models: Any = (), **row: Any) -> Vendor:
    """A row with `each` written out into its models."""
    told = [_completed(model, each or {}) for model in models]
    return Vendor.model_validate({"name": name, "models": told, **row})


def _completed(model: dict[str, Any], each: dict[str, Any]) -> dict[str, Any]:
    """The model's entry; only the prices that it has are completed."""
    told = {**model, "can": {**each.get("can", {}), **model.get("can", {})}}
    if "price" in model:
        told["price"] = {**each.get("price", {}), **model["price"]}
    common = each.get("regional", {})
    told["regional"] = {
        region: {**common.get(region, {}), **price}
        for region, price in model.get("regional", {}).items()
    }
    return told
