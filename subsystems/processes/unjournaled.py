"""Finds what a program takes from the world behind its process's back: clock, chance, sockets.

For debugging and for tests. It looks at each call of C code (`sys.setprofile`), whichever way it
was imported, which slows a program down several times over while it lasts.

Only the program's own code is accused: of a clock when it reads one itself, for what a library
does with one, such as a logger or an event loop, changes nothing that the program says; of chance
also through `random`, `uuid` and `secrets`; of a socket through any library. What a syscall does
is the kernel's business, and in the log.
"""

import asyncio
import random
import sys
import sysconfig
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from socket import SocketType
from types import CodeType, FrameType
from typing import Any, Literal

from .syscall import Branch, branch

Source = Literal["clock", "chance", "socket"]

CLOCKS = {
    "time": ("time", "time_ns", "monotonic", "monotonic_ns", "perf_counter", "perf_counter_ns"),
    "datetime": ("now", "utcnow", "today"),
    "date": ("today",),
}
"""Functions by the module or the class that they belong to."""
CHANCE = {"posix": ("urandom", "getrandom"), "nt": ("urandom",), "_uuid": ("generate_time_safe",)}
DRAWN = ("random", "getrandbits")
"""Of the generator that the module `random` shares; one of the program's own has its seed."""
DRAWERS = ("random", "uuid", "secrets")
CONNECTING = ("connect", "connect_ex", "sendto")
INSTEAD: dict[Source, str] = {
    "clock": "`await process.now()`",
    "chance": "`await process.random()`, or `run_once` for what is drawn otherwise",
    "socket": "a tool and `await process.call(...)`, or `run_once`",
}
LIBRARIES = tuple(
    {path for name, path in sysconfig.get_paths().items() if name.endswith(("lib", "stdlib"))}
)
INSTALLED = ("/site-packages/", "/dist-packages/")
OURS = __name__.partition(".")[0]


@dataclass(frozen=True, slots=True)
class Unjournaled:
    """A call whose outcome no log has, so that a resume gets another. `instead` is what has one."""

    what: str
    file: str
    line: int
    instead: str

    def __str__(self) -> str:
        return (
            f"{self.file}:{self.line}: {self.what} is in no log, so a resume gets another "
            f"outcome; use {self.instead}"
        )


@contextmanager
def unjournaled(*packages: str) -> Iterator[list[Unjournaled]]:
    """What programs take from outside of their logs while this lasts, in this thread.

        with unjournaled() as found:
            anyio.run(main)
        assert not found

    Code of installed packages is taken for a library's, except that of these `packages`. Not seen
    are connections of uvloop, and what a library's own C code does by itself.
    """
    watch = _Watch(packages)
    before, in_threads = sys.getprofile(), threading.getprofile()
    threading.setprofile(watch.profile)
    sys.setprofile(watch.profile)
    try:
        yield watch.found
    finally:
        sys.setprofile(before)
        threading.setprofile(in_threads)


class _Watch:
    """What has been found, each place once."""

    def __init__(self, packages: tuple[str, ...]) -> None:
        self._packages = packages
        self._kinds: dict[CodeType, Literal["program", "kernel", "library"]] = {}
        self.found: list[Unjournaled] = []

    def profile(self, frame: FrameType, event: str, function: Any) -> None:
        """Called by the interpreter; `frame` is about to call the `function`."""
        if event != "c_call":
            return
        source = _source(function)
        if source is None:
            return
        place = branch.get(None)
        if place is None or place.busy is not None:  # no program, or within a syscall
            return
        if source == "socket":
            self._add(source, _named(function), self._behind(frame, place))
            return
        name, caller = _named(function), frame
        while _module(caller) in DRAWERS and caller.f_back is not None:
            name, caller = f"{_module(caller)}.{caller.f_code.co_name}", caller.f_back
        self._add(source, name, caller if self._kind(caller) == "program" else None)

    def _add(self, source: Source, what: str, at: FrameType | None) -> None:
        if at is None:
            return
        one = Unjournaled(what, at.f_code.co_filename, at.f_lineno, INSTEAD[source])
        if one not in self.found:
            self.found.append(one)

    def _behind(self, frame: FrameType, place: Branch) -> FrameType | None:
        """The program's frame for which a library connects; None when it does so for the kernel.

        A library's own task has only the program's branch of it; the program waits for it then.
        """
        caller: FrameType | None = frame
        while caller is not None:
            kind = self._kind(caller)
            if kind != "library":
                return caller if kind == "program" else None
            caller = caller.f_back
        return next((one for one in _waiting(place) if self._kind(one) == "program"), None)

    def _kind(self, frame: FrameType) -> Literal["program", "kernel", "library"]:
        kind = self._kinds.get(frame.f_code)
        if kind is None:
            kind = self._kinds[frame.f_code] = self._kind_of(_module(frame), frame.f_code)
        return kind

    def _kind_of(self, module: str, code: CodeType) -> Literal["program", "kernel", "library"]:
        package, file = module.partition(".")[0], code.co_filename
        if package in self._packages:
            return "program"
        if package == OURS:
            return "kernel"
        installed = file.startswith(("<", *LIBRARIES)) or any(part in file for part in INSTALLED)
        return "library" if installed else "program"


def _source(function: Any) -> Source | None:
    name, owner = function.__name__, function.__self__
    if isinstance(owner, random.Random):
        shared = random.random.__self__  # type: ignore[attr-defined]
        return "chance" if name in DRAWN and owner is shared else None
    if isinstance(owner, SocketType):
        return "socket" if name in CONNECTING else None
    of = getattr(owner, "__name__", "")
    if name in CLOCKS.get(of, ()):
        return "clock"
    return "chance" if name in CHANCE.get(of, ()) else None


def _named(function: Any) -> str:
    """As a program would write it."""
    owner = function.__self__
    module = {"posix": "os", "nt": "os"}
    name = getattr(owner, "__name__", type(owner).__name__)
    if isinstance(owner, random.Random):
        name = "random"
    return f"{module.get(name, name)}.{function.__name__}"


def _module(frame: FrameType) -> str:
    return str(frame.f_globals.get("__name__", ""))


def _waiting(place: Branch) -> list[FrameType]:
    """The frames of the task that is on this branch, the innermost first."""
    try:
        task = next(one for one in asyncio.all_tasks() if id(one) == place.task)
    except (RuntimeError, StopIteration):  # in another thread, or it has ended
        return []
    frames: list[FrameType] = []
    awaited: Any = task.get_coro()
    while (frame := getattr(awaited, "cr_frame", None)) is not None:
        frames.append(frame)
        awaited = awaited.cr_await
    return frames[::-1]
