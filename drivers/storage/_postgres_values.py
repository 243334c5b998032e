"""Texts, vectors and keys as the database has them."""

import struct

from ...subsystems.storage import driver as d

FLOAT = 4
"""Bytes of a number in a vector."""


def encoded(text: str) -> bytes:
    """Text as it is stored; a lone surrogate, which UTF-8 has no code for, survives."""
    return text.encode("utf-8", "surrogatepass")


def decoded(body: bytes) -> str:
    return body.decode("utf-8", "surrogatepass")


def floats(vector: bytes) -> list[float]:
    """Raises ValueError."""
    if len(vector) % FLOAT:
        raise ValueError(f"a vector of {len(vector)} bytes does not consist of float32 numbers")
    return list(struct.unpack(f"<{len(vector) // FLOAT}f", vector))


def place(key: d.Key) -> tuple[int, str]:
    """ "12:3.1.0" is step 12, path 3.1.0."""
    step, _, path = key.partition(":")
    return int(step), path
