"""What can go wrong in the kernel, as facts with attributes."""

import difflib
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import asyncio


class KernelError(Exception):
    """Base of everything the kernel raises. `retryable`: the same call may work later."""

    retryable = False

    @classmethod
    def kinds(cls) -> "Iterator[type[KernelError]]":
        """This class and all below it, as far as they are loaded."""
        yield cls
        for below in cls.__subclasses__():
            yield from below.kinds()


class ConfigError(KernelError):
    """The configuration cannot be used; says which key, and what to write."""


class BootError(KernelError):
    """The services do not fit together; says what is missing."""


class Unroutable(KernelError):
    """No handler takes this request."""


class Unavailable(KernelError):
    """The service that should answer is down, draining or gone."""

    retryable = True

    def __init__(self, service: str, reason: str) -> None:
        super().__init__(f"service {service!r} is unavailable: {reason}")
        self.service, self.reason = service, reason


class KernelStopped(Unavailable):
    """The kernel has ended, or never started; nothing can be asked of it."""

    retryable = False

    def __init__(self) -> None:
        super().__init__("kernel", "the kernel is not running; it has ended or was never started")


class KernelFailed(KernelError):
    """The kernel stopped by itself. `causes` holds the errors, oldest first."""

    def __init__(self, reason: str, causes: Sequence[BaseException]) -> None:
        told = "".join(f"\n  {number}. {cause!r}" for number, cause in enumerate(causes, 1))
        super().__init__(reason + told)
        self.reason, self.causes = reason, tuple(causes)


class StartTimeout(KernelError):
    """A service was still starting when the watchdog ran out; the message holds its stack."""


class SwapFailed(KernelError):
    """The new service did not start; the old one stayed."""


class WouldDeadlock(KernelError):
    """Awaiting this from here could only wait for itself."""


class NotNow(KernelError):
    """A guard cannot admit the call before `until` (seconds, the kernel's monotonic clock).

    Where there is `sooner`, it is done when asking again is worth it before then.
    """

    retryable = True

    def __init__(
        self, until: float, reason: str, sooner: "asyncio.Future[None] | None" = None
    ) -> None:
        super().__init__(f"not now: {reason}")
        self.until, self.reason, self.sooner = until, reason, sooner


class Refused(KernelError):
    """A guard refuses the call for good. `rule` names what decided."""

    def __init__(self, reason: str, *, rule: str) -> None:
        super().__init__(reason)
        self.rule = rule


def nearest(name: str, known: Iterable[str]) -> str:
    """What could have been meant, for the end of a message."""
    near = difflib.get_close_matches(name, known := sorted(known), 1)
    return (
        f"did you mean {near[0]!r}? " if near else ""
    ) + f"at hand: {', '.join(known) or 'none'}"
