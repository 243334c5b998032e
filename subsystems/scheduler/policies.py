"""Scheduling policies: a bucket for each turn, a rank for each bucket.

First come, first served inside a bucket, so a decision looks at bucket heads only. The
lowest rank goes first, the oldest head breaks ties.
"""

from typing import Protocol

from ..processes.messages import Origin

Bucket = tuple[int, ...]
CLASSES = {"interactive": 0, "normal": 1, "batch": 2}


class Policy(Protocol):
    """Who goes next. Both methods are pure."""

    def bucket(self, origin: Origin) -> Bucket:
        """The queue this caller's turn joins."""
        ...

    def rank(self, bucket: Bucket, now: float) -> tuple[int, ...]:
        """How this queue compares with the others at this moment; lower goes first."""
        ...


class Fifo:
    """One queue for all."""

    def bucket(self, origin: Origin) -> Bucket:
        return ()

    def rank(self, bucket: Bucket, now: float) -> tuple[int, ...]:
        return bucket


class Priority:
    """By class (interactive, normal, batch), then by priority, 0 first."""

    def bucket(self, origin: Origin) -> Bucket:
        return (CLASSES[origin.process_class], origin.priority)

    def rank(self, bucket: Bucket, now: float) -> tuple[int, ...]:
        return bucket


POLICIES: dict[str, type[Policy]] = {"fifo": Fifo, "priority": Priority}
