"""Traces: an agent's run as one tree, process, step, syscall, attempt, for OpenTelemetry."""

from importlib.metadata import version

from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import Status, StatusCode
from pydantic import SecretStr

from ...kernel import ConfigError, Event, Service, subscribes
from ...kernel.call import here
from ...subsystems.storage.messages import FindLineage, Pid
from .outbox import Outbox
from .places import Place
from .spans import SPANS, Span, whose

REMEMBERED = 4096
"""Processes whose place is kept; of others it is looked up again."""
QUEUED = 16384
"""Events that may wait to become spans; what is dropped beyond that is counted."""
COLLECTOR = "http://127.0.0.1:4318/v1/traces"

_OK = Status(StatusCode.UNSET)
_ERROR = Status(StatusCode.ERROR)  # without a text: it could say what nobody should read


class Traces(Service, name="traces", needs_at_start=[FindLineage]):
    """Sends spans to a collector at `endpoint`, by OTLP over HTTP.

    `authorization` is that header's value. `sample` is the part of all traces that is sent, 0
    to 1: a trace is sent whole or not at all, whichever kernels it runs in. An application may
    give an `exporter` of its own.
    """

    def __init__(
        self,
        endpoint: str = COLLECTOR,
        authorization: SecretStr | None = None,
        sample: float = 1.0,
        service_name: str = "aosk",
        exporter: SpanExporter | None = None,
    ) -> None:
        if not 0 <= sample <= 1:
            raise ValueError(f"sample is a part of all traces, from 0 to 1, not {sample:g}")
        self._sample = sample
        self._outbox = Outbox(exporter or _otlp(endpoint, authorization))
        self._resource = Resource({"service.name": service_name})
        self._scope = InstrumentationScope("aoskernel", version("aoskernel"))
        self._places: dict[Pid, Place | None] = {}

    async def start(self) -> None:
        self._began = self.bus.wall() - self.bus.time()

    async def run(self) -> None:
        await self._outbox.run()

    async def stop(self) -> None:
        await self._outbox.close()

    @subscribes(*SPANS, size=QUEUED)
    async def on_event(self, event: Event) -> None:
        """A span has ended, which is kept if its trace is wanted."""
        pid = whose(event)
        if pid is None:
            return  # what no process made stands in no trace
        place = self._places[pid] if pid in self._places else await self._find(pid)
        if place is not None:
            told = here()
            assert told is not None, "an event has an envelope"
            span = SPANS[event.__class__](event, place, told)
            self._outbox.put(self._readable(span, self._began + told.sent_at))

    async def _find(self, pid: Pid) -> Place | None:
        """Where a process's spans stand; None where they are not wanted."""
        lineage = await self.request(FindLineage(pid=pid))
        place = None if lineage is None else Place(lineage)
        if place is not None and not place.is_sampled(self._sample):
            place = None
        self._places[pid] = place
        if len(self._places) > REMEMBERED:
            del self._places[next(iter(self._places))]
        return place

    def _readable(self, span: Span, ended: float) -> ReadableSpan:
        """As the SDK has it."""
        began = ended - span.seconds if span.born is None else min(span.born, ended)
        return ReadableSpan(
            span.name,
            span.context,
            span.above,
            self._resource,
            span.attributes,
            kind=span.kind,
            status=_ERROR if span.failed else _OK,
            start_time=round(began * 1e9),
            end_time=round(ended * 1e9),
            instrumentation_scope=self._scope,
        )


def _otlp(endpoint: str, authorization: SecretStr | None) -> SpanExporter:
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    except ImportError:
        raise ConfigError(
            "traces are sent by the extra `otlp`: pip install 'aoskernel[otlp]'"
        ) from None
    headers = {} if authorization is None else {"authorization": authorization.get_secret_value()}
    return OTLPSpanExporter(endpoint=endpoint, headers=headers)
