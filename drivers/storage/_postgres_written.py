"""A commit as rows of the tables that a statement has."""

import json
import os
from collections.abc import Callable
from operator import attrgetter
from typing import Any

from ...subsystems.storage import driver as d
from ._postgres_chaining import SALT
from ._postgres_statement import Row
from ._postgres_values import encoded, floats, place

PIECE = 1996
"""Bytes that PostgreSQL keeps together of what is too long for its row."""
_amounts = attrgetter(
    *("prompt", "completion", "cached", "reasoning", "money", "calls", "tool_calls")
)


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
        whose = (r.process_class, r.priority, r.tenant, r.user)
        rest = (self._body(r.state_json), r.bound, quotas)
        bounds = json.dumps(r.bounds) if r.bounds else "[]"
        self._row("born", self.commit.pid, r.pid, *told, *whose, *rest, bounds, os.urandom(SALT))
        self.bears.add(r.pid)
        said = {
            "program": r.program, "version": r.version, "key": r.key, "name": r.name,
            "role": r.role, "tags": r.tags, "parent": r.parent, "tenant": r.tenant,
            "user": r.user,
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
        self._row("spends", *whose, *_amounts(write.spent))

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
