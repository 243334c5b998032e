"""What a text is made of, as far as the number of its tokens depends on it.

Tokenizers cut a text where the class of its characters changes: before a word, a number, a run of
signs. So each character becomes one byte that names its class, and the places where classes meet
are counted. Both happen inside `bytes`, so a megabyte takes milliseconds.
"""

from collections.abc import Iterable

LONG = {"long": b"aaaaaaa", "longer": b"aaaaaaaaaaa", "glued_long": b".aaaaaa", "digit": b"0"}
"""What is counted while runs are whole: every seventh and eleventh letter of a word, a longer word
right after a sign, each digit."""

MEETINGS: dict[str, tuple[bytes, ...]] = {
    "word": (b" a",),
    "Word": (b" A",),
    "glued": (b".a", b".A"),  # a word right after a sign: .text, (self, "name
    "bare": (b"\na", b"\nA", b"ta", b"tA"),  # a word that begins a line, or is indented
    "hump": (b"aA",),  # in camelCase
    "capitals": (b"AA",),
    "accent": (b"e",),
    "spaced_digits": (b" 0", b" 3"),
    "digits": (b"0", b"3"),  # up to three digits
    "mixed": (b"0a", b"3a", b"0A", b"3A"),  # a letter after a digit: 3f, 2nd
    "indent": (b"t",),
    "broken": (b".\n",),  # a line that ends with a sign
}
"""Where classes meet, once runs are short. A whole three digits are then a 3, indentation a t."""

RESTS = ("signs", "sign", "ruler", "break", "space")
"""Runs of signs that no word follows; each further sign in a run; every eighth of a long run; line
breaks after no sign; spaces before anything but a word, a number or a sign."""

WIDE = {
    "han": b"h",  # a Chinese character
    "han_sign": b"p",  # Chinese punctuation, wide letters
    "kana": b"k",
    "kanji": b"hk",  # a Chinese character before Japanese ones
    "hangul": b"g",
    "cyrillic": b"y",  # and Greek
    "abroad": b"o",  # letters of the other alphabets
    "curly": b"q",  # dashes, curly quotation marks, bullets
    "symbol": b"s",  # arrows, lines, currencies, control characters
    "emoji": b"m",  # and what else lies beyond the basic plane
}
"""Characters beyond ASCII, and control characters."""

RUNS = {"han_run": b"h", "cyrillic_word": b"y"}
"""Up to a sign, a space or a line break."""

FEATURES = (*LONG, *MEETINGS, *RESTS, *WIDE, *RUNS, "han_common")

CONTINUED = bytes(range(0x80, 0xC0)) + b"\r"
"""The bytes of UTF-8 that begin no character; without them each character is one byte."""


COMMON = "的一是不了在人有我他这个们中来上大为和国地到以说时要就出会可也你对生能而子那得于着下自之年过发后作里"
"""The commonest Chinese characters."""


def _classes() -> bytes:
    table = bytearray(b"s" * 256)

    def set_all(codes: range | bytes, name: bytes) -> None:
        for code in codes:
            table[code] = name[0]

    set_all(range(0x21, 0x7F), b".")
    set_all(b"abcdefghijklmnopqrstuvwxyz", b"a")
    set_all(b"ABCDEFGHIJKLMNOPQRSTUVWXYZ", b"A")
    set_all(b"0123456789", b"0")
    set_all(b" ", b" ")
    set_all(b"\n\v\f", b"\n")
    set_all(b"\t", b"t")
    set_all(b"\x01", b"p")
    set_all(b"\x02", b"q")
    set_all(range(0xC3, 0xCD), b"e")
    set_all(range(0xCD, 0xD5), b"y")
    set_all(range(0xD5, 0xE2), b"o")
    set_all(b"\xe3", b"k")
    set_all(range(0xE4, 0xEA), b"h")
    set_all(range(0xEA, 0xEE), b"g")
    set_all(b"\xef", b"p")
    set_all(range(0xF0, 0x100), b"m")
    return bytes(table)


CLASSES = _classes()
"""By the first byte of a character in UTF-8."""


def features(text: str) -> tuple[int, ...]:
    """How often each of `FEATURES` occurs in this text."""
    raw = text.encode("utf-8", "replace")
    if not text.isascii():
        # Two blocks of punctuation share their first byte with letters: they get their own.
        raw = raw.replace(b"\xe3\x80", b"\x01").replace(b"\xe2\x80", b"\x02")
    shape = raw.translate(CLASSES, CONTINUED)
    long = map(shape.count, LONG.values())
    return (*long, *_narrow(shape), *_wide(shape, text))


def _narrow(shape: bytes) -> list[int]:
    rulers = shape.count(b"........")
    shape = _squeezed(shape, b"........", b".", b"........", b".")
    signs = shape.count(b".")
    shape = _squeezed(shape, b"...", b".", b"..", b".", b"..", b".")
    shape = _squeezed(shape, b"\n\n", b"\n", b"\n\n", b"\n", b"000", b"3", b"00", b"0")
    shape = _squeezed(shape, b"    ", b"t", b"  ", b"t", b"tttt", b"t", b"tt", b"t", b"tt", b"t")
    count = shape.count
    counts = [sum(map(count, meetings)) for meetings in MEETINGS.values()]
    found = dict(zip(MEETINGS, counts, strict=True))
    runs = count(b".")
    spaces = count(b" ") - count(b" .") - found["word"] - found["Word"] - found["spaced_digits"]
    signs_alone = max(runs - found["glued"], 0)
    return [
        *counts,
        signs_alone,
        signs - runs,
        rulers,
        count(b"\n") - found["broken"],
        max(spaces, 0),
    ]


def _wide(shape: bytes, text: str) -> Iterable[int]:
    shape = shape.translate(None, b"aA0")
    if not shape.translate(None, b" .\nte"):
        return (0,) * (len(WIDE) + len(RUNS) + 1)
    counts = list(map(shape.count, WIDE.values()))
    common = sum(map(text.count, COMMON)) if b"h" in shape else 0
    shape = _squeezed(shape, b"hhhh", b"h", b"hh", b"h", b"hh", b"h")
    shape = _squeezed(shape, b"yyyy", b"y", b"yy", b"y", b"yy", b"y")
    return (*counts, *map(shape.count, RUNS.values()), common)


def _squeezed(shape: bytes, *pairs: bytes) -> bytes:
    """With the first of each two replaced by the second."""
    for run, short in zip(pairs[::2], pairs[1::2], strict=True):
        shape = shape.replace(run, short)
    return shape
