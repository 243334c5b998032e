"""The files below one directory: read, list, search; and where that is allowed, change."""

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from itertools import islice
from pathlib import Path
from typing import Annotated, TypeVar

from anyio import to_thread
from pydantic import Field, PositiveFloat, PositiveInt

from ...subsystems.tools import driver as d
from ._files_change import Changes
from ._files_jail import Jail
from ._files_match import Match, find_regex, find_text
from ._files_preview import preview
from ._files_walk import Walk, as_text, head, is_directory

T = TypeVar("T")

Below = Annotated[
    str, Field(description="relative to the root of the workspace"), d.Touches("path", "read")
]
Line = Annotated[int, Field(ge=1, description="the first line to read")]
Lines = Annotated[int | None, Field(ge=1, description="how many lines to read; null for the rest")]
Pattern = Annotated[
    str | None, Field(description='of names or paths, such as "*.md" or "src/*.py"')
]
Query = Annotated[str, Field(min_length=1, description="what a line must contain")]
Regex = Annotated[bool, Field(description="the query is a regular expression, as in Python")]


@dataclass(frozen=True)
class Listing:
    """Paths, and what to know about those that are missing."""

    files: list[str]
    note: str


@dataclass(frozen=True)
class Findings:
    """Lines that matched, and what to know about those that are missing."""

    matches: list[Match]
    note: str


@dataclass(kw_only=True)
class Files:
    """Tools that read text files below `root`, and nothing outside of it.

    `writable` adds those that write, edit, move and delete; `max_write_bytes` bounds a file's
    content there. `max_bytes` bounds what one read returns, `max_results` a list or search, and
    `max_scan_bytes` what one call looks through. `hidden` lists and searches hidden files
    and version control too. A hard link is read like any other file and never written to.
    """

    root: Path | str = Path(".")
    max_bytes: PositiveInt = 256 * 1024
    max_results: PositiveInt = 200
    max_scan_bytes: PositiveInt = 16 * 1024 * 1024
    search_s: PositiveFloat = 5.0
    hidden: bool = False
    writable: bool = False
    max_write_bytes: PositiveInt = 1024 * 1024
    _open_jail: Jail | None = field(default=None, init=False, repr=False)
    _tools: dict[str, d.FunctionTool] = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self) -> None:
        change = Changes(jail=lambda: self._jail, max_bytes=self.max_write_bytes)
        changes = (change.write_file, change.edit_file, change.move_file, change.delete_file)
        reads = (self.read_file, self.list_files, self.search_files)
        for function in (*reads, *changes) if self.writable else reads:
            tool = d.FunctionTool(function)
            self._tools[tool.name] = tool

    async def start(self) -> None:
        """Open the root. Raises ConfigError."""
        try:
            self._open_jail = await to_thread.run_sync(Jail, Path(self.root).expanduser())
        except OSError as error:
            raise d.ConfigError(
                f"files: root {str(self.root)!r}: {error.strerror}; "
                "create that directory, or set root to another"
            ) from error

    async def stop(self) -> None:
        self._open_jail = None

    async def offers(self) -> tuple[d.Offer, ...]:
        return tuple(
            d.Offer(spec=tool.spec, effect=tool.effect, touches=self._touches(tool))
            for tool in self._tools.values()
        )

    def _touches(self, tool: d.FunctionTool) -> tuple[d.Touch, ...]:
        below = os.path.abspath(Path(self.root).expanduser())
        return tuple(touch.model_copy(update={"below": below}) for touch in tool.touches)

    async def call(self, name: str, arguments: d.JsonObject, key: str) -> d.JsonValue:
        if name not in self._tools:
            raise d.UnknownTool.among(name, self._tools)
        return await self._tools[name].call(arguments, key)

    async def preview(self, name: str, arguments: d.JsonObject) -> str:
        """A diff of what `write_file` or `edit_file` would change."""
        return await to_thread.run_sync(preview, self._jail, name, arguments, self.max_write_bytes)

    @property
    def _jail(self) -> Jail:
        if self._open_jail is None:
            raise d.ToolFailed("the workspace is closed")
        return self._open_jail

    @d.tool(effect="none")
    def read_file(self, path: Below, start_line: Line = 1, max_lines: Lines = None) -> str:
        """Read a text file, or a part of it by lines."""
        whole = start_line == 1 and max_lines is None
        with self._jail.open(path) as descriptor:
            if is_directory(descriptor):
                raise d.ToolFailed(f"{path!r} is a directory; list_files shows what is in it")
            size = os.fstat(descriptor).st_size
            data = head(descriptor, self.max_bytes if whole else self.max_scan_bytes)
        if not whole:
            data = self._part(path, data, start_line, max_lines)
        elif len(data) > self.max_bytes:
            raise d.ToolFailed(
                f"{path!r} has {max(size, len(data)):,} bytes and the limit is "
                f"{self.max_bytes:,}; read a part of it with start_line and max_lines"
            )
        text = as_text(data)
        if text is None:
            raise d.ToolFailed(f"{path!r} is not text in UTF-8; only text can be read")
        return text

    def _part(self, path: str, data: bytes, start_line: int, max_lines: int | None) -> bytes:
        """Some lines; `data` is longer than max_scan_bytes where the file goes on."""
        begin = _after(data, start_line - 1, 0)
        end = len(data) if max_lines is None else _after(data, max_lines, begin)
        if end == len(data) > self.max_scan_bytes:
            raise d.ToolFailed(
                f"these lines of {path!r} are not within its first {self.max_scan_bytes:,} "
                "bytes; what comes later cannot be read"
            )
        if begin == len(data) and start_line > 1:
            lines = data.count(b"\n") + (data[-1:] not in (b"", b"\n"))
            raise d.ToolFailed(f"{path!r} has {lines} lines; there is no line {start_line}")
        if end - begin > self.max_bytes:
            raise d.ToolFailed(
                f"these lines of {path!r} have {end - begin:,} bytes and the limit is "
                f"{self.max_bytes:,}; ask for fewer with max_lines"
            )
        return data[begin:end]

    @d.tool(effect="none")
    def list_files(self, path: Below = ".", pattern: Pattern = None) -> Listing:
        """List the files of a directory and of all directories in it."""
        with self._walk(path) as walk:
            if not walk.has_directory:
                raise d.ToolFailed(f"{path!r} is a file; read_file reads it")
            paths = (found for found, _, _ in walk.files())
            found = list(islice((p for p in paths if _matches(p, pattern)), self.max_results + 1))
        return Listing(*self._cut(found, walk, "path or pattern"))

    @d.tool(effect="none")
    def search_files(self, query: Query, path: Below = ".", regex: Regex = False) -> Findings:
        """Find lines of text: in which file, the line's number, the line itself."""
        if "\n" in query:
            problem = "it is looked for in one line at a time and cannot hold a line break"
            raise d.BadArguments.at("search_files", [("query", problem)])
        with self._walk(path) as walk:
            texts = walk.texts(self.max_scan_bytes)
            find = self._find_regex if regex else find_text
            found = find(query, texts, self.max_results + 1)
        return Findings(*self._cut(found, walk, "path, or with another query"))

    def _find_regex(self, query: str, texts: Iterable[tuple[str, str]], limit: int) -> list[Match]:
        everything = list(texts)
        try:
            return find_regex(query, everything, limit, within_s=self.search_s)
        except ValueError as error:
            problem = f"this is no regular expression: {error}"
            raise d.BadArguments.at("search_files", [("query", problem)]) from error
        except TimeoutError as error:
            raise d.ToolFailed(
                f"this regular expression takes longer than {self.search_s:g} s; simplify it"
            ) from error
        except OSError as error:
            raise d.ToolFailed("regular expressions do not work here; search for text") from error

    @contextmanager
    def _walk(self, path: str) -> Iterator[Walk]:
        with self._jail.open(path) as top:
            yield Walk(top, self._jail.parts(path), hidden=self.hidden)

    def _cut(self, found: list[T], walk: Walk, narrower: str) -> tuple[list[T], str]:
        if len(found) > self.max_results:
            walk.notes.append(f"These are the first {self.max_results}; narrow it with {narrower}.")
        return found[: self.max_results], " ".join(walk.notes)


def _matches(path: str, pattern: str | None) -> bool:
    """Does the pattern fit the path or the name? `**/` at its start means at any depth."""
    if pattern is None:
        return True
    name, anywhere = path.rpartition("/")[2], pattern.removeprefix("**/")
    return any(fnmatchcase(text, p) for text in (path, name) for p in (pattern, anywhere))


def _after(data: bytes, lines: int, at: int) -> int:
    """Where the line begins that comes so many lines after the one at `at`, or the end."""
    for _ in range(lines):
        at = data.find(b"\n", at) + 1
        if not at:
            return len(data)
    return at
