"""Secrets: what nothing that can be read may say. Whoever is given one keeps it here.

The configuration keeps what came from `{ env = "NAME" }`, in whichever kernel of this program.
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

_known: set[str] = set()
_pattern: re.Pattern[str] | None = None


def keep(text: str) -> str:
    """From now on this is never shown; of a URL, nor is the password in it. Gives the text."""
    global _pattern
    new = {part for part in (text, _password(text)) if len(part) >= LEAST}
    if not new <= _known:
        _known.update(new)
        forms = {form for secret in _known for form in (secret, *_escaped(secret))}
        _pattern = re.compile("|".join(map(re.escape, sorted(forms, key=len, reverse=True))))
    return text


def redacted(text: str) -> str:
    """The text, with a sign in the place of each secret."""
    return text if _pattern is None else _pattern.sub(HIDDEN, text)


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
