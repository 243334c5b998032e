"""Spans on their way out: a bounded list, sent in batches by a thread."""

import anyio
from anyio import to_thread
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

from ...kernel.log import log

EVERY_S = 1.0
BATCH = 512
MOST = 16384
"""Spans that wait while a collector is away; the oldest beyond that are dropped and counted."""
LAST_S = 5.0
"""How long the last batches may take when the kernel ends."""


class Outbox:
    """What was dropped and what could not be sent is told in the log, with how many they were."""

    def __init__(self, exporter: SpanExporter) -> None:
        self._exporter = exporter
        self._spans: list[ReadableSpan] = []
        self._full = anyio.Event()
        self.dropped = 0

    def put(self, span: ReadableSpan) -> None:
        self._spans.append(span)
        if len(self._spans) == BATCH:
            self._full.set()
        if len(self._spans) > MOST:
            self._drop(BATCH, "spans come faster than they are sent")

    async def run(self) -> None:
        """Send what there is, now and then, until cancelled."""
        while True:
            with anyio.move_on_after(EVERY_S):
                await self._full.wait()
            self._full = anyio.Event()
            await self._send()

    async def close(self) -> None:
        """Send the last."""
        with anyio.move_on_after(LAST_S, shield=True):
            await self._send()
        self._drop(len(self._spans), "the kernel has ended")
        await to_thread.run_sync(self._exporter.shutdown, abandon_on_cancel=True)

    async def _send(self) -> None:
        while self._spans:
            batch, self._spans = self._spans[:BATCH], self._spans[BATCH:]
            sent = await to_thread.run_sync(self._exporter.export, batch, abandon_on_cancel=True)
            if sent is not SpanExportResult.SUCCESS:
                self.dropped += len(batch)
                log.warning("traces.not_sent", spans=len(batch), dropped=self.dropped)
                return

    def _drop(self, number: int, why: str) -> None:
        del self._spans[:number]
        if number:
            self.dropped += number
            log.warning("traces.dropped", spans=number, dropped=self.dropped, why=why)
