"""Which vendors the installed drivers know, and which of their models a name means."""

import os
from collections.abc import Iterator
from datetime import date
from difflib import get_close_matches
from typing import NamedTuple

from ...kernel import ConfigError
from ...kernel.config import installed, load
from ...subsystems.llm.driver import Catalogue, Vendor, VendorModel, Wire
from . import output
from .exits import ExitCode, Stop

DRIVERS = "aoskernel.drivers.llm"


class Offer(NamedTuple):
    """A vendor's model under the name that it is asked by; `known` is what the table says."""

    vendor: Vendor
    name: str
    region: str
    known: VendorModel | None

    @property
    def driver(self) -> Wire:
        return spoken(self.vendor)[0]


def known() -> dict[str, Vendor]:
    """Every vendor that an installed driver speaks to, by name."""
    found = {row.name: row for driver in _catalogues() for row in driver.vendors()}
    return dict(sorted(found.items()))


def spoken(vendor: Vendor) -> list[Wire]:
    """The vendor's wires that there is a driver for, the one it is best spoken to by first."""
    return [wire for wire in vendor.endpoints if wire in installed(DRIVERS)]


def is_set(vendor: Vendor) -> bool:
    """Whether its key is in the environment, or it needs none."""
    return not vendor.key or bool(os.environ.get(vendor.key))


def meant(name: str) -> Offer | None:
    """What this name means at a vendor, None where it means nothing. Raises Stop.

    A model's name is enough where one vendor has it, its maker before those who resell it;
    else `VENDOR:MODEL`, and where a vendor has regions `VENDOR@REGION:MODEL`.
    """
    rows = known()
    before, colon, model = name.partition(":")
    row, _, region = before.partition("@")
    if colon and row in rows:
        return _named(rows[row], model, region)
    offers = [offer for vendor in rows.values() if (offer := _offer(vendor, name))]
    makers = [offer for offer in offers if not offer.vendor.open] or offers
    if len(makers) > 1:
        choices = " or ".join(f"{offer.vendor.name}:{name}" for offer in makers)
        raise Stop(f"several vendors have a model {name!r}: write {choices}.", ExitCode.USAGE)
    return makers[0] if makers else None


def ready(offer: Offer) -> None:
    """Say what should be known before the model is asked. Raises Stop without its key."""
    vendor, model = offer.vendor, offer.known
    if model is not None and model.retired:
        output.tell(f"{offer.name} {tense(model.retired)} ({model.retired}); it is tried.")
    if not is_set(vendor):
        raise Stop(
            f"{vendor.title} needs an API key for {offer.name}: set the environment variable "
            f"{vendor.key}, and nothing else is needed.",
            ExitCode.CONFIG,
        )


def tense(retired: str) -> str:
    """Whether that day has come; a day that is not known has."""
    ahead = retired[:1].isdigit() and retired.partition(":")[0] > date.today().isoformat()
    return "will be retired" if ahead else "is retired"


def near(name: str) -> list[str]:
    """The names of models that this one may have been meant to be."""
    names = [model.name for vendor in known().values() for model in vendor.models]
    lower = {name.lower(): name for name in dict.fromkeys(names)}
    bare = name.rpartition(":")[2].lower()
    return [lower[match] for match in get_close_matches(bare, lower, 4, 0.5)]


def vendor(name: str) -> Vendor:
    """The row of this name. Raises Stop, naming those that are near."""
    rows = known()
    if name in rows:
        return rows[name]
    close = get_close_matches(name.lower(), rows, 2, 0.5)
    hint = f"Did you mean {' or '.join(close)}? " if close else ""
    raise Stop(f"no vendor {name!r}. {hint}Known: {', '.join(rows)}.", ExitCode.USAGE)


def _named(vendor: Vendor, name: str, region: str) -> Offer:
    """The model that was named with its vendor. Raises Stop."""
    regions = vendor.endpoints[spoken(vendor)[0]].regions
    if region and region not in regions:
        listed = ", ".join(regions) or "none"
        raise Stop(f"{vendor.title} has no region {region!r}; it has: {listed}.", ExitCode.USAGE)
    offer = _offer(vendor, name)
    if offer is not None:
        return offer._replace(region=region)
    if vendor.open and name:
        return Offer(vendor, name, region, None)
    close = get_close_matches(name, [model.name for model in vendor.models], 4, 0.3)
    raise Stop(
        f"{vendor.title} has no model {name!r}. Near: {', '.join(close) or 'none'}; "
        f"`aosk models list --vendor {vendor.name}` shows all.",
        ExitCode.USAGE,
    )


def _offer(vendor: Vendor, name: str) -> Offer | None:
    found = vendor.model(name)
    if found is not None:
        return Offer(vendor, name, "", found)
    alike = (model for model in vendor.models if model.name.lower() == name.lower())
    return next((Offer(vendor, model.name, "", model) for model in alike), None)


def _catalogues() -> Iterator[type[Catalogue]]:
    for name in sorted(installed(DRIVERS)):
        try:
            driver = load(DRIVERS, name, "driver for llm")
        except ConfigError:
            continue  # `aosk drivers` says why
        if hasattr(driver, "vendors"):
            yield driver
