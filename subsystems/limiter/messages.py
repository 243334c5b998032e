"""What others may say to the limiter, and what it tells."""

from ...kernel.errors import NotNow, Refused
from ...kernel.message import Event, Request, Value


class Dry(NotNow):
    """A limit has nothing left for this call before `until`, then for one each `every_s`.

    `whole`: nor for any other call of its address. `bucket` says whose it is.
    """

    def __init__(
        self, bucket: str, until: float, reason: str, *, every_s: float, whole: bool
    ) -> None:
        super().__init__(until, reason)
        self.bucket, self.every_s, self.whole = bucket, every_s, whole


class TooLarge(Refused):
    """A call needs more at once than its limit ever lets through."""


class Level(Value):
    """One dimension of a bucket: `left` of at most `most`, in calls or tokens."""

    what: str
    left: float
    most: float


class BucketState(Value):
    """How a bucket stands. `inside` are its calls under way, `held_s` how long it lets none in.

    `shared` ones are those of all kernels on the database; of its places this kernel has `held`.
    """

    name: str
    levels: tuple[Level, ...]
    inside: int
    concurrency: int | None = None
    held_s: float = 0.0
    shared: bool = False
    held: int = 0


class ReadLimits(Request[tuple[BucketState, ...]], topic="limiter.read", effect="none"):
    """How does each bucket stand that was used and is not full?"""


class Admit(Request[int], topic="limiter.admit", effect="once"):
    """Wait for a call's turn by the limits of `name`; the reply is for `Depart`.

    `key` is what limits per key count by, such as a user of the application.
    """

    name: str
    key: str = ""


class Depart(Request[None], topic="limiter.depart", effect="once"):
    """A call that was admitted is over."""

    stay: int


class Dried(Event, topic="limiter.dried", urgent=True):
    """A bucket has nothing left before `until` (kernel time), then one call each `every_s`.

    `addresses` are those that cannot be called at all meanwhile: none where it is only a
    tenant's bucket, or a tool's.
    """

    bucket: str
    addresses: tuple[str, ...]
    until: float
    every_s: float
    reason: str


class Refilled(Event, topic="limiter.refilled", urgent=True):
    """A bucket that was dry has places again, sooner than it said; so many of those who were
    turned away at these addresses may come.
    """

    bucket: str
    addresses: tuple[str, ...]
    places: int
