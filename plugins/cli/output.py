"""What commands print: answers on stdout, in JSON one document; everything else on stderr."""

import json
import sys
from collections.abc import Iterable, Sequence
from textwrap import wrap
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console

PIPED = 160
"""Columns of a table that does not go to a terminal."""


def document(value: Any) -> None:
    """One line of JSON on stdout, at once."""
    print(json.dumps(value, ensure_ascii=False, default=str), flush=True)


def tell(text: str) -> None:
    """A sentence for people, on stderr."""
    print(text, file=sys.stderr, flush=True)


def console(*, stderr: bool = False) -> "Console":
    from rich.console import Console

    stream = sys.stderr if stderr else sys.stdout
    return Console(file=stream, width=None if stream.isatty() else PIPED, highlight=False)


def quoted(text: str) -> str:
    """In quotes, on one line."""
    return json.dumps(text, ensure_ascii=False)


def fitting(line: str) -> str:
    """As much of it as fits into a line, and a sign where it goes on."""
    width, line = console().width, line.replace("\n", " ")
    return line if len(line) <= width else line[: width - 1] + "…"


def facts(rows: Iterable[tuple[str, str]]) -> None:
    """Lines on stdout, each with what it is about; words are wrapped, URLs never are."""
    rows = list(rows)
    margin = max(len(about) for about, _ in rows) + 2
    for about, text in rows:
        width = max(console().width - margin, 20)
        wrapped = wrap(text, width, break_long_words=False, break_on_hyphens=False)
        for number, line in enumerate(wrapped):
            print(f"{'' if number else about:<{margin}}{line}")


def table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """A table on stdout; long cells are folded, none is cut, and the names stay whole."""
    from rich.table import Table
    from rich.text import Text

    shown = Table(box=None, pad_edge=False, header_style="bold")
    for number, column in enumerate(columns):
        shown.add_column(column, overflow="fold", no_wrap=number == 0)
    for row in rows:
        shown.add_row(*map(Text, row))
    console().print(shown)
