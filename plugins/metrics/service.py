"""Metrics: hears what happens, and shows it to a Prometheus that asks."""

from contextlib import suppress
from importlib.metadata import version

import anyio
from anyio.abc import SocketAttribute, SocketStream
from anyio.streams.stapled import MultiListener
from prometheus_client import ProcessCollector
from prometheus_client.exposition import choose_encoder
from pydantic import SecretStr

from ...kernel import Event, Service, Unavailable
from ...kernel.log import log
from ...kernel.service import Heard
from ...subsystems.processes.messages import CountLive
from ...subsystems.scheduler.messages import ReadLanes
from .endpoint import Answer, Endpoint, is_here
from .meters import EVENTS, GUARDS, Meters, guarded
from .standing import Queue, Standing

QUEUED = 16384
"""Events that may wait to be counted; what is dropped beyond that is counted too."""


class Metrics(Service, name="metrics", needs=[ReadLanes, CountLive], exclusive=True):
    """Shows a kernel's figures at http://HOST:PORT/metrics.

    A `host` that other machines reach needs a `token`, which a scraper sends as a bearer's.
    With `port` 0 it takes a free one, which its line in the log tells.
    """

    def __init__(
        self, port: int = 9464, host: str = "127.0.0.1", token: SecretStr | None = None
    ) -> None:
        if token is None and not is_here(host):
            raise ValueError(
                f"host {host!r} can be reached from other machines, and without a token anybody "
                'may read there; write token = { env = "NAME" }, or leave host out'
            )
        self.host, self.port, self._asked = host, port, port
        self._listener: MultiListener[SocketStream] | None = None
        secret = None if token is None else token.get_secret_value()
        self._endpoint = Endpoint(self._scrape, secret)
        self._meters = Meters()
        self._standing = Standing(version("aoskernel"))
        self._meters.registry.register(self._standing)
        ProcessCollector(registry=self._meters.registry)
        self.__heard__ = (Heard((*EVENTS, *GUARDS), "count", QUEUED, "drop_oldest"),)

    async def start(self) -> None:
        try:
            listener = await anyio.create_tcp_listener(local_host=self.host, local_port=self._asked)
        except OSError as error:
            raise OSError(
                f"metrics cannot listen at {self.host}:{self.port}: {error.strerror or error}; "
                "set another port in [services.metrics], or 0 for a free one"
            ) from error
        self._listener = listener
        self.port = listener.extra(SocketAttribute.local_port)
        log.info("metrics.listening", url=f"http://{self.host}:{self.port}/metrics")

    async def run(self) -> None:
        assert self._listener is not None
        await self._listener.serve(self._endpoint.serve)

    async def stop(self) -> None:
        if self._listener is not None:
            await self._listener.aclose()

    async def count(self, event: Event) -> None:
        """Move what the event moves."""
        EVENTS.get(event.topic, guarded)(self._meters, event)

    async def _scrape(self, accept: str) -> Answer:
        standing = self._standing
        with suppress(Unavailable):  # who is being swapped keeps its last figures
            standing.lanes = await self.request(ReadLanes())
        with suppress(Unavailable):
            standing.live = await self.request(CountLive())
        standing.queues = tuple(
            Queue(queue.name, len(queue), queue.dropped, queue.failed)
            for queue in self.bus.subscriptions
        )
        encode, content_type = choose_encoder(accept)
        return Answer(200, encode(self._meters.registry), {"content-type": content_type})
