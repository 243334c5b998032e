"""`aosk limits`: which limits are configured, and how the shared ones stand."""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

from ...kernel.config import Config, build
from ...subsystems.storage.messages import ReadRates, ReadSeats, SharedRate, SharedSeats
from . import loop, output
from .desk import configured, opened
from .exits import Stop

COLUMNS = ("of", "per", "requests", "input", "output", "tokens", "at once", "shared")
KEYS = ("requests", "input_tokens", "output_tokens", "tokens", "concurrency")
UNSEEN = (
    "Limits that are not shared, and circuits, are in each kernel's memory and cannot be seen "
    "from here: ask a kernel (ReadLimits, ReadCircuits) or hear limiter.* and breaker.*."
)


def limits(config_file: Path | None, *, as_json: bool) -> None:
    """Tables, and what cannot be seen."""
    config = configured(config_file)
    told = _configured(config)
    shared, why = _shared(config, told)
    if as_json:
        seen = {
            "shared": [_document(rate) for rate in shared.rates],
            "places": [asdict(seats) for seats in shared.seats],
        }
        output.document({"ok": True, "limits": told, **seen, "unseen": why or UNSEEN})
        return
    if told:
        output.table(COLUMNS, map(_row, told))
    else:
        output.tell("No limits; a provider that refuses its key for a while is believed.")
    if shared.rates:
        print()
        output.table(("shared", "left", "of", "one more each"), map(_rate, shared.rates))
    if shared.seats:
        print()
        output.table(("shared", "held", "of", "kernels that wait"), map(_seats, shared.seats))
    output.tell(why or UNSEEN)


def _configured(config: Config) -> list[dict[str, Any]]:
    """As they are written, where a limiter could work by them."""
    table = config.services.get("limiter", {})
    build("limiter", table)
    return [
        {"of": "*", "per": "account", "shared": False, **one} for one in table.get("limits", ())
    ]


class Shared(NamedTuple):
    """What is in the database: rates that are not full, and places that are held."""

    rates: tuple[SharedRate, ...] = ()
    seats: tuple[SharedSeats, ...] = ()


def _shared(config: Config, told: list[dict[str, Any]]) -> tuple[Shared, str | None]:
    """Or why there is nothing to see."""
    if not any(one["shared"] for one in told):
        return Shared(), None
    try:
        return loop.run(_read, config), None
    except Stop as stop:
        return Shared(), f"Of the shared ones nothing can be seen: {stop}"


async def _read(config: Config) -> Shared:
    async with opened(config) as kernel:
        return Shared(await kernel.request(ReadRates()), await kernel.request(ReadSeats()))


def _row(limit: Mapping[str, Any]) -> tuple[str, ...]:
    rates = (str(limit.get(key, "")) for key in KEYS)
    return (limit["of"], limit["per"], *rates, "yes" if limit["shared"] else "")


def _rate(rate: SharedRate) -> tuple[str, ...]:
    return (rate.name, f"{rate.left:.4g}", f"{rate.burst:g}", f"{rate.each_s:.4g} s")


def _seats(seats: SharedSeats) -> tuple[str, ...]:
    return (seats.name, str(seats.held), str(seats.places), str(seats.waiting or ""))


def _document(rate: SharedRate) -> dict[str, Any]:
    return {"name": rate.name, "left": rate.left, "burst": rate.burst, "each_s": rate.each_s}
