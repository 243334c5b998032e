"""Why a tool was not called, or what became of the call instead."""

import difflib
from collections.abc import Iterable
from typing import Self

from ....kernel.errors import KernelError

SHOWN = 20  # names or problems that one error tells of; a model reads every one of them


class ToolError(KernelError):
    """A tool was not called, or failed. The message is fit for a model to read."""


class UnknownTool(ToolError):
    """No toolset has a tool of this name."""

    @classmethod
    def among(cls, name: str, known: Iterable[str]) -> Self:
        """Name the nearest of those that are known, and the first of them all."""
        names = sorted(known)
        near = difflib.get_close_matches(name, names, 1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
        return cls(f"no tool {name!r}{hint} At hand: {', '.join(names[:SHOWN]) or 'none'}{more}")


class BadArguments(ToolError):
    """The arguments do not fit the tool's schema; names the path of each error."""

    @classmethod
    def at(cls, tool: str, problems: Iterable[tuple[str, str]]) -> Self:
        """Say what is wrong where; each problem is a path (`items[0].price`) and a sentence."""
        told = list(dict.fromkeys(f"{path}: {what}" for path, what in problems))
        more = f"; and {len(told) - SHOWN} more" if len(told) > SHOWN else ""
        return cls(f"{tool} cannot take these arguments: {'; '.join(told[:SHOWN])}{more}")


class ToolFailed(ToolError):
    """The tool ran and failed; the message is its own."""


class ToolAway(ToolError):
    """What the tool runs on cannot be reached at the moment; nothing has happened."""

    retryable = True


class OutcomeLost(ToolError):
    """The tool was being called when it was lost; nobody can say whether it was done."""

    retryable = True
