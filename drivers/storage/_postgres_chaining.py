"""The links that one statement adds to the chains of its processes."""

from collections.abc import Mapping
from typing import NamedTuple

from ...subsystems.storage import driver as d
from ._postgres_statement import Row

SALT = 16
"""Bytes of what a process's bodies are hashed with."""


class Chain(NamedTuple):
    """Where a process's chain ends, and what its bodies are hashed with."""

    head: bytes
    salt: bytes


class Chaining:
    """Makes the links of one statement."""

    def __init__(self, ends: Mapping[d.Pid, Chain] | None) -> None:
        self._ends = ends
        self.now: dict[d.Pid, Chain] = {}

    def add(self, rows: list[Row], table: str, row: Row, last: int) -> None:
        """Add the row, with its hash if it is a link."""
        match table:
            case "born":
                rows.append((*row[:-1], None if self._ends is None else row[-1], last))
                self.now[row[1]] = Chain(d.ROOT, row[-1])
            case "entries":
                rows.append((*row, None if self._ends is None else self._entry(row)))
            case "marks" if self._ends is None:
                pass
            case "marks":
                rows.append((*row, self._mark(row)))
            case _:
                rows.append(row)

    def _entry(self, row: Row) -> bytes:
        pid, step, path, kind, mark, failed, took_s, body, rest, epoch, seq = row
        whole = rest if body is None else body + rest
        return self._link((pid, seq, epoch), (kind, f"{step}:{path}", mark, failed, took_s), whole)

    def _mark(self, row: Row) -> bytes:
        _, pid, seq, epoch, kind, key, mark, said = row
        return self._link((pid, seq, epoch), (kind, key, mark, False, None), said)

    def _link(self, place: tuple[d.Pid, int, int], said: d.Said, body: bytes) -> bytes:
        pid, _, _ = place
        chain = self._chain(pid)
        head = d.linked(chain.head, place, said, d.body_mark(chain.salt, body))
        self.now[pid] = Chain(head, chain.salt)
        return head

    def _chain(self, pid: d.Pid) -> Chain:
        """Where it ends by now; of a process that there is not, nothing will be written."""
        return self.now.get(pid) or (self._ends or {}).get(pid) or Chain(d.ROOT, b"")

    def moved(self, pid: d.Pid) -> tuple[bytes | None, bytes | None]:
        """From where to where, if it goes on."""
        now = self.now.get(pid)
        if now is None or self._ends is None:
            return None, None
        former = self._ends.get(pid)
        return d.ROOT if former is None else former.head, now.head

    def head(self, pid: d.Pid) -> bytes:
        return self._chain(pid).head if self._ends is not None else d.ROOT
