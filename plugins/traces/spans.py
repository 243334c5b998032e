"""What an event tells of the span that ended with it: a function for each kind, in `SPANS`."""

from collections.abc import Callable
from typing import Any, NamedTuple

from opentelemetry.trace import SpanContext, SpanKind

from ...kernel import Event
from ...kernel.call import Envelope, here
from ...subsystems.llm.messages import Completed, CompletionFailed
from ...subsystems.processes.messages import Origin, ProcessExited, StepDone, SyscallDone
from ...subsystems.storage.messages import Pid
from ...subsystems.tools.messages import ToolCalled
from . import names
from .places import Place

Attributes = dict[str, Any]


class Span(NamedTuple):
    """`born` is when it began, in seconds since 1970, where that is not `seconds` ago."""

    name: str
    context: SpanContext
    above: SpanContext | None
    attributes: Attributes
    seconds: float = 0.0
    failed: bool = False
    kind: SpanKind = SpanKind.INTERNAL
    born: float | None = None


def whose(event: Event) -> Pid | None:
    """The process whose span it is; None where no process made it."""
    if not isinstance(event, ATTEMPTS):
        pid: Pid = event.pid  # type: ignore[attr-defined]  # all others in SPANS have one
        return pid
    told = here()
    origin = None if told is None else told.origin
    return origin.pid if isinstance(origin, Origin) else None


def _process(event: ProcessExited, place: Place, told: Envelope) -> Span:
    failed = event.state != "exited"
    attributes = {
        names.OPERATION: names.INVOKE_AGENT,
        names.AGENT_NAME: event.program,
        names.AGENT_ID: str(event.pid),
        names.STATE: event.state,
    }
    if failed:
        attributes[names.ERROR] = event.state
    name = f"{names.INVOKE_AGENT} {event.program}"
    context, above = place.process(), place.above()
    return Span(name, context, above, attributes, failed=failed, born=place.born)


def _step(event: StepDone, place: Place, told: Envelope) -> Span:
    context, attributes = place.step(event.step), {names.STEP: event.step}
    name, above = f"step {event.step}", place.process()
    return Span(name, context, above, attributes, event.seconds, event.failed)


def _syscall(event: SyscallDone, place: Place, told: Envelope) -> Span:
    kind = event.kind.partition(":")[0]  # what follows may be a name that a model made up
    context, above = place.syscall(event.key), place.step_of(event.key)
    attributes = {names.PID: event.pid, names.KEY: event.key}
    return Span(kind, context, above, attributes, event.seconds, event.failed)


def _completion(event: Completed, place: Place, told: Envelope) -> Span:
    attributes = {
        names.RESPONSE_MODEL: event.model,
        names.FINISH_REASONS: (event.finish,),
        names.INPUT_TOKENS: event.usage.prompt,
        names.OUTPUT_TOKENS: event.usage.completion,
    }
    if event.usage.cached:
        attributes[names.CACHED_TOKENS] = event.usage.cached
    if event.first_token_s is not None:
        attributes[names.FIRST_TOKEN] = event.first_token_s
    return _chat(event, attributes, place, told)


def _failure(event: CompletionFailed, place: Place, told: Envelope) -> Span:
    return _chat(event, {names.ERROR: event.error}, place, told)


def _chat(
    event: Completed | CompletionFailed, attributes: Attributes, place: Place, told: Envelope
) -> Span:
    attributes |= {
        names.OPERATION: names.CHAT,
        names.REQUEST_MODEL: event.model,
        names.ADDRESS: event.address,
    }
    name = f"{names.CHAT} {event.model}"
    return _attempt(name, attributes, event.seconds, SpanKind.CLIENT, place, told)


def _tool(event: ToolCalled, place: Place, told: Envelope) -> Span:
    known = "" if event.error == "UnknownTool" else event.name
    attributes = {
        names.OPERATION: names.EXECUTE_TOOL,
        names.TOOL_NAME: known,
        names.ADDRESS: event.address,
    }
    if event.error is not None:
        attributes[names.ERROR] = event.error
    name = f"{names.EXECUTE_TOOL} {known}".rstrip()
    return _attempt(name, attributes, event.seconds, SpanKind.INTERNAL, place, told)


def _attempt(
    name: str, attributes: Attributes, seconds: float, kind: SpanKind, place: Place, told: Envelope
) -> Span:
    """Under the syscall that made it."""
    assert isinstance(told.origin, Origin)
    key = told.origin.key
    context, above = place.attempt(key, told.span_id), place.syscall(key)
    return Span(name, context, above, attributes, seconds, names.ERROR in attributes, kind)


ATTEMPTS = (Completed, CompletionFailed, ToolCalled)
"""Which say by their envelope who made them."""
SPANS: dict[type[Event], Callable[[Any, Place, Envelope], Span]] = {
    ProcessExited: _process,
    StepDone: _step,
    SyscallDone: _syscall,
    Completed: _completion,
    CompletionFailed: _failure,
    ToolCalled: _tool,
}
