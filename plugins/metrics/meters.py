"""The instruments of one kernel, and which of them an event moves: a line each, in `EVENTS`."""

from collections import defaultdict
from collections.abc import Callable
from typing import Any

from prometheus_client import CollectorRegistry

from ...kernel import Event
from ...kernel.call import here
from ...kernel.events import ServiceCrashed, ServiceDown, ServiceSwapped, SwapRejected
from ...subsystems.llm.messages import Completed, CompletionFailed, Usage
from ...subsystems.policy.messages import CallRefused
from ...subsystems.processes.messages import (
    Origin,
    ProcessExited,
    ProcessParked,
    ProcessResumed,
    ProcessSpawned,
    SyscallDone,
    SyscallRepeated,
)
from ...subsystems.scheduler.messages import Decided
from ...subsystems.storage.messages import Committed
from ...subsystems.tools.messages import ToolCalled
from .instruments import Counter, Histogram

MOST = 200
"""Values of one label that are told apart. Programs, models and tools are few, unless a program
makes up names; then the later ones are counted together."""
OTHERS = "(others)"

SLOW = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 30, 60, 120, 300, 600)
"""Bounds in seconds for what a model does."""
QUICK = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5)
"""Bounds in seconds for what a disk does."""
WIDE = (0.001, 0.01, 0.1, 0.5, 1, 5, 10, 30, 60, 300, 1800, 7200)
"""Bounds in seconds for what may be anything."""


class Meters:
    """Counters and histograms on a registry of their own, so that two kernels never clash."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()

        def counter(name: str, told: str, *labels: str) -> Counter:
            made = Counter(f"aosk_{name}", told, labels)
            registry.register(made)
            return made

        def seconds(name: str, told: str, *labels: str, of: tuple[float, ...]) -> Histogram:
            made = Histogram(f"aosk_{name}_seconds", told, labels, of)
            registry.register(made)
            return made

        self.calls = counter("llm_calls", "Calls of models.", "address", "model", "outcome")
        self.call_s = seconds("llm_call", "How long calls took.", "address", of=SLOW)
        self.first_token_s = seconds(
            "llm_first_token", "How long until the first token.", "address", of=SLOW
        )
        self.tokens = counter("llm_tokens", "Tokens used.", "address", "model", "kind")
        self.waited_s = seconds(
            "scheduler_wait", "How long calls that waited have waited.", "address", "class", of=SLOW
        )
        self.tool_s = seconds("tool_call", "How long tools took.", "tool", "outcome", of=WIDE)
        self.syscall_s = seconds("syscall", "How long syscalls took.", "kind", "outcome", of=WIDE)
        self.repeated = counter("syscalls_repeated", "Syscalls made again after a crash.", "kind")
        self.spawned = counter("processes_spawned", "Processes begun.", "program", "class")
        self.ended = counter("processes_ended", "Processes ended.", "program", "state")
        self.parked = counter("processes_parked", "Times that a process has left memory.")
        self.resumed = counter("processes_resumed", "Times that a process came back to memory.")
        self.refused = counter("policy_refused", "Calls that the policy refused.", "topic", "rule")
        self.commits = counter("storage_commits", "Commits that somebody waited for.", "outcome")
        self.commit_s = seconds("storage_commit", "How long they took.", of=QUICK)
        self.services = counter("service_events", "What became of services.", "service", "event")
        self.guarded = counter("guard_events", "What guards have told.", "topic", "address")
        self._seen = defaultdict[str, set[str]](set)

    def name(self, label: str, value: str) -> str:
        """The value, or that it is one of too many."""
        seen = self._seen[label]
        if value in seen:
            return value
        if len(seen) >= MOST:
            return OTHERS
        seen.add(value)
        return value

    def use(self, address: str, model: str, usage: Usage) -> None:
        """Count tokens. `cached` and `cache_written` are part of the prompt's, and so on."""
        for kind in ("prompt", "completion", "cached", "cache_written", "reasoning"):
            if tokens := getattr(usage, kind):
                self.tokens.add(address, model, kind, by=tokens)


def _completed(meters: Meters, event: Completed) -> None:
    model = meters.name("model", event.model)
    meters.calls.add(event.address, model, event.finish)
    meters.call_s.add(event.seconds, event.address)
    if event.first_token_s is not None:
        meters.first_token_s.add(event.first_token_s, event.address)
    meters.use(event.address, model, event.usage)


def _failed(meters: Meters, event: CompletionFailed) -> None:
    model = meters.name("model", event.model)
    meters.calls.add(event.address, model, event.error)
    meters.call_s.add(event.seconds, event.address)
    meters.use(event.address, model, event.usage)


def _decided(meters: Meters, event: Decided) -> None:
    told = here()
    origin = told.origin if told is not None and isinstance(told.origin, Origin) else Origin()
    meters.waited_s.add(event.chosen.waited_s, event.address, origin.process_class)


def _tool(meters: Meters, event: ToolCalled) -> None:
    # A name that no toolset knows may be anything that a model made up.
    tool = "" if event.error == "UnknownTool" else meters.name("tool", event.name)
    meters.tool_s.add(event.seconds, tool, event.error or "done")


def _syscall(meters: Meters, event: SyscallDone) -> None:
    outcome = "failed" if event.failed else "done"
    meters.syscall_s.add(event.seconds, _kind(event.kind), outcome)


def _kind(kind: str) -> str:
    """Of "call:read_file" the first word: the second may be a model's."""
    return kind.partition(":")[0]


def _spawned(meters: Meters, event: ProcessSpawned) -> None:
    meters.spawned.add(meters.name("program", event.program), event.process_class)


def _ended(meters: Meters, event: ProcessExited) -> None:
    meters.ended.add(meters.name("program", event.program), event.state)


def _refused(meters: Meters, event: CallRefused) -> None:
    meters.refused.add(event.what.partition(":")[0], event.rule)


def _committed(meters: Meters, event: Committed) -> None:
    meters.commits.add("done", by=len(event.seconds) - sum(event.failed.values()))
    for error, number in event.failed.items():
        meters.commits.add(error, by=number)
    for seconds in event.seconds:
        meters.commit_s.add(seconds)


def _service(meters: Meters, event: Any) -> None:
    meters.services.add(event.service, event.topic.partition(".")[2])


def guarded(meters: Meters, event: Event) -> None:
    """What a guard told that has no line of its own."""
    address = meters.name("address", str(getattr(event, "address", "")))
    meters.guarded.add(event.topic, address)


EVENTS: dict[str, Callable[[Meters, Any], None]] = {
    Completed.topic: _completed,
    CompletionFailed.topic: _failed,
    Decided.topic: _decided,
    ToolCalled.topic: _tool,
    SyscallDone.topic: _syscall,
    SyscallRepeated.topic: lambda meters, event: meters.repeated.add(_kind(event.kind)),
    ProcessSpawned.topic: _spawned,
    ProcessExited.topic: _ended,
    ProcessParked.topic: lambda meters, event: meters.parked.add(),
    ProcessResumed.topic: lambda meters, event: meters.resumed.add(),
    CallRefused.topic: _refused,
    Committed.topic: _committed,
    ServiceCrashed.topic: _service,
    ServiceDown.topic: _service,
    ServiceSwapped.topic: _service,
    SwapRejected.topic: _service,
}
"""What an event moves."""

GUARDS = ("limiter.*", "breaker.*", "retry.*", "failover.*", "cache.*", "quota.*")
"""What guards tell is counted by topic and address, unless it has a line above."""
