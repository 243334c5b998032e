"""All buckets, and which of them a call draws from."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from ...kernel.call import Call
from ..processes.messages import Origin
from ..tools.messages import CallTool
from .bucket import Bucket
from .limits import BREADTH, Limit, Per

REMEMBERED = 4096
"""Buckets that are kept before full ones are forgotten; keys and hosts are not bounded."""


class Subject(NamedTuple):
    """Whose call it is, and of what."""

    name: str
    account: str = ""
    tenant: str = ""
    user: str = ""
    tool: str = ""
    host: str = ""
    key: str = ""

    @classmethod
    def of(cls, call: Call[Any], account: str) -> "Subject":
        """Of a call on a route."""
        message, origin = call.message, _origin(call.origin)
        whose = (call.address, account, origin.tenant, origin.user)
        if not isinstance(message, CallTool):
            return cls(*whose)
        return cls(*whose, message.name, _host(message.arguments))

    @classmethod
    def named(cls, name: str, key: str, origin: object) -> "Subject":
        """Of what is asked for by name."""
        caller = _origin(origin)
        return cls(name, tenant=caller.tenant, user=caller.user, key=key)

    def place(self, per: Per) -> str:
        """Which bucket of a limit it draws from; "" where it is none of its calls."""
        match per:
            case "all":
                return "all"
            case "address":
                return self.name
            case "account":
                return self.account or self.name
            case "user":
                return self.user and f"{_escaped(self.tenant)}/{self.user}"
            case _:
                return str(getattr(self, per))


ANYONE = Origin()


def _origin(origin: object) -> Origin:
    return origin if isinstance(origin, Origin) else ANYONE


def _escaped(tenant: str) -> str:
    """Without a slash, so that no user of one tenant has the bucket of another's."""
    return tenant.replace("%", "%25").replace("/", "%2F")


def _host(arguments: dict[str, Any]) -> str:
    """The host that a tool is to call, where an argument says so."""
    for name in ("url", "uri", "host"):
        value = arguments.get(name)
        if isinstance(value, str) and value:
            try:
                return urlsplit(value if "//" in value else f"//{value}").hostname or ""
            except ValueError:
                return ""
    return ""


class Buckets:
    """Made as they are needed; a swapped limiter hands them over, with what is drawn."""

    def __init__(self, limits: Sequence[Limit], time: Callable[[], float]) -> None:
        self.limits, self.time = tuple(limits), time
        self._all: dict[str, Bucket] = {}
        self.fixed: dict[str, tuple[Bucket, ...]] = {}
        """Those of an address, where it alone decides and is known."""

    def __iter__(self) -> Iterator[Bucket]:
        return iter([self._all[name] for name in sorted(self._all)])

    def of(self, subject: Subject) -> tuple[Bucket, ...]:
        """Those that a call draws from, the narrowest first."""
        covering = [limit for limit in self.limits if limit.covers(subject.name)]
        found = [
            self._bucket(str(limit) if limit.per == "all" else f"{limit} {place}", limit)
            for limit in sorted(covering, key=lambda limit: BREADTH.index(limit.per))
            if (place := subject.place(limit.per))
        ]
        return tuple(found)

    def account(self, name: str) -> Bucket:
        """What a provider says of a key, whether there is a limit or not."""
        return self._bucket(f"account {name}", None)

    def remember(self, address: str, found: tuple[Bucket, ...]) -> None:
        """These are all of this address's, whoever calls."""
        if all(limit.is_fixed for limit in self.limits if limit.covers(address)):
            self.fixed[address] = found

    def sharing(self, bucket: Bucket) -> tuple[str, ...]:
        """The addresses whose calls all draw from it."""
        return tuple(sorted(name for name, found in self.fixed.items() if bucket in found))

    def forget(self, address: str) -> None:
        """What stands there may use another account now."""
        self.fixed.pop(address, None)

    def _bucket(self, name: str, limit: Limit | None) -> Bucket:
        bucket = self._all.get(name)
        if bucket is None:
            if len(self._all) >= REMEMBERED:
                self._sweep()
            bucket = self._all[name] = Bucket(name, limit)
        return bucket

    def _sweep(self) -> None:
        now, fixed = self.time(), {one for found in self.fixed.values() for one in found}
        self._all = {
            name: one
            for name, one in self._all.items()
            if one in fixed or not (one.is_quiet and one.is_full(now))
        }

    def take_over(self, old: "Buckets") -> None:
        """Go on with another's, under these limits; theirs that are no more are forgotten."""
        mine = {str(limit): limit for limit in self.limits}
        now = self.time()
        for name, bucket in old._all.items():
            limit = mine.get(str(bucket.limit)) if bucket.limit else None
            if bucket.limit is None or limit is not None:
                bucket.change(limit, now)
                self._all[name] = bucket
            else:
                bucket.seats = None
