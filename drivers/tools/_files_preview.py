"""What a change of a file would be, as a diff, without making it."""

import difflib

from ...subsystems.tools.driver import JsonObject, ToolFailed
from ._files_edit import edited
from ._files_jail import Jail
from ._files_walk import as_text, head, is_directory

CONTEXT = 3
LONGEST = 8_000
"""Characters of a diff; who is asked reads all of it."""


def preview(jail: Jail, name: str, arguments: JsonObject, max_bytes: int) -> str:
    """The diff; empty where the tool changes no content. Raises ToolFailed."""
    path = str(arguments.get("path", ""))
    match name:
        case "write_file":
            return _diff(path, _content(jail, path, max_bytes), str(arguments.get("content", "")))
        case "edit_file":
            before = _content(jail, path, max_bytes)
            if before is None:
                raise ToolFailed(f"{path!r} does not exist")
            old, new = str(arguments.get("old", "")), str(arguments.get("new", ""))
            everywhere = arguments.get("all") is True
            return _diff(path, before, edited(path, before, old, new, everywhere=everywhere).text)
        case _:
            return ""


def _content(jail: Jail, path: str, max_bytes: int) -> str | None:
    """None where there is no such file yet."""
    try:
        with jail.open(path) as descriptor:
            data = b"" if is_directory(descriptor) else head(descriptor, max_bytes)
    except ToolFailed as error:
        if isinstance(error.__cause__, FileNotFoundError):
            return None
        raise
    text = as_text(data) if len(data) <= max_bytes else None
    if text is None:
        raise ToolFailed(f"{path!r} is too long or no text, so no diff of it is shown")
    return text


def _diff(path: str, before: str | None, after: str) -> str:
    old, new = (before or "").splitlines(), after.splitlines()
    since = path if before is not None else "/dev/null"
    lines = list(difflib.unified_diff(old, new, since, path, lineterm="", n=CONTEXT))
    text = "\n".join(lines) or f"nothing changes in {path!r}"
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}\n... ({len(lines):,} lines in all)"
