"""Secrets: what nothing that can be read may say. Whoever is given one keeps it here.

The configuration keeps what came from `{ env = "NAME" }`. All kernels of a program share a safe.
"""

import json
import re
from typing import Any, get_args
from urllib.parse import urlsplit

from pydantic import SecretStr

HIDDEN = "[secret]"
LEAST = 6
"""Characters of the shortest text that counts as a secret: hiding a shorter one would show where
it stands, and garble every line in which those characters stand by chance."""


class Safe:
    """Knows secrets, and takes them out of texts."""

    def __init__(self) -> None:
        self._known: set[str] = set()
        self._pattern: re.Pattern[str] | None = None

    def keep(self, text: str) -> str:
        """From now on this is never shown; of a URL, nor is the password in it. Gives the text."""
        new = {part for part in (text, _password(text)) if len(part) >= LEAST}
        if not new <= self._known:
            self._known |= new
            forms = {form for secret in self._known for form in (secret, *_escaped(secret))}
            longest_first = sorted(forms, key=len, reverse=True)
            self._pattern = re.compile("|".join(map(re.escape, longest_first)))
        return text

    def redacted(self, text: str) -> str:
        """The text, with a sign in the place of each secret."""
        return text if self._pattern is None else self._pattern.sub(HIDDEN, text)


_safe = Safe()
keep, redacted = _safe.keep, _safe.redacted


def _password(text: str) -> str:
    try:
        return urlsplit(text).password or ""
    except ValueError:
        return ""


def _escaped(secret: str) -> tuple[str, str]:
    """As it stands in JSON and in a line of a log."""
    return json.dumps(secret)[1:-1], json.dumps(secret, ensure_ascii=False)[1:-1]


class _Sensitive:
    """What `Sensitive` is."""

    def __repr__(self) -> str:
        return "Sensitive"


Sensitive = _Sensitive()
"""Marks a tool's parameter that nothing may show: `password: Annotated[str, Sensitive]`.

It is not the model's to fill, which has in its context all that it says: the program gives it,
as a `SecretStr`. A parameter of type `SecretStr` is sensitive without a mark.
"""


def is_sensitive(hint: Any) -> bool:
    """Is it a secret's type, or marked as one?"""
    parts = (hint, *get_args(hint))
    return SecretStr in parts or any(part is Sensitive for part in parts)
