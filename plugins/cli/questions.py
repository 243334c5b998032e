"""What waits for a human: questions, and calls that nobody knows the outcome of."""

import json
from collections.abc import Sequence
from pathlib import Path
from textwrap import indent
from typing import Any, NamedTuple

from ...kernel.config import Config
from ...subsystems.processes.messages import (
    Answer,
    DoubtfulCall,
    ListDoubts,
    ListQuestions,
    Resolve,
)
from ...subsystems.storage.messages import Key, Question
from . import loop, output
from .desk import configured, opened, process
from .exits import ExitCode, Stop
from .listing import clock


def asks(config_file: Path | None, *, as_json: bool) -> None:
    """The open questions by number, the calls in doubt by process and key."""
    questions, doubts = loop.run(_open, configured(config_file))
    if as_json:
        told = {"asks": list(map(_told, questions)), "doubts": [d.model_dump() for d in doubts]}
        output.document({"ok": True, **told})
        return
    if questions:
        short = [question for question in questions if "\n" not in question.text]
        if short:
            output.table(("number", "pid", "question", "choices", "until"), map(_row, short))
        for question in (one for one in questions if one not in short):
            print(_block(question))
        print("\naosk answer NUMBER TEXT")
    if questions and doubts:
        print()
    if doubts:
        output.table(("pid", "key", "call", "attempts", "not known because"), map(_cells, doubts))
        print("\naosk resolve PID KEY... --done JSON | --failed TEXT | --again")
    if not questions and not doubts:
        output.tell("Nothing is asked.")


async def _open(config: Config) -> tuple[tuple[Question, ...], tuple[DoubtfulCall, ...]]:
    async with opened(config) as kernel:
        return await kernel.request(ListQuestions()), await kernel.request(ListDoubts())


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


def _block(question: Question) -> str:
    """One of several lines, such as what a call that needs approval would do."""
    until = "" if question.deadline is None else f", until {clock(question.deadline)}"
    return f"\n{question.number}, of process {question.pid}{until}:\n{indent(question.text, '  ')}"


def _cells(call: DoubtfulCall) -> tuple[str, ...]:
    return str(call.pid), call.key, call.kind, str(call.attempts), call.why


def answer(config_file: Path | None, number: int, text: str, *, as_json: bool) -> None:
    """Answer it, once. Raises NoSuchQuestion."""
    loop.run(_answered, configured(config_file), number, text)
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


class Meant(NamedTuple):
    """Calls of a process: those at these keys, or all that are in doubt."""

    pid: int
    keys: Sequence[Key] = ()


def meant(pid: int, keys: Sequence[Key], *, every: bool) -> Meant:
    """What was typed. Raises Stop."""
    if bool(keys) == every:
        raise Stop(
            "name the calls by their keys, as `aosk asks` shows them, or say --all", ExitCode.USAGE
        )
    return Meant(pid, keys)


def resolve(config_file: Path | None, meant: Meant, verdict: Verdict, *, as_json: bool) -> None:
    """Say how the calls came out. Raises NotInDoubt."""
    keys, left = loop.run(_resolved, configured(config_file), meant, verdict)
    if as_json:
        told = {"pid": meant.pid, "keys": keys, "outcome": verdict.outcome, "left": left}
        output.document({"ok": True, **told})
        return
    then = f"still in doubt: {', '.join(left)}" if left else "it goes on"
    print(f"{', '.join(keys)} of process {meant.pid}: {verdict.outcome}; {then}")


async def _resolved(
    config: Config, meant: Meant, verdict: Verdict
) -> tuple[Sequence[Key], Sequence[Key]]:
    """Which calls that were, and which are still in doubt."""
    async with opened(config) as kernel:
        record = await process(kernel, meant.pid)
        doubts = [call.key for call in await kernel.request(ListDoubts(pid=record.pid))]
        keys = meant.keys or doubts
        await kernel.request(
            Resolve(
                pid=record.pid,
                keys=tuple(keys),
                outcome=verdict.outcome,
                result=verdict.result,
                error=verdict.error,
            )
        )
        return keys, [key for key in doubts if key not in keys]
