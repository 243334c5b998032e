"""What a configuration makes: checked without starting it, or started and looked at."""

from pathlib import Path
from typing import Any

from ...kernel import Config, Kernel
from ...kernel.plan import Plan
from . import loop, output
from .choice import find
from .desk import alone, at_hand


def services(config_file: Path | None, *, as_json: bool) -> None:
    """Start a kernel from this configuration and look at it."""
    running = loop.run(_running, find(config_file))
    if as_json:
        output.document({"ok": True, "services": running})
        return
    rows = [(s["address"], s["class"], s["state"], ", ".join(s["handles"])) for s in running]
    output.table(("address", "class", "state", "handles"), rows)


async def _running(config_file: Path | None) -> list[dict[str, Any]]:
    config = alone(Config.load(config_file))
    services = config.build()
    handlers = Plan(services, config.routes).handlers
    async with (
        at_hand(config),
        Kernel(*services, config=config.kernel, routes=config.routes) as kernel,
    ):
        return [
            {
                "address": seat.address,
                "class": f"{type(seat.service).__module__}:{type(seat.service).__qualname__}",
                "state": seat.state,
                "handles": sorted(k.topic for k, at in handlers.items() if seat.address in at),
                "needs": sorted(need.topic for need in seat.service.needs),
            }
            for seat in kernel.services()
        ]


def check(file: Path | None, *, as_json: bool) -> None:
    """Load, build and plan, as a kernel does before it starts anything."""
    path = find(file)
    config = Config.load(path)
    plan = Plan(config.build(), config.routes)
    addresses = sorted(service.address for service in plan.order)
    guarded = {kind.topic: route for kind, route in plan.routes.items() if route.guards}
    routes = [
        {
            "topic": topic,
            "guards": [guard.address for guard in guarded[topic].guards],
            "default": guarded[topic].default,
        }
        for topic in sorted(guarded)
    ]
    if as_json:
        where = None if path is None else str(path)
        output.document({"ok": True, "file": where, "services": addresses, "routes": routes})
        return
    print(f"{path or 'The default configuration'} is in order: {len(addresses)} services.")
    for topic in sorted(guarded):
        guards = [guard.address for guard in guarded[topic].guards]
        print(f"  {topic}: {' -> '.join([*guards, guarded[topic].default or 'the address'])}")
