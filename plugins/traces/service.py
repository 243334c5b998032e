"""Traces: an agent's run as one tree, process, step, syscall, attempt, for OpenTelemetry."""

from importlib.metadata import version
from typing import Any

from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import SpanContext, SpanKind, Status, StatusCode
from pydantic import SecretStr

from ...kernel import ConfigError, Service, subscribes
from ...kernel.call import here
from ...subsystems.llm.messages import Completed, CompletionFailed
from ...subsystems.processes.messages import Origin, ProcessExited, StepDone, SyscallDone
from ...subsystems.storage.messages import FindLineage, Pid
from ...subsystems.tools.messages import ToolCalled
from . import names
from .outbox import Outbox
from .places import Place

REMEMBERED = 4096
"""Processes whose place is kept; of others it is looked up again."""
COLLECTOR = "http://127.0.0.1:4318/v1/traces"

Attributes = dict[str, Any]
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

    async def _place(self, pid: Pid) -> Place | None:
        """Where its spans stand; None where they are not wanted."""
        if pid not in self._places:
            lineage = await self.request(FindLineage(pid=pid))
            place = None if lineage is None else Place(lineage)
            if place is not None and not place.is_sampled(self._sample):
                place = None
            self._places[pid] = place
            if len(self._places) > REMEMBERED:
                del self._places[next(iter(self._places))]
        return self._places[pid]

    def _put(
        self,
        name: str,
        context: SpanContext,
        above: SpanContext | None,
        attributes: Attributes,
        *,
        seconds: float,
        failed: bool = False,
        kind: SpanKind = SpanKind.INTERNAL,
    ) -> None:
        """A span that ended when the event in hand was told."""
        told = here()
        ended = self._began + (self.bus.time() if told is None else told.sent_at)
        span = ReadableSpan(
            name,
            context,
            above,
            self._resource,
            attributes,
            kind=kind,
            status=_ERROR if failed else _OK,
            start_time=round((ended - seconds) * 1e9),
            end_time=round(ended * 1e9),
            instrumentation_scope=self._scope,
        )
        self._outbox.put(span)

    @subscribes(ProcessExited, size=8192)
    async def on_exit(self, event: ProcessExited) -> None:
        place = await self._place(event.pid)
        if place is None:
            return
        told = here()
        now = self._began + (self.bus.time() if told is None else told.sent_at)
        attributes = {
            names.OPERATION: names.INVOKE_AGENT,
            names.AGENT_NAME: event.program,
            names.AGENT_ID: str(event.pid),
            names.STATE: event.state,
        }
        if event.state != "exited":
            attributes[names.ERROR] = event.state
        self._put(
            f"{names.INVOKE_AGENT} {event.program}",
            place.process(),
            place.above(),
            attributes,
            seconds=max(now - place.born, 0.0),
            failed=event.state != "exited",
        )

    @subscribes(StepDone, size=8192)
    async def on_step(self, event: StepDone) -> None:
        place = await self._place(event.pid)
        if place is not None:
            self._put(
                f"step {event.step}",
                place.step(event.step),
                place.process(),
                {names.STEP: event.step},
                seconds=event.seconds,
                failed=event.failed,
            )

    @subscribes(SyscallDone, size=8192)
    async def on_syscall(self, event: SyscallDone) -> None:
        place = await self._place(event.pid)
        if place is not None:
            kind = event.kind.partition(":")[0]  # what follows may be a name that a model made up
            self._put(
                kind,
                place.syscall(event.key),
                place.step_of(event.key),
                {names.PID: event.pid, names.KEY: event.key},
                seconds=event.seconds,
                failed=event.failed,
            )

    @subscribes(Completed, size=8192)
    async def on_completion(self, event: Completed) -> None:
        told = {
            names.RESPONSE_MODEL: event.model,
            names.FINISH_REASONS: (event.finish,),
            names.INPUT_TOKENS: event.usage.prompt,
            names.OUTPUT_TOKENS: event.usage.completion,
        }
        if event.usage.cached:
            told[names.CACHED_TOKENS] = event.usage.cached
        if event.first_token_s is not None:
            told[names.FIRST_TOKEN] = event.first_token_s
        await self._chat(event, told)

    @subscribes(CompletionFailed, size=8192)
    async def on_failure(self, event: CompletionFailed) -> None:
        await self._chat(event, {names.ERROR: event.error})

    async def _chat(self, event: Completed | CompletionFailed, told: Attributes) -> None:
        attributes = {
            names.OPERATION: names.CHAT,
            names.REQUEST_MODEL: event.model,
            names.ADDRESS: event.address,
            **told,
        }
        name = f"{names.CHAT} {event.model}"
        await self._attempt(name, attributes, event.seconds, SpanKind.CLIENT)

    @subscribes(ToolCalled, size=8192)
    async def on_tool(self, event: ToolCalled) -> None:
        known = "" if event.error == "UnknownTool" else event.name
        attributes = {
            names.OPERATION: names.EXECUTE_TOOL,
            names.TOOL_NAME: known,
            names.ADDRESS: event.address,
        }
        if event.error is not None:
            attributes[names.ERROR] = event.error
        name = f"{names.EXECUTE_TOOL} {known}".rstrip()
        await self._attempt(name, attributes, event.seconds, SpanKind.INTERNAL)

    async def _attempt(
        self, name: str, attributes: Attributes, seconds: float, kind: SpanKind
    ) -> None:
        """Under the syscall that made it; what no process made stands in no trace."""
        told = here()
        if told is None or not isinstance(told.origin, Origin) or told.origin.pid is None:
            return
        place, key = await self._place(told.origin.pid), told.origin.key
        if place is None:
            return
        self._put(
            name,
            place.attempt(key, told.span_id),
            place.syscall(key),
            attributes,
            seconds=seconds,
            failed=names.ERROR in attributes,
            kind=kind,
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
