"""Syscalls: their keys and fingerprints, and how outcomes are written and read back."""

import asyncio
import hashlib
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from typing import Any

from pydantic import BaseModel, TypeAdapter
from pydantic_core import from_json, to_json

from ...kernel.errors import KernelError
from ...kernel.secrets import redacted
from ..storage.messages import Entry, Key
from .messages import ConcurrentSyscalls, ProgramDiverged

BEHIND_THE_DOOR = re.compile(r"\.messages\.[\w.]+:")


class Suspended(BaseException):
    """The process leaves memory here; nothing more is journaled. Not for programs to catch."""


class Turnstile:
    """Whether a process may begin anything new. Its branches share one; see `doubt`."""

    __slots__ = ("shut",)

    def __init__(self) -> None:
        self.shut = False

    def enter(self) -> None:
        """Raise Suspended where it is shut."""
        if self.shut:
            raise Suspended


class Branch:
    """A line of execution in a step: the step itself, or an arm of a parallel.

    Syscalls on one branch come one after another, so their ordinals are the same in each run.
    """

    __slots__ = ("begun", "busy", "ordinal", "path", "task", "turnstile")

    def __init__(self, path: str, turnstile: Turnstile) -> None:
        self.path, self.turnstile = path, turnstile
        self.begun = False  # its syscall has reached outside
        self.ordinal = 0
        self.busy: str | None = None
        self.task = id(asyncio.current_task())  # the task itself would make a cycle

    def take(self, kind: str) -> Key:
        """The key of the next syscall, which has the branch to itself until it is `free`."""
        if self.busy is not None or self.task != id(asyncio.current_task()):
            raise ConcurrentSyscalls(
                f"{kind!r} was called beside {self.busy or 'other syscalls'!r} on the same path, "
                "so their order is chance; use `await self.parallel(...)` to run them side by side"
            )
        self.busy, self.begun = kind, False
        key = f"{self.path}{self.ordinal}"
        self.ordinal += 1
        return key

    def begin(self) -> None:
        """The syscall is about to reach outside, perhaps again. Raises Suspended."""
        if not self.begun:
            self.turnstile.enter()
        self.begun = True

    def free(self) -> None:
        self.busy = None


branch: ContextVar[Branch] = ContextVar("aoskernel_branch")
"""The branch this task is on."""


@contextmanager
def on_branch(path: str) -> Iterator[None]:
    token = branch.set(Branch(path, branch.get().turnstile))
    try:
        yield
    finally:
        branch.reset(token)


def fingerprint(kind: str, said: Any) -> str:
    """Twelve bytes of what the program said, in hexadecimal."""
    return hashlib.blake2b(kind.encode() + b"\0" + to_json(said), digest_size=12).hexdigest()


def check(entry: Entry, kind: str, mark: str) -> None:
    """Does the program still say what the log says it said?"""
    if entry.kind != kind:
        raise ProgramDiverged(f"at {entry.key} the log has {entry.kind!r}, the program {kind!r}")
    if entry.fingerprint != mark:
        raise ProgramDiverged(
            f"at {entry.key} the program calls {kind!r} as before, but with other arguments "
            f"(fingerprint {mark}, in the log {entry.fingerprint})"
        )


def write(value: Any) -> str:
    """What a syscall gives, as JSON."""
    if isinstance(value, BaseModel):
        return value.model_dump_json(exclude_defaults=True)
    return to_json(value).decode()


def read(reply: Any, body: str) -> Any:
    """It again, of the type `reply`, or as JSON data."""
    return from_json(body) if reply is None else _adapter(reply).validate_json(body)


@cache
def _adapter(reply: Any) -> TypeAdapter[Any]:
    return TypeAdapter(reply)


def recalled(entry: Entry, reply: Any) -> Any:
    """What the log says a syscall gave. Raises what it raised."""
    if entry.failed:
        raise thaw(entry.body)
    return read(reply, entry.body)


def freeze(error: Exception) -> str:
    """An error as JSON: its class, its message, and those attributes that are data."""
    attributes = {}
    for name, value in vars(error).items():
        try:
            attributes[name] = from_json(to_json(value))
        except ValueError:
            continue
    return json.dumps({"class": _name(type(error)), "text": str(error), "has": attributes})


def without_secrets(error: KernelError | TimeoutError) -> Exception:
    """The error, or one of its class that does not say the secrets it says."""
    told = freeze(error)
    clean = redacted(told)
    return error if clean == told else thaw(clean)


def thaw(body: str) -> Exception:
    """The error again, of its own class while that class is loaded."""
    told = json.loads(body)
    if told["class"] == "builtins:TimeoutError":
        return TimeoutError(told["text"])
    name = _by_door(told["class"])
    kind = next((k for k in KernelError.kinds() if _name(k) == name), KernelError)
    error = kind.__new__(kind, told["text"])
    error.args = (told["text"],)
    vars(error).update(told["has"])
    return error


def _name(kind: type) -> str:
    return _by_door(f"{kind.__module__}:{kind.__qualname__}")


def _by_door(name: str) -> str:
    """A log outlives the files behind `messages`, among which a class may move."""
    return BEHIND_THE_DOOR.sub(".messages:", name)
