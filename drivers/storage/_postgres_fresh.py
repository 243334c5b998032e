"""Pages that this kernel has written and that the pager has not read yet.

A process's pages are read right before each call of a model, and those that are new by then
were written by the same kernel a moment ago: reading them back took longer than their commit.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass, field

from ...subsystems.storage import driver as d

MOST_PROCESSES = 1024
MOST_PAGES = 64
"""Of a process; one that writes more before anybody asks is read from the database."""


@dataclass(slots=True)
class Fresh:
    """All of a process's pages behind the one of this number, or since the reading began."""

    after: float
    pages: list[d.Page] = field(default_factory=list)


class FreshPages:
    """Of processes of ours whose former pages have been read, or were born here without any.

    Whoever reads another kernel's process reads the database each time: it hears of nothing.
    """

    def __init__(self) -> None:
        self._ours: set[d.Pid] = set()
        self._known: dict[d.Pid, Fresh] = {}

    def born(self, pid: d.Pid) -> None:
        """It is ours, and has no pages yet."""
        self._ours.add(pid)
        self._keep(pid, Fresh(0))

    def claimed(self, pid: d.Pid) -> None:
        """It is ours from now on."""
        self._ours.add(pid)
        self.forget(pid)

    def left(self, pid: d.Pid) -> None:
        """Somebody else may write for it from now on."""
        self._ours.discard(pid)
        self.forget(pid)

    def _keep(self, pid: d.Pid, fresh: Fresh) -> None:
        self._known[pid] = fresh
        if len(self._known) > MOST_PROCESSES:
            del self._known[next(iter(self._known))]

    def add(self, pid: d.Pid, pages: Iterable[d.Page]) -> None:
        fresh = self._known.get(pid)
        if fresh is None:
            return
        fresh.pages += pages
        if len(fresh.pages) > MOST_PAGES:
            del self._known[pid]

    def take(self, pid: d.Pid, after: int) -> tuple[d.Page, ...] | None:
        """Those behind this page, which is not asked for again; None when not all are here."""
        fresh = self._known.get(pid)
        if fresh is None or after < fresh.after:
            return None
        fresh.after = after
        fresh.pages = [page for page in fresh.pages if page.number > after]
        return tuple(fresh.pages)

    def begin(self, pid: d.Pid) -> Fresh:
        """The database is about to be asked; what is added from now on is kept."""
        reading = Fresh(math.inf)
        if pid in self._ours:
            self._keep(pid, reading)
        return reading

    def forget(self, pid: d.Pid) -> None:
        """What is there has to be read again."""
        self._known.pop(pid, None)
