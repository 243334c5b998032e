"""Changing what a name stands for, at once or not at all.

A file is written beside its place and renamed into it, so nobody ever reads half of it, and a
link put in its place meanwhile is replaced, never followed.
"""

import errno
import os
import stat
from contextlib import suppress
from secrets import token_hex
from unicodedata import normalize

from ...subsystems.tools.driver import ToolFailed
from ._files_jail import REGULAR, Place, special
from ._files_jail import sentence as reading_sentence

OWN = ".aosk"
"""The directory in a workspace where these tools write down what they are about to do."""
PROTECTED = frozenset({OWN, ".git", ".hg", ".svn"})
"""A hook or a setting written in there is run by whoever uses version control next."""
NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC

SENTENCES = {
    errno.EACCES: "may not be changed by this user",
    errno.EPERM: "may not be changed by this user",
    errno.EROFS: "is on a file system that is read only",
    errno.ENOSPC: "does not fit on the disk",
    errno.EDQUOT: "does not fit into this user's share of the disk",
    errno.EEXIST: "exists already",
    errno.ENOTEMPTY: "is a directory with something in it; only an empty one can be deleted",
    errno.EXDEV: "is on another file system than the target; write and delete it instead",
    errno.EINVAL: "cannot be moved into itself",
    errno.EISDIR: "is a directory",
    errno.ENAMETOOLONG: "has a name that is too long",
}


def enter(part: str, here: int) -> None:
    """Make the directory where it is missing. Raises ToolFailed for a name that may not be."""
    check_name(part)
    with suppress(FileExistsError):
        os.mkdir(part, dir_fd=here)


def enter_existing(part: str, here: int) -> None:
    """Raises ToolFailed for a name that may not be."""
    check_name(part)


def check_name(name: str) -> None:
    """Raises ToolFailed for a name that is protected, or that only looks like a path."""
    looks = normalize("NFKC", name)
    if looks.casefold() in PROTECTED:
        raise ToolFailed(f"{name!r} is not to be changed by tools; leave it to its own program")
    if not name.isprintable() or looks in (".", "..") or "/" in looks or "\\" in name:
        raise ToolFailed(f"{name!r} is no name for a file: it only looks like another path")


def standing(place: Place) -> os.stat_result | None:
    """What is there now, if anything. Raises ToolFailed for a link or what is no file."""
    try:
        found = os.stat(place.name, dir_fd=place.directory, follow_symlinks=False)
    except FileNotFoundError:
        return None
    if stat.S_ISLNK(found.st_mode):
        raise ToolFailed(f"{place.path!r} is a link; name the file that it points to")
    if not (stat.S_ISREG(found.st_mode) or stat.S_ISDIR(found.st_mode)):
        raise special(place.path)
    return found


def writable(place: Place) -> os.stat_result | None:
    """The file that a new content would replace, if there is one. Raises ToolFailed."""
    found = standing(place)
    if found is None:
        return None
    if stat.S_ISDIR(found.st_mode):
        raise ToolFailed(f"{place.path!r} is a directory; give the path of a file in it")
    if found.st_nlink > 1:
        raise ToolFailed(
            f"{place.path!r} is a hard link: {found.st_nlink - 1} more names, perhaps outside the "
            "workspace, stand for the same file; delete it first if only this name shall change"
        )
    if not os.access(place.name, os.W_OK, dir_fd=place.directory):
        raise PermissionError(errno.EACCES, "")
    return found


def content(place: Place, most: int) -> bytes:
    """All of a file. Raises ToolFailed where it is longer than `most` bytes."""
    opened = os.open(place.name, REGULAR, dir_fd=place.directory)
    with open(opened, "rb") as file:
        if not stat.S_ISREG(os.fstat(opened).st_mode):
            raise special(place.path)
        data = file.read(most + 1)
    if len(data) > most:
        raise ToolFailed(f"{place.path!r} has more than {most:,} bytes, the limit for a change")
    return data


def replace(place: Place, data: bytes, was: os.stat_result | None) -> None:
    """Give the name a new content, with the mode of what `was` there.

    A kill in between leaves a hidden file behind. Raises ToolFailed where somebody else has
    changed the file since.
    """
    beside = f"{OWN}-{token_hex(8)}"
    try:
        _write(place, data, was, beside)
        if not same(was, standing(place)):
            raise ToolFailed(f"{place.path!r} was changed by somebody else meanwhile; read it anew")
        os.rename(beside, place.name, src_dir_fd=place.directory, dst_dir_fd=place.directory)
    except BaseException:
        with suppress(OSError):
            os.unlink(beside, dir_fd=place.directory)
        raise
    os.fsync(place.directory)


def _write(place: Place, data: bytes, was: os.stat_result | None, beside: str) -> None:
    opened = os.open(beside, NEW, 0o666, dir_fd=place.directory)
    with open(opened, "wb") as file:
        if was is not None:
            os.fchmod(opened, stat.S_IMODE(was.st_mode) & 0o777)
        file.write(data)
        file.flush()
        os.fsync(opened)


def same(one: os.stat_result | None, other: os.stat_result | None) -> bool:
    """Is this the file it was, unchanged?"""
    if one is None or other is None:
        return one is other
    return mark(one) == mark(other)


def mark(found: os.stat_result) -> list[int]:
    """What a file keeps when it is renamed, and loses when it is changed."""
    return [found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns]


def move(source: Place, target: Place, was: os.stat_result) -> None:
    """Rename; what is at the target stays as it is. Raises OSError."""
    if stat.S_ISDIR(was.st_mode):
        if standing(target) is not None:
            raise FileExistsError(errno.EEXIST, "")
        os.rename(
            source.name,
            target.name,
            src_dir_fd=source.directory,
            dst_dir_fd=target.directory,
        )
    else:
        _link(source, target)  # unlike a rename, it never replaces anything
        os.unlink(source.name, dir_fd=source.directory)
    os.fsync(source.directory)
    os.fsync(target.directory)


def _link(source: Place, target: Place) -> None:
    os.link(
        source.name,
        target.name,
        src_dir_fd=source.directory,
        dst_dir_fd=target.directory,
        follow_symlinks=False,
    )


def delete(place: Place, was: os.stat_result) -> None:
    """Take the name away, of a file or of an empty directory. Raises OSError."""
    if stat.S_ISDIR(was.st_mode):
        os.rmdir(place.name, dir_fd=place.directory)
    else:
        os.unlink(place.name, dir_fd=place.directory)
    os.fsync(place.directory)


def sentence(error: OSError) -> str:
    """What went wrong, without a path."""
    return SENTENCES.get(error.errno or 0) or reading_sentence(error)
