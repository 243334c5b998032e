"""What is kept of one process, and the rows in which it is: flat and immutable."""

import time
from dataclasses import dataclass, fields
from operator import attrgetter
from typing import Any, Final

from ...subsystems.storage import driver as d

LogRow = tuple[str, str, Any, int, bool, bool, str, int, str, float | None, float | None, str]
"""Of the log: kind, fingerprint, effect, attempts, settled, failed, body, epoch, note, times, rule."""
BODY: Final = 6

_FIELDS = tuple(field.name for field in fields(d.ProcessRecord))
_OFTEN = _FIELDS.index("bound")  # the fields from there on are the same in most processes
_HEAD, _REST = attrgetter(*_FIELDS[:_OFTEN]), attrgetter(*_FIELDS[_OFTEN:])
_SHARED: dict[tuple[Any, ...], tuple[Any, ...]] = {}
_STATE, _WAITS_FOR = _FIELDS.index("state"), _FIELDS.index("waits_for") - _OFTEN
_PROGRAM = slice(_FIELDS.index("program"), _FIELDS.index("program") + 2)  # and its version
_PARENT = _FIELDS.index("parent")


@dataclass(slots=True)
class Process:
    """All that is kept of one; `row` is empty while it is not born."""

    epoch: int = 0
    owned: bool = False
    lapsed: bool = False  # the owner's lease has run out; it may write until another claims
    row: tuple[Any, ...] = ()
    born: float = 0.0
    since: float = 0.0
    log: dict[d.Key, LogRow] | None = None
    pages: list[tuple[Any, ...]] | None = None
    letters: dict[int, d.Letter] | None = None

    @property
    def is_held(self) -> bool:
        """By a kernel that lives."""
        return self.owned and not self.lapsed

    @property
    def has_ended(self) -> bool:
        return bool(self.row) and self.row[_STATE] in d.ENDED

    @property
    def state(self) -> str:
        state: str = self.row[_STATE]
        return state

    @property
    def program(self) -> tuple[str, str]:
        """Its name and its version."""
        program: tuple[str, str] = self.row[_PROGRAM]
        return program

    @property
    def parent(self) -> d.Pid | None:
        parent: d.Pid | None = self.row[_PARENT]
        return parent

    @property
    def waits_for_others(self) -> bool:
        return bool(self.row[-1][_WAITS_FOR])

    @property
    def record(self) -> d.ProcessRecord:
        """The row as storage's word."""
        values = (*self.row[:-1], *self.row[-1])
        return d.ProcessRecord(**dict(zip(_FIELDS, values, strict=True)))

    def put(self, record: d.ProcessRecord) -> None:
        """Keep this, and since when it is in this state."""
        if not self.row or self.row[_STATE] != record.state:
            self.since = time.time()
            self.born = self.born or self.since
        self.amend(record)

    def amend(self, record: d.ProcessRecord) -> None:
        """Keep this of a process whose state is the same."""
        rest = _REST(record)
        has_bounds = record.quotas or record.bounds
        if not (record.waits_for or record.wake_at is not None or record.clock or has_bounds):
            rest = _SHARED.setdefault(rest, rest)
        self.row = (*_HEAD(record), rest)


def entry(key: d.Key, row: LogRow) -> d.Entry:
    """A row of the log as storage's word."""
    kind, mark, effect, attempts, settled, failed, body, epoch, note, began_at, took_s, rule = row
    return d.Entry(
        key=key,
        kind=kind,
        fingerprint=mark,
        effect=effect,
        attempts=attempts,
        settled=settled,
        failed=failed,
        body=body,
        epoch=epoch,
        note=note,
        began_at=began_at,
        took_s=took_s,
        rule=rule,
    )
