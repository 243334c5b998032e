"""Going through the files below an open directory, and reading their text, within bounds.

Links are not followed, and each file is opened from the directory it was found in, so a walk
stays below its top whatever is renamed meanwhile.
"""

import os
import stat
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import PurePosixPath

from ._files_jail import DEPTH, REGULAR

SKIPPED = frozenset({"CVS", "_darcs", "__pycache__", "node_modules"})
"""Passed over as hidden files are: what programs put there, nobody looks for."""

LOOKED_AT = 100_000
"""How many files one walk looks at before it says that it stopped."""


class Walk:
    """One walk. `notes` are sentences about what it had to leave out."""

    def __init__(self, top: int, prefix: list[str], *, hidden: bool) -> None:
        """`top` is an open directory or file; `prefix` is its path, part by part."""
        self.notes: list[str] = []
        self._top, self._prefix, self._hidden = top, prefix, hidden

    @property
    def has_directory(self) -> bool:
        """Is its top a directory, not a single file?"""
        return is_directory(self._top)

    def files(self) -> Iterator[tuple[str, int, str]]:
        """Each regular file: its path, the open directory it is in, its name there."""
        looked_at = too_deep = 0
        unread: list[OSError] = []
        for below, directories, names, here in os.fwalk(
            ".", dir_fd=self._top, onerror=unread.append
        ):
            trail = [*self._prefix, *PurePosixPath(below).parts]
            directories[:] = self._wanted(directories)
            if directories and len(trail) >= DEPTH:
                too_deep += len(directories)
                directories.clear()
            for name in self._wanted(names):
                looked_at += 1
                if looked_at > LOOKED_AT:
                    self.notes.append(f"Stopped after {LOOKED_AT:,} files; narrow it with path.")
                    return
                if _is_regular(here, name):
                    yield "/".join(map(_shown, [*trail, name])), here, name
        if unread:
            self.notes.append(f"{len(unread)} directories could not be read.")
        if too_deep:
            self.notes.append(f"{too_deep} directories more than {DEPTH} deep were left out.")

    def texts(self, max_bytes: int) -> Iterator[tuple[str, str]]:
        """Each text file, its path and its text, `max_bytes` in all; binary ones are no text."""
        left, unread, too_much = max_bytes, 0, 0
        for path, read in self._readers():
            try:
                data = read(left)
            except OSError:
                unread += 1
                continue
            if len(data) > left:
                too_much += 1
                continue
            left -= len(data)
            text = as_text(data)
            if text:
                yield path, text
        if unread:
            self.notes.append(f"{unread} files could not be read.")
        if too_much:
            self.notes.append(
                f"{too_much} files were left out: one search looks through {max_bytes:,} bytes; "
                "narrow it with path."
            )

    def _readers(self) -> Iterator[tuple[str, Callable[[int], bytes]]]:
        if not self.has_directory:
            yield "/".join(self._prefix), partial(head, self._top)
            return
        for path, here, name in self.files():
            yield path, partial(_head_of, here, name)

    def _wanted(self, names: Iterable[str]) -> list[str]:
        return sorted(
            name for name in names if self._hidden or not (name.startswith(".") or name in SKIPPED)
        )


def is_directory(descriptor: int) -> bool:
    return stat.S_ISDIR(os.fstat(descriptor).st_mode)


def head(descriptor: int, size: int) -> bytes:
    """The beginning of a file: all of it, or one byte more than `size` where it goes on."""
    with open(descriptor, "rb", closefd=False) as file:
        return file.read(size + 1)


def as_text(data: bytes) -> str | None:
    """UTF-8 without NULs, or None."""
    try:
        return None if b"\0" in data else data.decode()
    except UnicodeDecodeError:
        return None


def _head_of(here: int, name: str, size: int) -> bytes:
    opened = os.open(name, REGULAR, dir_fd=here)
    try:
        return head(opened, size) if stat.S_ISREG(os.fstat(opened).st_mode) else b""
    finally:
        os.close(opened)


def _is_regular(here: int, name: str) -> bool:
    try:
        return stat.S_ISREG(os.stat(name, dir_fd=here, follow_symlinks=False).st_mode)
    except OSError:  # gone since it was listed
        return False


def _shown(name: str) -> str:
    """A name as text; bytes that are not UTF-8 as \\xNN."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")
