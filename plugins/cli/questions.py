"""What waits for a human: questions, and calls that nobody knows the outcome of."""

import json
from pathlib import Path
from typing import Any, NamedTuple

import anyio

from ...kernel.config import Config
from ...subsystems.processes.messages import Answer, ListQuestions, Resolve
from ...subsystems.storage.messages import Key, Pid, Question
from . import output
from .desk import configured, opened, process
from .exits import ExitCode, Stop
from .listing import clock


def asks(config_file: Path | None, *, as_json: bool) -> None:
    """The open ones, by number."""
    found = anyio.run(_open, configured(config_file))
    if as_json:
        output.document({"ok": True, "asks": [_told(question) for question in found]})
    elif not found:
        output.tell("Nothing is asked.")
    else:
        output.table(("number", "pid", "question", "choices", "until"), map(_row, found))
        print("\naosk answer NUMBER TEXT")


async def _open(config: Config) -> tuple[Question, ...]:
    async with opened(config) as kernel:
        return await kernel.request(ListQuestions())


def _told(question: Question) -> dict[str, Any]:
    return {
        "number": question.number,
        "pid": question.pid,
        "key": question.key,
        "text": question.text,
        "choices": list(question.choices),
        "deadline": question.deadline,
    }


def _row(question: Question) -> tuple[str, ...]:
    until = "" if question.deadline is None else clock(question.deadline)
    choices = ", ".join(question.choices)
    return str(question.number), str(question.pid), question.text, choices, until


def answer(config_file: Path | None, number: int, text: str, *, as_json: bool) -> None:
    """Answer it, once. Raises NoSuchQuestion."""
    anyio.run(_answered, configured(config_file), number, text)
    if as_json:
        output.document({"ok": True, "number": number, "answer": text})
    else:
        print(f"question {number} is answered")


async def _answered(config: Config, number: int, text: str) -> None:
    async with opened(config) as kernel:
        await kernel.request(Answer(number=number, text=text))


class Verdict(NamedTuple):
    """What a human says of a call: `result` when it was done, `error` when it failed."""

    outcome: Any
    result: Any = None
    error: str = ""


def verdict(done: str | None, failed: str | None, *, again: bool) -> Verdict:
    """What was typed. Raises Stop."""
    if [done is not None, failed is not None, again].count(True) != 1:
        raise Stop("say one of --done JSON, --failed TEXT, --again", ExitCode.USAGE)
    if failed is not None:
        return Verdict("failed", error=failed)
    if done is None:
        return Verdict("again")
    try:
        return Verdict("done", json.loads(done))
    except ValueError as error:
        raise Stop(
            f"--done takes JSON, and {done!r} is none ({error}); a text is quoted twice: "
            f"--done '{json.dumps(done, ensure_ascii=False)}'",
            ExitCode.USAGE,
        ) from error


def resolve(
    config_file: Path | None, pid: int, key: Key, verdict: Verdict, *, as_json: bool
) -> None:
    """Say how the call came out; its process goes on. Raises NotInDoubt."""
    anyio.run(_resolved, configured(config_file), pid, key, verdict)
    if as_json:
        output.document({"ok": True, "pid": pid, "key": key, "outcome": verdict.outcome})
    else:
        print(f"{key} of process {pid}: {verdict.outcome}; it goes on")


async def _resolved(config: Config, pid: int, key: Key, verdict: Verdict) -> None:
    async with opened(config) as kernel:
        await process(kernel, pid)
        await kernel.request(
            Resolve(
                pid=Pid(pid),
                key=key,
                outcome=verdict.outcome,
                result=verdict.result,
                error=verdict.error,
            )
        )
