"""What storage refuses before anything is written, whatever the driver."""

import json
from collections.abc import Callable, Iterable
from typing import Any

from pydantic_core import from_json

from . import messages as words

MIB = 1 << 20
RECORD_KIB = 64
LONGEST_S = 1e9
NAME = 256
"""Characters of a record's collection or key: an index holds some 2,700 bytes of both."""


def check(commit: words.Commit, most_mib: int) -> None:
    """Raise StorageRefused for what no driver could keep, or not give back as it was."""
    size = 0
    for write in commit.writes:
        kind = write.__class__
        names, bodies = _PARTS[kind](write)
        for what, name in names:
            if name and not _plain(name):
                raise words.StorageRefused(
                    f"process {commit.pid}: its {what} {name[:80]!r} holds NUL or half of a "
                    "surrogate pair, and a name cannot: leave that sign out"
                )
        for body in bodies:
            size += len(body)
        judge = _JUDGES.get(kind)
        if judge is not None:
            judge(write, bodies)
    if size * 4 > most_mib * MIB:  # a character has at most four bytes
        _check_size(commit, most_mib)


def _check_size(commit: words.Commit, most_mib: int) -> None:
    texts = (text for write in commit.writes for text in _PARTS[type(write)](write)[1])
    size = sum(len(text.encode("utf-8", "surrogatepass")) for text in texts)
    if size > most_mib * MIB:
        raise words.StorageRefused(
            f"process {commit.pid}: a commit of {size / MIB:.1f} MiB is more than the limit of "
            f"{most_mib} MiB: keep large data elsewhere and say where it is, or raise "
            "services.storage.most_mib; nothing was written"
        )


def _check_state(write: words.AddProcess | words.SaveProcess, bodies: tuple[str, ...]) -> None:
    """One that cannot be read could never be resumed."""
    record = write.record
    try:
        from_json(record.state_json)
    except ValueError as error:
        raise words.StorageRefused(
            f"process {record.pid}: its state is no JSON ({error}), so it could never be "
            "resumed; nothing was written"
        ) from None


def _check_record(write: words.PutRecord, bodies: tuple[str, ...]) -> None:
    """A large one would be read again and again, and an index cannot hold a long key."""
    for what, name in (("collection", write.collection), ("key", write.key)):
        if not 0 < len(name) <= NAME:
            raise words.StorageRefused(
                f"a record's {what} has 1 to {NAME} characters, not {len(name)}; nothing was written"
            )
    if write.lasts_s is not None and not 0 < write.lasts_s <= LONGEST_S:
        raise words.StorageRefused(
            f"the record {write.key!r} cannot last {write.lasts_s} seconds, only more than none "
            f"and at most {LONGEST_S:.0f}; without `lasts_s` it stays; nothing was written"
        )
    size = len(bodies[0].encode("utf-8", "surrogatepass"))
    if size > RECORD_KIB * 1024:
        raise words.StorageRefused(
            f"the record {write.key!r} of {write.collection!r} has {size / 1024:.0f} KiB, and a "
            f"record has at most {RECORD_KIB}: divide it, or keep large data elsewhere and say "
            "where it is; nothing was written"
        )


_JUDGES: dict[type, Callable[[Any, tuple[str, ...]], None]] = {
    words.AddProcess: _check_state,
    words.SaveProcess: _check_state,
    words.PutRecord: _check_record,
}
"""What else is looked at."""


def _plain(name: str) -> bool:
    if "\0" in name:
        return False
    try:
        return name.isascii() or bool(name.encode())
    except UnicodeEncodeError:
        return False


Names = Iterable[tuple[str, str | None]]
Parts = tuple[Names, tuple[str, ...]]
"""What stands in a column of names, and the bodies."""


def _record(record: words.ProcessRecord) -> Parts:
    texts = (record.state_json, record.result or "", record.error or "")
    return (("error_kind", record.error_kind),), texts


def _newborn(record: words.ProcessRecord) -> Parts:
    named: list[tuple[str, str | None]] = [
        (what, getattr(record, what))
        for what in ("key", "name", "role", "tenant", "user", "program", "version")
    ]
    bounds = (("bound", bound) for bound in record.bounds)
    return [*named, *(("tag", tag) for tag in record.tags), *bounds], (record.state_json,)


def _memory(memory: words.Memory) -> Parts:
    terms = (("term", term) for term in memory.terms)
    named = (("tenant", memory.tenant), *(("tag", tag) for tag in memory.tags), *terms)
    return named, (memory.text,)


def _record_of(write: words.PutRecord | words.DropRecord) -> Names:
    return (("collection", write.collection), ("key", write.key))


def _json(what: str, body: Any) -> tuple[str, ...]:
    try:
        return (json.dumps(body, ensure_ascii=False),)
    except (TypeError, ValueError, RecursionError) as error:
        raise words.StorageRefused(
            f"a {what}'s body must be JSON data: {error}; nothing was written"
        ) from None


_PARTS: dict[type, Callable[[Any], Parts]] = {
    words.AddProcess: lambda write: _newborn(write.record),
    words.SaveProcess: lambda write: _record(write.record),
    words.Intend: lambda write: ((("syscall", write.kind), ("rule", write.rule)), ()),
    words.Annotate: lambda write: ((), (write.note,)),
    words.Settle: lambda write: ((("syscall", write.kind),), (write.body,)),
    words.AddPage: lambda write: ((("tool call", write.page.tool_call_id),), (write.page.text,)),
    words.PostLetter: lambda write: ((), _json("letter", write.body)),
    words.TakeLetter: lambda write: ((), ()),
    words.PostCommand: lambda write: ((), ()),
    words.TakeCommand: lambda write: ((("signal", write.signal),), ()),
    words.Announce: lambda write: ((), ()),
    words.PutQuestion: lambda write: ((), (write.text, *write.choices)),
    words.CloseQuestion: lambda write: ((), (write.decision,)),
    words.AnswerQuestion: lambda write: ((), (write.text,)),
    words.AddMemory: lambda write: _memory(write.memory),
    words.AddVector: lambda write: ((("embedder", write.embedder),), ()),
    words.PutRecord: lambda write: (_record_of(write), _json("record", write.body)),
    words.DropRecord: lambda write: (_record_of(write), ()),
    words.PutAccount: lambda write: ((("scope", write.scope), ("model", write.instead)), ()),
    words.RaiseCeiling: lambda write: ((), ()),
    words.Reserve: lambda write: ((), ()),
    words.Spend: lambda write: ((("tenant", write.tenant), ("model", write.model)), ()),
}
