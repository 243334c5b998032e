"""The statement that writes a batch of commits: as much of `sql/commit.sql` as the batch needs.

A commit of a syscall's outcome has rows for three of the tables. With all the others in it, as
empty arrays, its statement took three times as long.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import chain
from typing import Any

from ._postgres_sql import sql

Row = tuple[Any, ...]

TABLES = {
    "claims": "pid bigint, epoch bigint, seq bigint, leaves boolean, former bytea, head bytea",
    "born": (
        "by bigint, pid bigint, key text, program text, version text, name text, role text, "
        "tags text, parent bigint, class text, priority integer, tenant text, user_id text, "
        "state_json bytea, "
        "bound boolean, quotas text, bounds text, salt bytea, "
        "seq bigint, head bytea"  # the last of its commit
    ),
    "saved": (
        "by bigint, pid bigint, state text, step integer, state_json bytea, result bytea, "
        "error bytea, error_kind text, waits_in text, waits_for text, wake_at float8, clock float8"
    ),
    "ended": "by bigint, pid bigint",
    "offered": "by bigint, pid bigint",
    "intents": (
        "pid bigint, step integer, path text, kind text, fingerprint bytea, effect text, "
        "note text, rule text, epoch bigint, seq bigint"
    ),
    "notes": "pid bigint, step integer, path text, note text",
    "entries": (
        "pid bigint, step integer, path text, kind text, fingerprint bytea, failed boolean, "
        "took real, body bytea, rest bytea, epoch bigint, seq bigint, hash bytea"
    ),
    "marks": (
        "by bigint, pid bigint, seq bigint, epoch bigint, kind text, key text, "
        "fingerprint bytea, said bytea, hash bytea"
    ),
    "pages": (
        "pid bigint, number bigint, role text, pinned boolean, tool_call_id text, step integer, "
        "path text, text bytea, rest bytea"
    ),
    "letters": "by bigint, pid bigint, body bytea",
    "taken": "pid bigint, number bigint",
    "commands": "by bigint, pid bigint, signal text, grace_s float8",
    "obeyed": "pid bigint, number bigint",
    "announced": "by bigint, pid bigint",
    "questions": (
        "pid bigint, step integer, path text, text bytea, choices bytea, deadline float8"
    ),
    "closed": "pid bigint, step integer, path text",
    "answers": "by bigint, number bigint, text bytea, receipt text",
    "memories": "by bigint, pid bigint, tenant text, text bytea, tags text, terms text",
    "vectors": "by bigint, memory bigint, embedder text, dimensions integer, vector text",
    "records": "by bigint, collection text, key text, body bytea, lasts_s float8",
    "accounts": (
        "by bigint, scope text, what text, ceiling bigint, action text, instead text, "
        "configured boolean"
    ),
    "raises": "by bigint, scope text, what text, amount bigint",
    "charges": (
        "by bigint, ticket bigint, scope text, what text, held bigint, spent bigint"
    ),  # held by a reservation, or spent by what it was for
    "spends": (
        "pid bigint, tenant text, model text, day text, currency text, prompt bigint, "
        "completion bigint, cached bigint, reasoning bigint, money bigint, calls bigint, "
        "tool_calls bigint"
    ),
}
"""Where `:name` stands in the statement: a table of so many parameters, each an array."""

VALUES = {"outside": "bigint", "kernel": "bigint", "namespace": "text"}
"""The parameters behind them: the number of the last commit from outside, or 0; who writes."""

USUAL = frozenset({"claims", "born", "saved", "intents", "entries", "marks", "pages"})
RINGING = frozenset(
    {"ended", "offered", "letters", "commands", "answers", "announced", "accounts", "raises"}
)
"""Of these somebody is told; ":ringing" stands for any of them."""
FEW = 4
"""Of more commits the statement is for all of the usual tables, so that there are few of them."""

PART = re.compile(r"^(?P<name>\w+) as \((?P<text>.*?)^\)", re.MULTILINE | re.DOTALL)
PLACE = re.compile(r"(?<!:):([a-z]+)\b")
NOBODY = "select 0::bigint as pid where false"


@dataclass(frozen=True, slots=True)
class Statement:
    """Its text, and what it takes: a row of each of the `single` tables, columns of the others,
    in the order of `tables`, and then `values`.
    """

    text: str
    tables: Sequence[str]
    values: Sequence[str]
    single: frozenset[str]


def filled(rows: Mapping[str, Sequence[Row]], commits: int, **values: Any) -> tuple[str, Row]:
    """The statement for these rows of so many commits, and its parameters."""
    there = {table: len(found) for table, found in rows.items() if found}
    if values["outside"]:
        there["outside"] = 1
    if commits <= FEW:
        made = statement(frozenset(there), _single(there))
    else:
        made = statement(USUAL.union(there), frozenset())
    told = (_told(table, rows.get(table, ()), made) for table in made.tables)
    return made.text, (*chain.from_iterable(told), *(values[name] for name in made.values))


def _single(there: Mapping[str, int]) -> frozenset[str]:
    return frozenset(table for table, count in there.items() if count == 1)


def _told(table: str, rows: Sequence[Row], made: Statement) -> Iterable[Any]:
    """A single row as it is; more, or none, column by column."""
    if table in made.single:
        return rows[0]
    return zip(*rows, strict=True) if rows else [()] * (TABLES[table].count(",") + 1)


@cache
def statement(there: frozenset[str], single: frozenset[str]) -> Statement:
    """What writes rows of these tables, of those in `single` one; "outside" stands for commits
    from outside.

    A part of `commit.sql` is left out when it speaks of something, be it in a comment, that is
    not there; for the parts behind it, it has found nobody then.
    """
    text = sql("commit")
    there = there | ({"ringing"} if there & RINGING else set())
    body, end = "".join(_parts(text, there)), text[text.rindex("\n)") + 2 :]
    said = PLACE.findall(body + end)
    tables, values = ([name for name in kind if name in said] for kind in (TABLES, VALUES))
    places = dict(_places(tables, values, single))
    written = PLACE.sub(lambda found: places[found[1]], f"with\n{body.rstrip().rstrip(',')}{end}")
    return Statement(written, tables, values, single)


def _parts(text: str, there: frozenset[str]) -> Iterator[str]:
    conditions = {*TABLES, "outside", "ringing"}
    for part in PART.finditer(text):
        needed = conditions & set(PLACE.findall(part["text"]))
        if needed <= there:
            yield f"{part[0]},\n"
        elif re.search(rf"\b{part['name']}\b", text[part.end() :]):
            yield f"{part['name']} as ({NOBODY}),\n"


def _places(
    tables: Iterable[str], values: Iterable[str], single: frozenset[str]
) -> Iterator[tuple[str, str]]:
    yield "ringing", ""
    number = 0
    for table in tables:
        columns = [column.split() for column in TABLES[table].split(", ")]
        kinds = [f"${at}::{kind}" for at, (_, kind) in enumerate(columns, number + 1)]
        number += len(columns)
        names = ", ".join(name for name, _ in columns)
        if table in single:
            yield table, f"(values ({', '.join(kinds)}, 1)) as t ({names}, place)"
        else:
            arrays = ", ".join(f"{kind}[]" for kind in kinds)
            yield table, f"unnest({arrays}) with ordinality as t ({names}, place)"
    for name in values:
        number += 1
        yield name, f"${number}::{VALUES[name]}"
