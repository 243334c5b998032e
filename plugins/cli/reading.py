"""`aosk trace` and `aosk logs`: what a process has done, and what was said."""

import json
from collections.abc import Iterable
from pathlib import Path
from textwrap import indent
from typing import Any, NamedTuple

from ...kernel.config import Config
from ...subsystems.storage.messages import Entry, Page, ProcessRecord, ReadLog, ReadPages
from . import loop, output
from .desk import configured, logged, opened
from .listing import waiting
from .syscalls import Said, Syscall, arguments, compact, completion, syscalls


class Told(NamedTuple):
    """What there is of a process."""

    record: ProcessRecord
    entries: tuple[Entry, ...]
    pages: tuple[Page, ...]


async def _all(config: Config, pid: int, step: int | None) -> Told:
    async with opened(config) as kernel:
        record = await logged(kernel, pid)
        entries = await kernel.request(ReadLog(pid=record.pid, step=step))
        return Told(record, entries, await kernel.request(ReadPages(pid=record.pid)))


async def _pages(config: Config, pid: int) -> tuple[Page, ...]:
    async with opened(config) as kernel:
        record = await logged(kernel, pid)
        return await kernel.request(ReadPages(pid=record.pid))


def trace(config_file: Path | None, pid: int, step: int | None, *, as_json: bool) -> None:
    """A line each, in the order of their beginning; and what the models have used."""
    told = loop.run(_all, configured(config_file), pid, step)
    calls = syscalls(told.entries, Said.on(told.pages), running=told.record.state == "running")
    if as_json:
        shown = [call._asdict() for call in calls]
        output.document({"ok": True, "pid": pid, "syscalls": shown, "tokens": tokens(calls)})
        return
    for call in calls:
        print(output.fitting(call.line()))
    standing = f"{told.record.state} {waiting(told.record)}".rstrip()
    print(f"{len(calls)} syscalls; {_used(calls)}; {standing}")


def tokens(calls: Iterable[Syscall]) -> dict[str, int]:
    """What the model calls have used."""
    used = [call.tokens for call in calls if call.tokens is not None]
    return {
        "calls": len(used),
        "prompt": sum(prompt for prompt, _ in used),
        "completion": sum(completion for _, completion in used),
    }


def _used(calls: Iterable[Syscall]) -> str:
    used = tokens(calls)
    return f"{used['calls']} of a model, {used['prompt']} + {used['completion']} tokens"


def logs(config_file: Path | None, pid: int, *, as_json: bool) -> None:
    """Every page of its context, in order, whoever said it."""
    pages = loop.run(_pages, configured(config_file), pid)
    if as_json:
        said = [_document(page) for page in pages]
        output.document({"ok": True, "pid": pid, "said": said})
        return
    for page in pages:
        print(spoken(page))
    if not pages:
        output.tell(f"Process {pid} has said nothing to a model, and was told nothing.")


def _document(page: Page) -> dict[str, Any]:
    asked = _asked(page)
    return {
        "number": page.number,
        "role": page.role,
        "text": text(page),
        "tool_calls": [call.model_dump() for call in asked],
        "pinned": page.pinned,
        "entry": page.entry,
    }


def spoken(page: Page) -> str:
    """A page as people read it; what follows its first line is indented."""
    asked = [f"-> {call.name}({arguments(call)})" for call in _asked(page)]
    said = "\n".join(filter(None, [text(page).rstrip("\n"), *asked]))
    return indent(f"{page.role}: {said}", "  ").removeprefix("  ")


def text(page: Page) -> str:
    """What a page says, without its JSON."""
    if page.entry is None:
        return page.text
    if page.role == "assistant":
        return completion(page.text).text
    return plain(page.text)


def plain(body: str) -> str:
    """A JSON text as people read it: a string as it is."""
    value = json.loads(body)
    return value if isinstance(value, str) else compact(value)


def _asked(page: Page) -> tuple[Any, ...]:
    if page.entry is None or page.role != "assistant":
        return ()
    return completion(page.text).tool_calls
