"""What the kernel itself tells: services coming and going, subscribers falling behind."""

from .message import Event


class ServiceStarted(Event, topic="service.started"):
    """A service is up."""

    service: str


class ServiceStopped(ServiceStarted, topic="service.stopped"):
    """A service has stopped, as asked."""


class ServiceSwapped(ServiceStarted, topic="service.swapped"):
    """A service was replaced by another of the same address."""


class ServiceCrashed(Event, topic="service.crashed", urgent=True):
    """A service's `run` raised; it is restarted when its policy says so."""

    service: str
    error: str
    crashes: int


class ServiceDown(Event, topic="service.down", urgent=True):
    """A service crashed too often; it is tried again in `again_s` seconds, or never (None)."""

    service: str
    error: str
    again_s: float | None


class SwapRejected(Event, topic="service.swap_rejected", urgent=True):
    """A service could not be replaced; the old one stayed."""

    service: str
    error: str


class Lagged(Event, topic="bus.lagged", urgent=True):
    """A subscriber's queue is full and drops its oldest; once per time it falls behind.

    `dropped` counts all it has lost so far.
    """

    subscriber: str
    dropped: int
