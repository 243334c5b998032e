"""How each query is answered: by which statement, with which values, and what its rows say."""

from collections.abc import Callable
from operator import itemgetter
from typing import Any, NamedTuple, TypeVar

from ...subsystems.storage import driver as d
from ._postgres_rows import (
    alarm,
    command,
    entry,
    kept,
    letter,
    memory,
    page,
    question,
    record,
    spent,
)
from ._postgres_statement import Row
from ._postgres_values import floats, place

Q = TypeVar("Q", bound=d.Query[Any])
Made = Callable[[list[Any]], Any]
"""Makes the reply of the rows."""
Asked = tuple[str, Row, Made]
"""The statement's name, its values, and what makes the reply of its rows."""


def asked(query: d.Query[Any], namespace: str) -> Asked:
    """How a query is answered."""
    answer = _ANSWERS.get(type(query))
    if answer is None:
        raise TypeError(f"storage cannot answer {type(query).__name__}")
    return answer.statement, answer.values(query, namespace), answer.made


def _each(made: Callable[[Any], Any]) -> Made:
    """All rows, in their order."""
    return lambda rows: tuple(map(made, rows))


def _first(made: Callable[[Any], Any]) -> Made:
    """The only row, if it is there."""
    return lambda rows: made(rows[0]) if rows else None


def _named(kind: Callable[..., Any]) -> Callable[[Any], Any]:
    """A row whose columns are called as the fields are."""
    return lambda row: kind(**row)


def _questions(query: d.ReadQuestions, namespace: str) -> Row:
    at = (None, None) if query.key is None else place(query.key)
    return namespace, query.number, query.pid, *at


def _alarms(query: d.FindAlarms, namespace: str) -> Row:
    names, versions = zip(*query.programs, strict=True) if query.programs else ((), ())
    return namespace, names, versions, query.limit


def _over(query: d.FindExpired | d.ForgetExpired, namespace: str) -> Row:
    over = query.expiry
    whose = (over.after_s, over.states, over.tenant, over.but_tenants, over.keys_after_s)
    return namespace, *whose, query.limit


def _similar(query: d.FindSimilar, namespace: str) -> Row:
    numbers = floats(query.vector)
    near = (query.embedder, len(numbers), str(numbers), query.least)
    return namespace, query.tenant, *near, query.tags, query.limit


class _Answer(NamedTuple):
    statement: str
    values: Callable[[Any, str], Row]
    made: Made


def _answer(
    kind: type[Q], statement: str, values: Callable[[Q, str], Row], made: Made
) -> tuple[type, _Answer]:
    """So that the values are checked to be of this kind of query."""
    return kind, _Answer(statement, values, made)


_ANSWERS = dict(
    [
        _answer(d.ReadLog, "read_log", lambda q, _: (q.pid, q.step), _each(entry)),
        _answer(d.ReadPages, "read_pages", lambda q, _: (q.pid, q.after), _each(page)),
        _answer(d.ReadLetters, "read_letters", lambda q, _: (q.pid, q.limit), _each(letter)),
        _answer(
            d.ReadProcess,
            "read_process",
            lambda q, ns: (ns, q.pid if q.key is None else None, q.key),
            _first(record),
        ),
        _answer(
            d.FindProcesses,
            "find_processes",
            lambda q, ns: (ns, q.name, q.role, q.tag, q.parent, q.tenant, q.ended, q.limit),
            _each(record),
        ),
        _answer(d.ReadCommands, "read_commands", lambda q, _: (q.pid,), _each(command)),
        _answer(d.ReadQuestions, "read_questions", _questions, _each(question)),
        _answer(d.FindAlarms, "find_alarms", _alarms, _each(alarm)),
        _answer(d.FindTenures, "find_tenures", lambda q, ns: (ns, q.pids), _each(_named(d.Tenure))),
        _answer(d.FindExpired, "find_expired", _over, _each(_named(d.Expired))),
        _answer(d.ForgetExpired, "forget_expired", _over, _each(_named(d.Expired))),
        _answer(
            d.FindLineage, "find_lineage", lambda q, ns: (ns, q.pid), _first(_named(d.Lineage))
        ),
        _answer(
            d.FindStranded, "find_stranded", lambda q, ns: (ns, q.pids), _each(itemgetter("pid"))
        ),
        _answer(d.ReadRates, "read_rates", lambda _, ns: (ns,), _each(_named(d.SharedRate))),
        _answer(d.ReadSeats, "read_seats", lambda _, ns: (ns,), _each(_named(d.SharedSeats))),
        _answer(
            d.FindMemories,
            "find_memories",
            lambda q, ns: (ns, q.tenant, q.terms, q.tags, q.limit),
            _each(memory),
        ),
        _answer(d.FindSimilar, "find_similar", _similar, _each(memory)),
        _answer(
            d.FindUnembedded,
            "find_unembedded",
            lambda q, ns: (ns, q.embedder, q.dimensions, q.limit),
            _each(memory),
        ),
        _answer(d.ReadRecord, "read_record", lambda q, ns: (ns, q.collection, q.key), _first(kept)),
        _answer(
            d.FindRecords,
            "find_records",
            lambda q, ns: (ns, q.collection, q.prefix, q.after, q.limit),
            _each(kept),
        ),
        _answer(
            d.ReadAccounts, "read_accounts", lambda q, ns: (ns, q.ended), _each(_named(d.Account))
        ),
        _answer(d.ReadSpent, "read_spent", lambda q, ns: (ns, q.by, q.since), _each(spent)),
    ]
)
