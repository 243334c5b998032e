"""An exact replacement in a text, and what to say when there is none."""

import difflib
from itertools import islice
from typing import NamedTuple

from ...subsystems.tools.driver import ToolFailed

LOOKED_AT = 5_000
"""Lines that are compared with what was not found; more would take seconds."""
SHOWN, WIDTH = 3, 200


class Edited(NamedTuple):
    """A text with its replacements, how many there were, the line of the first."""

    text: str
    places: int
    line: int


def edited(path: str, text: str, old: str, new: str, *, everywhere: bool) -> Edited:
    """Replace `old`, which must stand there exactly once, or anywhere. Raises ToolFailed."""
    count = text.count(old)
    if not count:
        raise ToolFailed(f"{path!r} does not have this text; {_nearest(text, old)}")
    if count > 1 and not everywhere:
        places = ", ".join(map(str, _lines(text, old)))
        raise ToolFailed(
            f"{path!r} has this text {count} times (lines {places}); "
            "give more of what stands around it, or set all"
        )
    return Edited(text.replace(old, new), count, _lines(text, old)[0])


def _lines(text: str, old: str) -> list[int]:
    """In which lines the first few begin."""
    found: list[int] = []
    at = text.find(old)
    while at >= 0 and len(found) < SHOWN:
        found.append(text.count("\n", 0, at) + 1)
        at = text.find(old, at + len(old))
    return found


def _nearest(text: str, old: str) -> str:
    """The lines most like what was looked for; white space is what most often differs."""
    wanted = next((line for line in old.splitlines() if line.strip()), "").strip()
    lines = dict(enumerate(islice(text.split("\n"), LOOKED_AT), 1))
    alike = [number for number, line in lines.items() if wanted and line.strip() == wanted]
    if not alike:
        clipped = {number: line.strip()[:WIDTH] for number, line in lines.items()}
        near = set(difflib.get_close_matches(wanted[:WIDTH], list(clipped.values()), SHOWN))
        alike = [number for number, line in clipped.items() if line in near]
    shown = "; ".join(f"line {n}: {lines[n][:WIDTH]!r}" for n in alike[:SHOWN])
    return f"nearest are {shown}" if shown else "no line of it is like this one; read it first"
