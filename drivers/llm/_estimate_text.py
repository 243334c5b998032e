"""A text's tokens by kind of content, counted once and kept as long as there is room."""

from collections import OrderedDict
from functools import cache
from threading import Lock

from ._estimate_family import Family, weights_of
from ._estimate_features import FEATURES, features

CONTENTS: dict[str, tuple[str, ...]] = {
    "words": ("word", "Word", "long", "longer", "accent"),
    "code": ("glued", "glued_long", "bare", "hump", "capitals"),
    "layout": ("signs", "sign", "ruler", "break", "broken", "indent", "space"),
    "numbers": ("digit", "digits", "spaced_digits", "mixed"),
    "han": ("han", "han_common", "han_run", "han_sign"),
    "scripts": ("kanji", "kana", "hangul", "cyrillic", "cyrillic_word", "abroad"),
    "symbols": ("curly", "symbol", "emoji"),
}
"""Features that a tokenizer is good or bad at together: each content has a factor to learn."""

ROOM = 8_000_000
"""Characters of texts that are kept."""

Tokens = tuple[float, ...]
"""By content, in the order of CONTENTS."""


class Scanner:
    """Texts by one family's weights."""

    def __init__(self, weights: tuple[float, ...], *, room: int = ROOM) -> None:
        worth = dict(zip(FEATURES, weights, strict=True))
        self._parts = tuple(
            tuple((FEATURES.index(name), worth[name]) for name in names if worth[name])
            for names in CONTENTS.values()
        )
        self._kept: OrderedDict[str, Tokens] = OrderedDict()
        self._room = room
        self._size = 0
        self._lock = Lock()

    def tokens(self, text: str) -> Tokens:
        """How many tokens of each content this text has."""
        found = self._kept.get(text)
        return self._scan(text) if found is None else found

    @property
    def kept(self) -> int:
        """How many texts are known by now."""
        return len(self._kept)

    def _scan(self, text: str) -> Tokens:
        counts = features(text)
        tokens = tuple(sum([counts[at] * worth for at, worth in part]) for part in self._parts)
        with self._lock:
            self._keep(text, tokens)
        return tokens

    def _keep(self, text: str, tokens: Tokens) -> None:
        """The oldest go first. What is still in use is scanned again and is young then."""
        if text in self._kept:
            return
        self._kept[text] = tokens
        self._size += len(text) + 200
        while self._size > self._room:
            oldest, _ = self._kept.popitem(last=False)
            self._size -= len(oldest) + 200


@cache
def scanner_of(family: Family) -> Scanner:
    """One for all models of a family."""
    return Scanner(weights_of(family))
