"""Many commits as the rows of one statement."""

import json
import os
import struct
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from operator import add, attrgetter
from typing import Any, NamedTuple

from ...subsystems.storage import driver as d
from ._postgres_statement import Row, filled

WHOSE = 5
"""Columns of what was spent that say whose, of which model and when; the others are sums."""
amounts = attrgetter(
    *("prompt", "completion", "cached", "reasoning", "money", "calls", "tool_calls")
)
FLOAT = 4
"""Bytes of a number in a vector."""
SALT = 16
"""Bytes of what a process's bodies are hashed with."""
PIECE = 1996
"""Bytes that PostgreSQL keeps together of what is too long for its row."""


class Chain(NamedTuple):
    """Where a process's chain ends, and what its bodies are hashed with."""

    head: bytes
    salt: bytes


class Written:
    """A commit as rows.

    They are numbered in their order from `seq` on, which is then the number of the last:
    numbers of pages, and the order of the log. `size` is that of the bodies, in bytes. `pages`
    are as they will be read back, None when the text of one is in another commit. With `links` it
    goes on with its process's chain.
    """

    __slots__ = (
        "accounts", "bears", "bodies", "commit", "leaves", "links", "pages", "reserves", "rows",
        "seq", "size", "spends",
    )  # fmt: skip

    def __init__(self, commit: d.Commit, seq: int) -> None:
        self.commit, self.seq, self.size = commit, seq, 0
        self.bears: set[d.Pid] = set()
        self.accounts: set[tuple[str, str]] = set()
        self.reserves: set[int] = set()
        self.spends: set[int] = set()
        self.leaves: bool | None = None
        self.links = False
        self.rows: list[tuple[str, Row]] = []
        self.bodies: dict[d.Key, str] = {}
        self.pages: list[d.Page] | None = []
        for write in commit.writes:
            _ROWS[type(write)](self, write)

    def _bear(self, write: d.AddProcess) -> None:
        r = write.record
        told = (r.key, r.program, r.version, r.name, r.role, json.dumps(r.tags), r.parent)
        quotas = f"{{{','.join(map(str, r.quotas))}}}"
        rest = (r.process_class, r.priority, r.tenant, self._body(r.state_json), r.bound, quotas)
        bounds = json.dumps(r.bounds) if r.bounds else "[]"
        self._row("born", self.commit.pid, r.pid, *told, *rest, bounds, os.urandom(SALT))
        self.bears.add(r.pid)
        said = {
            "program": r.program, "version": r.version, "key": r.key, "name": r.name,
            "role": r.role, "tags": r.tags, "parent": r.parent, "tenant": r.tenant,
        }  # fmt: skip
        self._mark(r.pid, d.BORN, said, epoch=0)

    def _save(self, write: d.SaveProcess) -> None:
        r = write.record
        ended = (self._body(r.result), self._body(r.error), r.error_kind)
        children = f"{{{','.join(map(str, r.waits_for))}}}" if r.waits_for else None
        waits = (",".join(r.waits_in), children, r.wake_at, r.clock)
        state = (r.state, r.step, self._body(r.state_json))
        self._row("saved", self.commit.pid, r.pid, *state, *ended, *waits)
        if r.state in d.ENDED:
            self._row("ended", self.commit.pid, r.pid)
            self._mark(r.pid, d.ENDED_AS, {"state": r.state, "error_kind": r.error_kind})
        elif r.state == "parked" and not r.waits_in:
            self._row("offered", self.commit.pid, r.pid)
        self.leaves = r.state != "running"

    def _intend(self, write: d.Intend) -> None:
        said = (write.kind, bytes.fromhex(write.fingerprint), write.effect, write.note, write.rule)
        self._row("intents", self.commit.pid, *place(write.key), *said, *self._numbered())
        if write.effect == "once":
            told = {
                "kind": write.kind, "fingerprint": write.fingerprint, "note": write.note,
                "rule": write.rule,
            }  # fmt: skip
            self._mark(self.commit.pid, d.MEANT, told, key=write.key)

    def _annotate(self, write: d.Annotate) -> None:
        self._mark(self.commit.pid, d.NOTED, {"note": write.note}, key=write.key)
        self._row("notes", self.commit.pid, *place(write.key), write.note)

    def _settle(self, write: d.Settle) -> None:
        self.bodies[write.key] = write.body
        said = (write.kind, bytes.fromhex(write.fingerprint), write.failed, write.took_s)
        body = self._pieces(write.body)
        self._row("entries", self.commit.pid, *place(write.key), *said, *body, *self._numbered())
        self.links = True

    def _mark(
        self, pid: d.Pid, kind: str, said: object, *, key: d.Key = "", epoch: int | None = None
    ) -> None:
        """A link that is no syscall's outcome; of process 0 there is no chain."""
        if not pid:
            return
        own, seq = self._numbered()
        told = encoded(json.dumps(said, ensure_ascii=False))
        at = (pid, seq, own if epoch is None else epoch)
        self._row("marks", self.commit.pid, *at, kind, key, b"", told)
        self.links = self.links or pid == self.commit.pid

    def _page(self, write: d.AddPage) -> None:
        page = write.page
        text = (None, None) if page.entry is not None else self._pieces(page.text)
        at = (None, None) if page.entry is None else place(page.entry)
        looks = (page.role, page.pinned, page.tool_call_id)
        _, number = self._numbered()
        self._row("pages", self.commit.pid, number, *looks, *at, *text)
        self._show(page, number)

    def _show(self, page: d.Page, number: int) -> None:
        text = page.text if page.entry is None else self.bodies.get(page.entry)
        if text is None or self.pages is None:
            self.pages = None
            return
        made = d.Page(
            role=page.role,
            text=text,
            entry=page.entry,
            tool_call_id=page.tool_call_id,
            pinned=page.pinned,
            number=number,
        )
        self.pages.append(made)

    def _post(self, write: d.PostLetter) -> None:
        body = self._body(json.dumps(write.body, ensure_ascii=False))
        self._row("letters", self.commit.pid, write.to, body)

    def _take(self, write: d.TakeLetter) -> None:
        self._row("taken", self.commit.pid, write.number)

    def _command(self, write: d.PostCommand) -> None:
        self._row("commands", self.commit.pid, write.to, write.signal, write.grace_s)

    def _obey(self, write: d.TakeCommand) -> None:
        self._row("obeyed", self.commit.pid, write.number)
        self._mark(self.commit.pid, d.OBEYED, {"number": write.number, "signal": write.signal})

    def _announce(self, write: d.Announce) -> None:
        self._row("announced", self.commit.pid, self.commit.pid)

    def _ask(self, write: d.PutQuestion) -> None:
        text, choices = self._body(write.text), self._body(json.dumps(write.choices))
        said = (text, choices, write.deadline)
        self._row("questions", self.commit.pid, *place(write.key), *said)

    def _close(self, write: d.CloseQuestion) -> None:
        if write.decision:
            said = {"decision": write.decision}
            self._mark(self.commit.pid, d.DECIDED, said, key=write.key)
        self._row("closed", self.commit.pid, *place(write.key))

    def _answer(self, write: d.AnswerQuestion) -> None:
        text = self._body(write.text)
        self._row("answers", self.commit.pid, write.number, text, write.receipt)

    def _remember(self, write: d.AddMemory) -> None:
        m = write.memory
        found_by = (json.dumps(m.tags), json.dumps(m.terms))
        text = self._body(m.text)
        self._row("memories", self.commit.pid, m.pid or None, m.tenant, text, *found_by)

    def _understand(self, write: d.AddVector) -> None:
        numbers = floats(write.vector)
        vector = str(numbers) if numbers else None
        self._row("vectors", self.commit.pid, write.memory, write.embedder, len(numbers), vector)

    def _put(self, write: d.PutRecord) -> None:
        body = self._body(json.dumps(write.body, ensure_ascii=False))
        self._row("records", self.commit.pid, write.collection, write.key, body, write.lasts_s)

    def _drop(self, write: d.DropRecord) -> None:
        self._row("records", self.commit.pid, write.collection, write.key, b"", 0.0)

    def _limit(self, write: d.PutAccount) -> None:
        bound = (write.scope, write.what, write.ceiling, write.action, write.instead)
        self._row("accounts", self.commit.pid, *bound, write.configured)
        self.accounts.add((write.scope, write.what))

    def _raise(self, write: d.RaiseCeiling) -> None:
        self._row("raises", self.commit.pid, write.scope, write.what, write.by)
        self.accounts.add((write.scope, write.what))

    def _reserve(self, write: d.Reserve) -> None:
        self.reserves.add(write.ticket)
        for one in write.charges:
            charge = (write.ticket, one.scope, one.what, one.amount, None)
            self._row("charges", self.commit.pid, *charge)

    def _spend(self, write: d.Spend) -> None:
        self.spends.add(write.ticket)
        for one in write.charges:
            charge = (write.ticket, one.scope, one.what, None, one.amount)
            self._row("charges", self.commit.pid, *charge)
        if write.spent is None:
            return
        whose = (self.commit.pid, write.tenant, write.model, write.day, write.spent.currency)
        self._row("spends", *whose, *amounts(write.spent))

    def _numbered(self) -> tuple[int, int]:
        """The epoch and a number for the next row that keeps its place."""
        self.seq += 1
        return self.commit.epoch, self.seq

    def _body(self, text: str | None) -> bytes | None:
        if text is None:
            return None
        body = encoded(text)
        self.size += len(body)
        return body

    def _pieces(self, text: str) -> tuple[bytes | None, bytes]:
        """What fills pieces, if it is so large, and the rest."""
        body = encoded(text)
        self.size += len(body)
        whole = len(body) - len(body) % PIECE
        return body[:whole] or None, body[whole:]

    def _row(self, table: str, *values: Any) -> None:
        self.rows.append((table, values))


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


def encoded(text: str) -> bytes:
    """Text as it is stored; a lone surrogate, which UTF-8 has no code for, survives."""
    return text.encode("utf-8", "surrogatepass")


def decoded(body: bytes) -> str:
    return body.decode("utf-8", "surrogatepass")


def floats(vector: bytes) -> list[float]:
    """Raises ValueError."""
    if len(vector) % FLOAT:
        raise ValueError(f"a vector of {len(vector)} bytes does not consist of float32 numbers")
    return list(struct.unpack(f"<{len(vector) // FLOAT}f", vector))


def place(key: d.Key) -> tuple[int, str]:
    """ "12:3.1.0" is step 12, path 3.1.0."""
    step, _, path = key.partition(":")
    return int(step), path


_ROWS: dict[type, Callable[[Written, Any], None]] = {
    d.AddProcess: Written._bear,
    d.SaveProcess: Written._save,
    d.Intend: Written._intend,
    d.Settle: Written._settle,
    d.AddPage: Written._page,
    d.PostLetter: Written._post,
    d.TakeLetter: Written._take,
    d.Annotate: Written._annotate,
    d.PostCommand: Written._command,
    d.TakeCommand: Written._obey,
    d.Announce: Written._announce,
    d.PutQuestion: Written._ask,
    d.CloseQuestion: Written._close,
    d.AnswerQuestion: Written._answer,
    d.AddMemory: Written._remember,
    d.AddVector: Written._understand,
    d.PutRecord: Written._put,
    d.DropRecord: Written._drop,
    d.PutAccount: Written._limit,
    d.RaiseCeiling: Written._raise,
    d.Reserve: Written._reserve,
    d.Spend: Written._spend,
}
