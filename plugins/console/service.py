"""The console: what a kernel is doing, kept where other programs see it, for `aosk top`."""

import os
import socket
from contextlib import suppress
from typing import Any
from uuid import uuid4

import anyio

from ...kernel import Event, KernelError, Service, subscribes
from ...kernel.call import here
from ...kernel.events import Lagged
from ...subsystems.llm.messages import Completed, CompletionFailed, Describe, ModelCard
from ...subsystems.processes.messages import Origin, ReadLive
from ...subsystems.scheduler.messages import LaneState, ReadLanes
from ...subsystems.storage.messages import Commit, DropRecord, PutRecord, StorageError
from .tally import Tally

COLLECTION = "console.kernels"
SHOWN = 200
"""Processes that one record tells of, so that it stays small."""
LAST_S = 2.0
"""How long taking the record away may take, as the kernel ends; else it expires."""


class Console(
    Service,
    name="console",
    needs_at_start=[Commit],  # so storage is there to the end, when the record is taken away
    needs=[Describe, ReadLanes, ReadLive],
):
    """Keeps a record of this kernel in storage, anew every `every_s`; `aosk top` reads it.

    It tells of slots, queues, what live processes do, and what they have used here. Of a kernel
    that was killed it is gone after three times as long.
    """

    def __init__(self, every_s: float = 2.0) -> None:
        if every_s <= 0:
            raise ValueError(f"every_s must be more than 0, not {every_s:g}")
        self._every_s = every_s
        self._key = f"{socket.gethostname()}/{os.getpid()}/{uuid4().hex[:8]}"
        self._tally = Tally()
        self._cards: dict[str, ModelCard | None] = {}
        self._guards: dict[tuple[str, str], dict[str, Any]] = {}
        self._lagged: dict[str, int] = {}

    async def run(self) -> None:
        while True:
            with suppress(KernelError):  # a neighbour is being swapped, the database is away
                await self._write()
            await anyio.sleep(self._every_s)

    async def stop(self) -> None:
        drop = DropRecord(collection=COLLECTION, key=self._key)
        with anyio.move_on_after(LAST_S, shield=True), suppress(StorageError, KernelError):
            await self.request(Commit(writes=(drop,)))

    async def _write(self) -> None:
        record = PutRecord(
            collection=COLLECTION,
            key=self._key,
            body=await self._picture(),
            lasts_s=3 * self._every_s + 1,
        )
        await self.request(Commit(writes=(record,)))

    async def _picture(self) -> Any:
        lanes = await self.request(ReadLanes())
        live = await self.request(ReadLive(limit=SHOWN))
        addresses = {lane.address: lane for lane in lanes}
        names = sorted({*addresses, *self._tally.addresses})
        return {
            "host": socket.gethostname(),
            "os_pid": os.getpid(),
            "models": [await self._model(name, addresses.get(name)) for name in names],
            "processes": [self._process(one.pid, one.doing) for one in live],
            "guards": list(self._guards.values()),
            "dropped": sum(self._lagged.values()),
        }

    def _process(self, pid: Any, doing: str) -> dict[str, Any]:
        use = self._tally.known(pid)
        return {"pid": pid, "doing": doing, "used": None if use is None else use.told()}

    async def _model(self, address: str, lane: LaneState | None) -> dict[str, Any]:
        card = await self._card(address)
        return {
            "address": address,
            "model": None if card is None else card.model,
            "slots": None if lane is None else lane.slots,
            "busy": None if lane is None else lane.busy,
            "waiting": {} if lane is None else dict(lane.waiting),
            "used": self._tally.of_address(address).told(),
        }

    async def _card(self, address: str) -> ModelCard | None:
        """What the model is and costs, asked once; None where it cannot say."""
        if address not in self._cards:
            self._cards[address] = None
            with suppress(KernelError):
                self._cards[address] = await self.request(Describe(), to=address)
        return self._cards[address]

    @subscribes(Completed, CompletionFailed, size=8192)
    async def on_completion(self, event: Completed | CompletionFailed) -> None:
        failed = isinstance(event, CompletionFailed)
        card = await self._card(event.address)
        price = None if card is None else card.price
        self._tally.of_address(event.address).add(event.usage, price, failed=failed)
        told = here()
        if told is not None and isinstance(told.origin, Origin) and told.origin.pid is not None:
            self._tally.of_process(told.origin.pid).add(event.usage, price, failed=failed)

    @subscribes("service.swapped")
    async def on_swap(self, event: Event) -> None:
        """A model's successor may be another, at another price."""
        self._cards.clear()

    @subscribes("breaker.*", "limiter.*")
    async def on_guard(self, event: Event) -> None:
        """What a guard last told of one address."""
        guard, _, what = event.topic.partition(".")
        named = (getattr(event, name, "") for name in ("circuit", "bucket", "address"))
        address = next(filter(None, named), "")
        told = {"guard": guard, "address": address, "told": what, "at": self.bus.wall()}
        self._guards[guard, address] = told

    @subscribes(Lagged)
    async def on_lag(self, event: Lagged) -> None:
        self._lagged[event.subscriber] = event.dropped
