"""Where a span stands in its trace: told by the process and the log, so no crash changes it.

The trace is that of the process without a parent, of whom this one descends. Its number and
the microsecond it was born at make the trace's id; a place in the log makes a span's.
"""

from hashlib import blake2b

from opentelemetry.trace import SpanContext, TraceFlags

from ...subsystems.storage.messages import Key, Lineage, Pid

SAMPLED = TraceFlags(TraceFlags.SAMPLED)


def _digest(text: str, size: int) -> int:
    """Never 0, which OpenTelemetry takes for none."""
    return int.from_bytes(blake2b(text.encode(), digest_size=size).digest(), "big") or 1


class Place:
    """A process's trace, and its spans' ids."""

    __slots__ = ("_last", "born", "parent", "pid", "trace")

    def __init__(self, lineage: Lineage) -> None:
        self.pid, self.parent, self.born = lineage.pid, lineage.parent, lineage.born
        self._last: tuple[str, SpanContext] | None = None
        self.trace = _digest(f"{round(lineage.root_born * 1e6)}:{lineage.root}", 16)

    def is_sampled(self, ratio: float) -> bool:
        """The same in every kernel, for all processes of a trace."""
        return (self.trace & 0xFFFF_FFFF_FFFF_FFFF) < ratio * (1 << 64)

    def _context(self, number: int) -> SpanContext:
        return SpanContext(self.trace, number, is_remote=False, trace_flags=SAMPLED)

    def _at(self, place: str) -> SpanContext:
        """One that was just asked for is often asked for again: by what stands under it."""
        if self._last is None or self._last[0] != place:
            self._last = place, self._context(_digest(f"{self.trace}:{place}", 8))
        return self._last[1]

    def process(self, pid: Pid | None = None) -> SpanContext:
        """The process itself, or its parent."""
        return self._at(str(pid or self.pid))

    def above(self) -> SpanContext | None:
        """The parent's span."""
        return None if self.parent is None else self.process(self.parent)

    def step(self, step: int | str) -> SpanContext:
        return self._at(f"{self.pid}:{step}")

    def syscall(self, key: Key) -> SpanContext:
        return self._at(f"{self.pid}:{key}")

    def step_of(self, key: Key) -> SpanContext:
        return self.step(key.partition(":")[0])

    def attempt(self, key: Key, call: str) -> SpanContext:
        """One of perhaps several; `call` tells them apart."""
        return self._context(_digest(f"{self.trace}:{self.pid}:{key}:{call}", 8))
