"""What an application is told at its start, and how it reaches the world from then on."""

import json
import os
from dataclasses import dataclass, field
from typing import Any

import anyio
from chaos.mortal import Instant


@dataclass(frozen=True, kw_only=True)
class Order:
    """An application's orders. `pauses` names calls that ask the world before they go.

    It `tells_the_truth` about calls in doubt, as the world knows it, and `approves` what its policy
    `asks`. `slots` is how many tools
    may work at once, `version` that of the program `agent`.
    """

    world: str
    folder: str
    namespace: str
    main: str = "job"
    dies: Instant = "never"
    dies_at: int = 0
    lease_s: float = 0.3
    settings: dict[str, str] = field(default_factory=dict)
    pauses: tuple[str, ...] = ()
    tells_the_truth: bool = True
    asks: tuple[str, ...] = ()
    approves: bool = False
    slots: int = 10
    version: int = 1


order = Order(world="", folder="", namespace="")
"""This application's own are set before its main runs."""


async def reach(kind: str, name: str, key: str, **more: Any) -> str:
    """Do something to the world; gives its answer."""
    if name in order.pauses:
        await ask(kind="pause", name=name, key=key)
    return str(await ask(kind=kind, name=name, key=key, **more))


async def ask(**said: Any) -> Any:
    """Say something to the world; gives its answer."""
    async with await anyio.connect_unix(order.world) as stream:
        await stream.send(line(said | {"application": os.getpid()}))
        return json.loads(await stream.receive())


def line(said: dict[str, Any]) -> bytes:
    return json.dumps(said).encode() + b"\n"
