"""Places that all kernels of a database share: so many calls may be under way together."""

from dataclasses import dataclass
from typing import NamedTuple

from pydantic import Field

from ....kernel.message import Event, Request

SEATS_AGAIN_S = 1.0
"""Who was refused a place may ask again then, if nobody has told it to before."""
SEATS_LEAST_S = 0.05
"""Not sooner, where a lease that is about to run out will free one."""
SEATS_WAIT_S = 2.5
"""For so long after it has asked a place is kept for it, if it waits longest."""


class Held(NamedTuple):
    """What a kernel holds from now on: for `good_s` seconds, unless it is heard of again.

    Where that is not one more than it uses, it may ask again after `wait_s`. `share` is what
    each kernel would have if all had as much; `wanted`, that others wait for places.
    """

    held: int
    good_s: float = 0.0
    wait_s: float = 0.0
    share: int = 0
    wanted: bool = False


class HoldSeats(Request[Held], topic="storage.hold_seats", effect="idempotent"):
    """Hold so many of the `places` of a name, together with all other kernels.

    `used` are those in which calls of this kernel are. It `wants` one more at least, and then
    up to `most` in all; or only to keep `most`. Places of a kernel that has left, or whose lease
    has run out, are free. Who waits longest goes first. `holder` is the kernel, by a name of its
    own that is no word of anybody else's; of its words those with a higher `turn` count.
    """

    name: str = Field(max_length=500)
    holder: str = Field(max_length=100, min_length=1, pattern=r"^\S+$")
    turn: int
    places: int = Field(ge=1)
    used: int = Field(ge=0)
    wants: bool = False
    most: int = Field(ge=0)


class SeatsCalled(Event, topic="storage.seats_called"):
    """A holder waits for a place of this name (`wanted`), has given some back (`freed`), or both.

    `share` is what each kernel would have if all had as much.
    """

    name: str
    holder: str
    wanted: bool
    freed: bool
    share: int


@dataclass(slots=True, kw_only=True)
class SharedSeats:
    """Places that kernels share: so many of them are held, and so many kernels wait."""

    name: str
    places: int
    held: int
    waiting: int


class ReadSeats(Request[tuple[SharedSeats, ...]], topic="storage.read_seats", effect="none"):
    """The shared places that are held or waited for, by name."""
