"""A directory that no path leads out of.

Every part of a path is opened on its own, below the directory opened before it, and never
through a symbolic link: links are read and walked here. So what was checked is what is open,
whatever somebody renames or links meanwhile.
"""

import errno
import os
import stat
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from ...subsystems.tools.driver import ToolFailed

LINKS = 40  # as many as Linux follows
DEPTH = 64  # each level holds a descriptor while it is walked
LENGTH = 4096
DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
REGULAR = os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NOCTTY

SENTENCES = {
    errno.ENOENT: "does not exist",
    errno.ENOTDIR: "leads through something that is not a directory",
    errno.ELOOP: "leads through too many links",
    errno.ENAMETOOLONG: "is too long for a path",
    errno.EACCES: "may not be read by this user",
    errno.EPERM: "may not be read by this user",
}


class Place(NamedTuple):
    """Where a file is or will be: its name in a directory that is open."""

    path: str
    directory: int
    name: str


Enter = Callable[[str, int], object]
"""Called with each directory's name before it is opened, and the open directory it is in."""


class Jail:
    """An open root. It closes when the last call that uses it has let go.

    A call left behind in its thread would otherwise find its number given to another directory.
    """

    def __init__(self, root: Path) -> None:
        self._root = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self._names = (PurePosixPath(os.path.realpath(root)), PurePosixPath(os.path.abspath(root)))
        weakref.finalize(self, os.close, self._root)

    @contextmanager
    def own(self, name: str) -> Iterator[int]:
        """An open directory in the root, made where it is missing. Raises OSError."""
        with suppress(FileExistsError):
            os.mkdir(name, dir_fd=self._root)
        opened = os.open(name, DIRECTORY, dir_fd=self._root)
        try:
            yield opened
        finally:
            os.close(opened)

    def parts(self, path: str) -> list[str]:
        """The path below the root, part by part. Raises ToolFailed if it is not below."""
        if len(path) > LENGTH:
            raise ToolFailed(f"a path has at most {LENGTH} characters, this one {len(path)}")
        if "\0" in path:
            raise ToolFailed(f"{path!r} has a NUL in it; no file is named so")
        if not path.startswith("/"):
            return [part for part in path.split("/") if part not in ("", ".")]
        for name in self._names:
            if PurePosixPath(path).is_relative_to(name):
                return list(PurePosixPath(path).relative_to(name).parts)
        raise outside(path)

    @contextmanager
    def open(self, path: str) -> Iterator[int]:
        """A descriptor of the regular file or directory at `path`. Raises ToolFailed."""
        with _trail() as trail:
            try:
                yield self._walk(path, self.parts(path), trail)
            except OSError as error:
                raise ToolFailed(f"{path!r} {sentence(error)}") from error

    @contextmanager
    def place(self, path: str, enter: Enter) -> Iterator[Place]:
        """Where `path` leads, as far as its last part, which is not looked at.

        Raises ToolFailed, and OSError for what hinders the walk.
        """
        *above, name = self.parts(path) or [".."]
        if name == "..":
            raise ToolFailed(f"{path!r} names no file; give a path that ends in a name")
        with _trail() as trail:
            yield Place(path, self._walk(path, above, trail, enter), name)

    def _walk(
        self, path: str, parts: list[str], trail: list[int], enter: Enter | None = None
    ) -> int:
        """Open part after part; `trail` holds what is open below the root, and `..` is one back."""
        todo, links = parts[::-1], 0
        while todo:
            part, here = todo.pop(), trail[-1] if trail else self._root
            if part == "..":
                if not trail:
                    raise outside(path)
                os.close(trail.pop())
                continue
            if len(trail) == DEPTH:
                raise ToolFailed(f"{path!r} is more than {DEPTH} directories deep")
            if enter is not None:
                enter(part, here)
            mode = os.stat(part, dir_fd=here, follow_symlinks=False).st_mode
            if not stat.S_ISLNK(mode):
                trail.append(_open(path, part, here, mode, last=not todo))
                continue
            links += 1
            if links > LINKS:
                raise OSError(errno.ELOOP, "")
            target = os.readlink(part, dir_fd=here)
            todo += self._follow(path, target, trail)[::-1]
        return trail[-1] if trail else self._root

    def _follow(self, path: str, target: str, trail: list[int]) -> list[str]:
        """A link's target, part by part; an absolute one starts at the root again."""
        try:
            parts = self.parts(target)
        except ToolFailed:
            raise outside(path) from None
        while target.startswith("/") and trail:
            os.close(trail.pop())
        return parts


@contextmanager
def _trail() -> Iterator[list[int]]:
    trail: list[int] = []
    try:
        yield trail
    finally:
        for descriptor in trail:
            os.close(descriptor)


def _open(path: str, part: str, here: int, mode: int, *, last: bool) -> int:
    if not last or stat.S_ISDIR(mode):
        return os.open(part, DIRECTORY, dir_fd=here)
    if not stat.S_ISREG(mode):
        raise special(path)
    opened = os.open(part, REGULAR, dir_fd=here)
    if not stat.S_ISREG(os.fstat(opened).st_mode):  # it was replaced since
        os.close(opened)
        raise special(path)
    return opened


def outside(path: str) -> ToolFailed:
    return ToolFailed(f"{path!r} leads outside the workspace; give a path relative to its root")


def special(path: str) -> ToolFailed:
    return ToolFailed(f"{path!r} is a device, pipe or socket; only files can be read")


def sentence(error: OSError) -> str:
    """What went wrong, without a path: the system's words may name where the root is."""
    told = SENTENCES.get(error.errno or 0)
    return told or f"cannot be read: {os.strerror(error.errno or errno.EIO)}"
