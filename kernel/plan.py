"""The plan: do these services fit together, in which order do they start, who guards what."""

import graphlib
from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase
from typing import Any, NamedTuple

from .config import RouteConfig
from .errors import BootError, nearest
from .log import log
from .message import TOPIC, Request
from .service import Service

Kind = type[Request[Any]]


class Guarded(NamedTuple):
    """What stands on a route."""

    guards: tuple[Service, ...]
    default: str | None


class Plan:
    """Drawn before the kernel starts and before every change; what cannot work is refused."""

    def __init__(self, services: Iterable[Service], routes: Mapping[str, RouteConfig]) -> None:
        self.services: dict[str, Service] = {}
        self.handlers: dict[Kind, list[str]] = {}
        self._unguarded: list[tuple[str, str]] = []
        for service in services:
            self._add(service)
        self._check_needs()
        self._check_routes(routes)
        self.routes = {kind: self._guarded(kind, routes) for kind in self.handlers}
        self.order = self._start_order()

    def _add(self, service: Service) -> None:
        address = service.address
        if address in self.services:
            raise BootError(f"two services are named {address!r}; give one a name with named()")
        self.services[address] = service
        for kind in {handled.message for handled in service.__handled__}:
            others = self.handlers.setdefault(kind, [])
            if others and not kind.addressed:
                raise BootError(
                    f"{others[0]!r} and {address!r} both handle {kind.topic}; "
                    "only one may, unless the request is declared addressed=True"
                )
            others.append(address)

    def _check_needs(self) -> None:
        for address, service in self.services.items():
            missing = [f"{n.topic} ({n.__name__})" for n in service.needs if n not in self.handlers]
            if missing:
                raise BootError(
                    f"{address!r} needs {', '.join(sorted(missing))}: no service handles that; "
                    "register one that does"
                )

    def _check_routes(self, routes: Mapping[str, RouteConfig]) -> None:
        topics = [kind.topic for kind in self.handlers]
        for name, route in routes.items():
            if TOPIC.fullmatch(name) and name not in topics and not route.optional:
                raise BootError(f"routes.{name}: no service handles that; {nearest(name, topics)}")

    def _guarded(self, kind: Kind, routes: Mapping[str, RouteConfig]) -> Guarded:
        merged, at = RouteConfig(), self.handlers[kind]
        for pattern, route in routes.items():
            if fnmatchcase(kind.topic, pattern) or pattern == f"effect:{kind.effect}":
                merged = merged.under(route)
        guards = [address for address, service in self.services.items() if service.__guards__]
        for name in (*merged.guards, *merged.off):
            if name not in guards:
                raise BootError(
                    f"routes.{kind.topic}: {name!r} is no guard; {nearest(name, guards)}"
                )
            if name in merged.off and self.services[name].pinned:
                self._unguarded.append((kind.topic, name))
        if merged.default not in (None, *at):
            raise BootError(
                f"routes.{kind.topic}: nobody at its default {merged.default!r} handles that; "
                f"{nearest(merged.default or '', at)}"
            )
        kept = tuple(self.services[name] for name in merged.guards if name not in merged.off)
        return Guarded(kept, merged.default or (at[0] if len(at) == 1 else None))

    def _start_order(self) -> list[Service]:
        """Handlers and guards of what a service needs at start come up before it."""
        graph = {
            address: {a for need in service.needs_at_start for a in self._behind(need)}
            for address, service in self.services.items()
        }
        try:
            order = graphlib.TopologicalSorter(graph).static_order()
            return [self.services[address] for address in order]
        except graphlib.CycleError as error:
            path = " -> ".join(reversed(error.args[1]))
            raise BootError(
                f"services need each other at start: {path}; break the circle"
            ) from None

    def _behind(self, kind: Kind) -> list[str]:
        return self.handlers[kind] + [guard.address for guard in self.routes[kind].guards]

    def needed_by(self, address: str) -> list[str]:
        """Who cannot do without this service, guarded routes included."""
        services, routes = self.services.items(), self.routes.items()
        handled = {kind for kind, addresses in self.handlers.items() if address in addresses}
        needy = [name for name, other in services if handled & other.needs and name != address]
        guarded = [kind for kind, route in routes if self.services[address] in route.guards]
        return needy + [f"route {kind.topic}" for kind in guarded]

    def warn(self) -> None:
        """Say which pinned guards were taken off."""
        for topic, guard in self._unguarded:
            log.warning("route.unguarded", topic=topic, off=guard)

    def check_succession(self, old: Service, new: Service) -> None:
        """May `new` take the place of `old`? The plan is one with it already there."""
        lost = {h.message for h in old.__handled__} - {h.message for h in new.__handled__}
        if lost:
            topics = ", ".join(sorted(kind.topic for kind in lost))
            raise BootError(
                f"{type(new).__name__} does not handle {topics}, as {old.address!r} must"
            )
        if old.exclusive and any(new in route.guards for route in self.routes.values()):
            raise BootError(
                f"{old.address!r} is exclusive and stands on routes; restart the kernel"
            )
