"""What storage refuses before anything is written, whatever the driver."""

import json
from collections.abc import Callable, Iterable
from typing import Any

from pydantic_core import from_json

from . import messages as words

MIB = 1 << 20


def check(commit: words.Commit, most_mib: int) -> None:
    """Raise StorageRefused for what no driver could keep, or not give back as it was."""
    size = 0
    for write in commit.writes:
        names, bodies = _PARTS[type(write)](write)
        for what, name in names:
            if name and not _plain(name):
                raise words.StorageRefused(
                    f"process {commit.pid}: its {what} {name[:80]!r} holds NUL or half of a "
                    "surrogate pair, and a name cannot: leave that sign out"
                )
        size += sum(map(len, bodies))
        if isinstance(write, words.AddProcess | words.SaveProcess):
            _check_state(write.record)
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


def _check_state(record: words.ProcessRecord) -> None:
    """One that cannot be read could never be resumed."""
    try:
        from_json(record.state_json)
    except ValueError as error:
        raise words.StorageRefused(
            f"process {record.pid}: its state is no JSON ({error}), so it could never be "
            "resumed; nothing was written"
        ) from None


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
        for what in ("key", "name", "role", "tenant", "program", "version")
    ]
    return [*named, *(("tag", tag) for tag in record.tags)], (record.state_json,)


def _memory(memory: words.Memory) -> Parts:
    terms = (("term", term) for term in memory.terms)
    named = (("tenant", memory.tenant), *(("tag", tag) for tag in memory.tags), *terms)
    return named, (memory.text,)


def _letter(body: Any) -> Parts:
    try:
        return (), (json.dumps(body, ensure_ascii=False),)
    except (TypeError, ValueError, RecursionError) as error:
        raise words.StorageRefused(
            f"a letter's body must be JSON data: {error}; nothing was written"
        ) from None


_PARTS: dict[type, Callable[[Any], Parts]] = {
    words.AddProcess: lambda write: _newborn(write.record),
    words.SaveProcess: lambda write: _record(write.record),
    words.Intend: lambda write: ((("syscall", write.kind),), ()),
    words.Annotate: lambda write: ((), (write.note,)),
    words.Settle: lambda write: ((("syscall", write.kind),), (write.body,)),
    words.AddPage: lambda write: ((("tool call", write.page.tool_call_id),), (write.page.text,)),
    words.PostLetter: lambda write: _letter(write.body),
    words.TakeLetter: lambda write: ((), ()),
    words.PostCommand: lambda write: ((), ()),
    words.TakeCommand: lambda write: ((), ()),
    words.PutQuestion: lambda write: ((), (write.text, *write.choices)),
    words.CloseQuestion: lambda write: ((), ()),
    words.AnswerQuestion: lambda write: ((), (write.text,)),
    words.AddMemory: lambda write: _memory(write.memory),
    words.AddVector: lambda write: ((("embedder", write.embedder),), ()),
}
