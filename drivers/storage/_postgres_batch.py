"""Many commits as the rows of one statement."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from operator import add
from typing import NamedTuple

from ...subsystems.storage import driver as d
from ._postgres_chaining import Chain, Chaining
from ._postgres_statement import Row, filled
from ._postgres_written import Written

WHOSE = 5
"""Columns of what was spent that say whose, of which model and when; the others are sums."""


class Batch:
    """Commits that one statement can write: in one epoch of each process, after its birth and
    until it is left.
    """

    def __init__(self, most: int, most_bytes: int) -> None:
        self._most, self._most_bytes = most, most_bytes
        self._size = self._count = 0
        self._epochs: dict[d.Pid, int] = {}
        self._accounts: set[tuple[str, str]] = set()
        self._tickets: set[int] = set()
        self._charges = False
        self._closed: set[d.Pid] = set()

    def takes(self, written: Written) -> bool:
        """Take it if it can go with the others; the first always can."""
        pid, epoch = written.commit.pid, written.commit.epoch
        fits = self._count < self._most and self._size + written.size <= self._most_bytes
        alike = self._epochs.get(pid, epoch) == epoch and pid not in self._closed
        if self._count and not (fits and alike and self._keeps_accounts(written)):
            return False
        self._count, self._size = self._count + 1, self._size + written.size
        self._epochs[pid] = epoch
        self._accounts |= written.accounts
        self._tickets |= written.reserves
        self._charges = self._charges or bool(written.reserves or written.spends)
        self._closed |= {*written.bears, pid} if written.leaves else written.bears
        return True

    def _keeps_accounts(self, written: Written) -> bool:
        """A statement changes a row once only, and does not see those that it inserts."""
        if written.accounts and (self._charges or self._accounts & written.accounts):
            return False
        moves = written.reserves or written.spends
        return not (moves and self._accounts) and self._tickets.isdisjoint(written.spends)


class Prepared(NamedTuple):
    """A statement, what it takes, and where the chains end when it is written."""

    text: str
    values: Row
    ends: Mapping[d.Pid, Chain]


def prepared(
    commits: Sequence[Written], kernel: int, namespace: str, ends: Mapping[d.Pid, Chain] | None
) -> Prepared:
    """The statement that writes them; `ends` is None where nothing is chained."""
    rows: dict[str, list[Row]] = defaultdict(list)
    claims: dict[d.Pid, Row] = {}
    chaining = Chaining(ends)
    outside = 0
    for written in commits:
        commit = written.commit
        for table, row in written.rows:
            chaining.add(rows[table], table, row, written.seq)
        if not commit.pid:
            outside = written.seq
        elif commit.pid not in written.bears:
            claims[commit.pid] = _claim(written, claims.get(commit.pid))
    rows["claims"] = [(*claim, *chaining.moved(claim[0])) for claim in claims.values()]
    rows["born"] = [(*row, chaining.head(row[1])) for row in rows["born"]]
    rows["saved"] = list({row[1]: row for row in rows["saved"]}.values())  # the latest of each
    rows["vectors"] = list({row[1:3]: row for row in rows["vectors"]}.values())
    rows["spends"] = _added(rows["spends"])
    text, values = filled(rows, len(commits), outside=outside, kernel=kernel, namespace=namespace)
    return Prepared(text, values, chaining.now)


def _claim(written: Written, before: Row | None) -> Row:
    """Of several commits of a process: the number of the last, and what the last save said."""
    leaves = written.leaves
    if leaves is None and before is not None:
        leaves = before[-1]
    return written.commit.pid, written.commit.epoch, written.seq, leaves


def _added(spends: Sequence[Row]) -> list[Row]:
    """Those of the same process, model and day as one."""
    if len(spends) < 2:
        return list(spends)
    sums: dict[Row, Row] = {}
    for row in spends:
        whose, used = row[:WHOSE], row[WHOSE:]
        before = sums.get(whose)
        sums[whose] = used if before is None else tuple(map(add, before, used))
    return [(*whose, *used) for whose, used in sums.items()]
