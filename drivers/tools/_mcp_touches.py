"""What the arguments of a server's tools name, as the configuration says it."""

from collections.abc import Mapping

from pydantic import ValidationError

from ...subsystems.tools import driver as d

Written = Mapping[str, Mapping[str, str]]
"""Of a tool, what each argument names: "path:write", or "spend:EUR"."""


def declared(written: Written, below: str) -> dict[str, tuple[d.Touch, ...]]:
    """By tool; relative paths begin `below`. Raises ValueError for what says nothing."""
    return {
        name: tuple(_touch(name, argument, text, below) for argument, text in arguments.items())
        for name, arguments in written.items()
    }


def _touch(name: str, argument: str, text: str, below: str) -> d.Touch:
    kind, _, what = text.partition(":")
    given = {"argument": argument, "kind": kind, "below": below if kind == "path" else ""}
    given |= {"access": kind, "currency": what} if kind == "spend" else {"access": what}
    try:
        return d.Touch.model_validate(given)
    except ValidationError:
        raise ValueError(
            f"touches: {name}.{argument}: {text!r} says nothing; write for example "
            '"path:write", "url:read", "resource:delete" or "spend:EUR"'
        ) from None
