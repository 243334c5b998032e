"""Rates that all kernels of a database share."""

from dataclasses import dataclass
from typing import NamedTuple

from pydantic import Field

from ....kernel.message import Request


class Drawn(NamedTuple):
    """What a shared rate gave: so much, or nothing, and then when there will be enough."""

    granted: float
    wait_s: float = 0.0


class DrawRate(Request[Drawn], topic="storage.draw_rate", effect="idempotent"):
    """Take at least `least` and at most `most` from a rate that all kernels share.

    It brings one each `each_s` and lets `burst` out at once, by the store's own clock. `owed` has
    been used already, or, below 0, was drawn and not used. Asked twice, it draws twice: nothing
    is lost by that but a little time.
    """

    name: str
    least: float = Field(ge=0)
    most: float
    owed: float = 0.0
    each_s: float = Field(gt=0)
    burst: float


@dataclass(slots=True, kw_only=True)
class SharedRate:
    """A rate that kernels share: `left` of at most `burst`; one more comes each `each_s`."""

    name: str
    each_s: float
    burst: float
    left: float


class ReadRates(Request[tuple[SharedRate, ...]], topic="storage.read_rates", effect="none"):
    """The shared rates that are not full, by name."""
