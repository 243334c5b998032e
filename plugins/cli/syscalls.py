"""A process's log as people read it: each syscall with what was said and how it came out."""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, NamedTuple

from ...subsystems.llm.messages import Completion, ToolCall
from ...subsystems.storage.messages import Entry, Key, Page
from . import output
from .listing import clock, span

Standing = Literal["done", "failed", "begun", "unknown"]


class Said(NamedTuple):
    """What the pages tell of a syscall's arguments: a prompt, or what a tool was asked."""

    by_key: Mapping[Key, str]

    @classmethod
    def on(cls, pages: Sequence[Page]) -> "Said":
        """The prompt stands before its reply; a tool's page names the call it answers."""
        said: dict[Key, str] = {}
        calls: dict[str, ToolCall] = {}
        for before, page in zip((None, *pages), pages, strict=False):
            if page.entry is None:
                continue
            if page.role == "assistant":
                calls.update((call.id, call) for call in completion(page.text).tool_calls)
                if before is not None and before.entry is None and before.role == "user":
                    said[page.entry] = output.quoted(before.text)
            elif page.tool_call_id in calls:
                said[page.entry] = arguments(calls[page.tool_call_id])
        return cls(said)


def completion(body: str) -> Completion:
    return Completion.model_validate_json(body)


def arguments(call: ToolCall) -> str:
    return ", ".join(f"{name}={compact(value)}" for name, value in call.arguments.items())


def compact(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(", ", ": "))


class Syscall(NamedTuple):
    """One line of the trace. `arguments` are None where the log has only their fingerprint.

    `began_at` is when its last attempt did, in seconds since 1970, of what has attempts;
    `took_s` is how long it took, and None where that is not known or it goes on. Of a model's
    call, `tokens` are the prompt's and the reply's, and `said` is its text.
    """

    key: Key
    kind: str
    standing: Standing
    outcome: str
    arguments: str | None
    attempts: int
    effect: str
    fingerprint: str
    began_at: float | None
    took_s: float | None
    tokens: tuple[int, int] | None = None
    said: str = ""

    def line(self) -> str:
        """As strace shows it, with how long it took behind the key."""
        said = "..." if self.arguments is None else self.arguments
        tries = f" ({self.attempts} attempts)" if self.attempts > 1 else ""
        sign = {"done": "=", "failed": "!", "begun": "...", "unknown": "?"}[self.standing]
        used = "" if self.tokens is None else f" [{self.tokens[0]}+{self.tokens[1]} tokens]"
        took = "" if self.took_s is None else duration(self.took_s)
        place = f"{self.key:<7} {took:>7}"
        return f"{place}  {self.kind}({said}) {sign} {self.outcome}{used}{tries}"


def syscalls(entries: Iterable[Entry], said: Said, *, running: bool) -> list[Syscall]:
    """What the log has, in the order of its beginning. What a `running` one began goes on."""
    return [_syscall(entry, said, running) for entry in entries]


def _syscall(entry: Entry, said: Said, running: bool) -> Syscall:
    standing = _standing(entry, running)
    call = Syscall(
        key=entry.key,
        kind=entry.kind,
        standing=standing,
        outcome=_outcome(entry, standing),
        arguments=said.by_key.get(entry.key),
        attempts=entry.attempts,
        effect=entry.effect,
        fingerprint=entry.fingerprint,
        began_at=entry.began_at,
        took_s=entry.took_s,
    )
    if standing != "done" or entry.kind != "think":
        return call
    reply = completion(entry.body)
    used = reply.usage.prompt, reply.usage.completion
    return call._replace(tokens=used, said=reply.text)


def _standing(entry: Entry, running: bool) -> Standing:
    if entry.settled:
        return "failed" if entry.failed else "done"
    return "unknown" if entry.effect == "once" and not running else "begun"


def _outcome(entry: Entry, standing: Standing) -> str:
    match standing:
        case "done":
            return _reply(entry)
        case "failed":
            return error(entry.body)
        case "unknown":
            return f"begun{_when(entry)}, and nobody knows how it came out{_noted(entry)}"
    return f"begun{_when(entry)}{_noted(entry)}"


def _reply(entry: Entry) -> str:
    if entry.kind != "think":
        return compact(json.loads(entry.body))
    reply = completion(entry.body)
    asked = [f"{call.name}({arguments(call)})" for call in reply.tool_calls]
    return " ".join([*([output.quoted(reply.text)] if reply.text or not asked else []), *asked])


def error(body: str) -> str:
    """A journaled error: its class without the module, and what it says."""
    told = json.loads(body)
    return f"{told['class'].rpartition(':')[2]}: {told['text']}"


def _when(entry: Entry) -> str:
    return "" if entry.began_at is None else f" {clock(entry.began_at)}"


def duration(seconds: float) -> str:
    """Three figures of it: 1.24 ms, 830 ms, 12.0 s."""
    if seconds < 0.9995:
        return f"{seconds * 1e3:#.3g}".rstrip(".") + " ms"
    return f"{seconds:#.3g}".rstrip(".") + " s" if seconds < 999.5 else span(seconds)


def _noted(entry: Entry) -> str:
    """What an intent keeps: of a sleep, when it ends; of a call in doubt, what a human said."""
    if not entry.note:
        return ""
    try:
        return f", until {clock(float(entry.note))}"
    except ValueError:
        said = json.loads(entry.note)
    if said["outcome"] == "unknown":
        return f": {said['error']}"
    return f", and a human says: {said['outcome']}"
