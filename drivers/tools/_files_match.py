"""Finding lines. Run as a script it does so in a process of its own, which can be killed.

A regular expression may take longer than the universe lasts, and while it runs it holds the
interpreter's lock: in a thread it would stop everything. This file imports nothing of ours,
so that it starts in an empty interpreter.
"""

import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterable
from itertools import islice

Match = tuple[str, int, str]
"""A file, the line's number from 1, the line (clipped)."""

BEFORE, WIDTH = 80, 240  # of a long line so many characters before the match, so many in all


def find_text(query: str, texts: Iterable[tuple[str, str]], limit: int) -> list[Match]:
    """The lines that contain `query`, at most `limit`."""
    holding = ((name, text) for name, text in texts if query in text)
    return _find(lambda line: line.find(query), holding, limit)


def find_regex(
    pattern: str, texts: Iterable[tuple[str, str]], limit: int, *, within_s: float
) -> list[Match]:
    """The lines a regular expression matches. Raises ValueError, TimeoutError or OSError."""
    try:
        done = subprocess.run(
            [sys.executable, "-I", "-S", __file__],
            input=json.dumps([pattern, list(texts), limit]),
            capture_output=True,
            text=True,
            check=True,
            timeout=within_s,
        )
    except subprocess.TimeoutExpired:
        raise TimeoutError from None
    except subprocess.CalledProcessError as error:
        raise OSError(f"the matching process ended with {error.returncode}") from error
    told = json.loads(done.stdout)
    if "error" in told:
        raise ValueError(told["error"])
    return [(name, number, line) for name, number, line in told["found"]]


def _find(look: Callable[[str], int], texts: Iterable[tuple[str, str]], limit: int) -> list[Match]:
    found = (
        (name, number, _clip(line, at))
        for name, text in texts
        for number, line in enumerate(text.split("\n"), 1)
        if (at := look(line)) >= 0
    )
    return list(islice(found, limit))


def _clip(line: str, at: int) -> str:
    start = max(0, min(at - BEFORE, len(line) - WIDTH))
    end = start + WIDTH
    return f"{'…' if start else ''}{line[start:end]}{'…' if end < len(line) else ''}"


def _main() -> None:
    pattern, texts, limit = json.load(sys.stdin)
    try:
        expression = re.compile(pattern)
    except (re.error, RecursionError, OverflowError) as error:
        json.dump({"error": str(error)}, sys.stdout)
        return

    def look(line: str) -> int:
        match = expression.search(line)
        return match.start() if match else -1

    json.dump({"found": _find(look, texts, limit)}, sys.stdout)


if __name__ == "__main__":
    _main()
