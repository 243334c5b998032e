"""Tools that change files below the root: write, edit, move, delete."""

import errno
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from hashlib import blake2b
from typing import Annotated, Any

from anyio import Lock, to_thread
from pydantic import Field

from ...subsystems.tools import driver as d
from . import _files_intents as intents
from . import _files_replace as changing
from ._files_edit import edited
from ._files_jail import Enter, Jail, Place
from ._files_walk import as_text

ROOTED = Field(description="relative to the root of the workspace")
Written = Annotated[str, ROOTED, d.Touches("path", "write")]
Deleted = Annotated[str, ROOTED, d.Touches("path", "delete")]
Text = Annotated[str, Field(description="all of the file's new content")]
Old = Annotated[str, Field(min_length=1, description="the exact text to replace")]
New = Annotated[str, Field(description="what stands there instead")]
All = Annotated[bool, Field(description="replace every occurrence, not the only one")]


@dataclass(kw_only=True)
class Changes:
    """Tools over an open jail; they run one after another, so that none undoes another's work.

    `max_bytes` bounds a file's content, before and after.
    """

    jail: Callable[[], Jail]
    max_bytes: int
    _turn: Lock = field(default_factory=Lock, init=False, repr=False)

    async def _run(self, work: Callable[[], str]) -> str:
        async with self._turn:
            return await to_thread.run_sync(work)

    @d.tool(effect="idempotent")
    async def write_file(self, path: Written, content: Text) -> str:
        """Write a whole text file, new or in the place of what was there. Makes directories."""
        return await self._run(partial(self._write, path, content))

    def _write(self, path: str, content: str) -> str:
        data = self._bounded(path, content)
        with self._place(path, changing.enter) as place:
            changing.replace(place, data, changing.writable(place))
        return f"wrote {len(data):,} bytes to {path!r}"

    @d.tool(effect="idempotent")
    async def edit_file(
        self, path: Written, old: Old, new: New, key: d.IdempotencyKey, all: All = False
    ) -> str:
        """Replace a text in a file; it must stand there exactly once, unless `all`."""
        return await self._run(partial(self._edit, path, old, new, key, everywhere=all))

    def _edit(self, path: str, old: str, new: str, key: str, *, everywhere: bool) -> str:
        with self._place(path, changing.enter_existing) as place:
            was = changing.writable(place)
            before = changing.content(place, self.max_bytes)
            begun = intents.recall(self.jail(), key)
            if begun is not None and begun["after"] == _hash(before):
                return str(begun["told"])
            if begun is not None and begun["before"] != _hash(before):
                raise _in_doubt(path)
            text = as_text(before)
            if text is None:
                raise d.ToolFailed(f"{path!r} is not text in UTF-8; only text can be edited")
            done = edited(path, text, old, new, everywhere=everywhere)
            after, told = self._bounded(path, done.text), _told(path, done.places, done.line)
            intent = {"before": _hash(before), "after": _hash(after), "told": told}
            intents.record(self.jail(), key, intent)
            changing.replace(place, after, was)
        return told

    @d.tool(effect="idempotent")
    async def move_file(self, source: Deleted, target: Written, key: d.IdempotencyKey) -> str:
        """Move or rename a file or directory; nothing is replaced. Makes directories."""
        return await self._run(partial(self._move, source, target, key))

    def _move(self, source: str, target: str, key: str) -> str:
        told = f"moved {source!r} to {target!r}"
        begun = intents.recall(self.jail(), key)
        with (
            self._place(source, changing.enter_existing) as here,
            self._place(target, changing.enter) as there,
        ):
            was, found = changing.standing(here), changing.standing(there)
            if begun is not None and found is not None and changing.mark(found) == begun["mark"]:
                if changing.same(was, found):
                    changing.delete(here, found)  # a crash left both names
                return told
            was = _meant(source, was, begun)
            if found is not None:
                raise d.ToolFailed(f"{target!r} exists already; delete it first, or move elsewhere")
            intents.record(self.jail(), key, {"mark": changing.mark(was)})
            changing.move(here, there, was)
        return told

    @d.tool(effect="idempotent")
    async def delete_file(self, path: Deleted, key: d.IdempotencyKey) -> str:
        """Delete a file or an empty directory."""
        return await self._run(partial(self._delete, path, key))

    def _delete(self, path: str, key: str) -> str:
        told = f"deleted {path!r}"
        with self._place(path, changing.enter_existing) as place:
            was, begun = changing.standing(place), intents.recall(self.jail(), key)
            if was is None and begun is not None:
                return told
            was = _meant(path, was, begun)
            intents.record(self.jail(), key, {"mark": changing.mark(was)})
            changing.delete(place, was)
        return told

    @contextmanager
    def _place(self, path: str, enter: Enter) -> Iterator[Place]:
        try:
            with self.jail().place(path, enter) as place:
                changing.check_name(place.name)
                yield place
        except OSError as error:
            raise d.ToolFailed(f"{path!r} {changing.sentence(error)}") from error

    def _bounded(self, path: str, text: str) -> bytes:
        data = text.encode()
        if as_text(data) is None:
            raise d.ToolFailed(f"this is not text in UTF-8 without NULs; {path!r} is as it was")
        if len(data) > self.max_bytes:
            raise d.ToolFailed(
                f"{path!r} would have {len(data):,} bytes and the limit is {self.max_bytes:,}; "
                "split it into several files"
            )
        return data


def _hash(data: bytes) -> str:
    return blake2b(data, digest_size=16).hexdigest()


def _told(path: str, count: int, line: int) -> str:
    where = f"line {line}" if count == 1 else f"{count} places, the first in line {line}"
    return f"edited {path!r} in {where}"


def _meant(path: str, was: os.stat_result | None, begun: dict[str, Any] | None) -> os.stat_result:
    """What the call is about, which a repeated one must find as it was."""
    if begun is not None and (was is None or changing.mark(was) != begun["mark"]):
        raise _in_doubt(path)
    if was is None:
        raise FileNotFoundError(errno.ENOENT, "")
    return was


def _in_doubt(path: str) -> d.ToolFailed:
    return d.ToolFailed(
        f"this call was begun before, and {path!r} has changed since: nobody can say whether it "
        "was done; look at it before you go on"
    )
