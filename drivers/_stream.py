"""Streamed replies, taken apart: server-sent events, and lines of JSON.

Bytes go in as they come from the network, whole payloads come out; a character that was cut
between two chunks is whole again, because a payload is decoded only when it is complete.
Server-sent events: https://html.spec.whatwg.org/multipage/server-sent-events.html
"""

from typing import Literal, Protocol

Framing = Literal["events", "lines"]

BOM = b"\xef\xbb\xbf"
MOST_BYTES = 64 * 2**20
"""A payload longer than this is no reply of a model."""


class Parser(Protocol):
    """Feed it chunks; it gives the payloads that are complete."""

    def feed(self, chunk: bytes) -> list[bytes]: ...

    def end(self) -> list[bytes]:
        """What stands at the end of the stream without the line break that should follow."""
        ...


class Lines:
    """The lines of a stream that are not empty: of ndjson, each is a payload."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._size = 0
        self._is_after_cr = False

    def feed(self, chunk: bytes) -> list[bytes]:
        return [line for line in self.split(chunk) if line.strip()]

    def end(self) -> list[bytes]:
        return self.feed(b"\n")

    def split(self, chunk: bytes) -> list[bytes]:
        """Every line that is complete now; breaks are LF, CRLF or CR. Raises ValueError."""
        if self._is_after_cr and chunk.startswith(b"\n"):
            chunk = chunk[1:]  # the second half of a CRLF whose line was given out already
            self._is_after_cr = False
        if b"\r" in chunk:
            self._is_after_cr = chunk.endswith(b"\r")
            chunk = chunk.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        elif chunk:
            self._is_after_cr = False
        if b"\n" not in chunk:
            self._keep(chunk)
            return []
        *lines, rest = b"".join((*self._parts, chunk)).split(b"\n")
        self._parts, self._size = [], 0
        self._keep(rest)
        return lines

    def _keep(self, part: bytes) -> None:
        if part:
            self._parts.append(part)
            self._size += len(part)
        if self._size > MOST_BYTES:
            raise ValueError(f"a line of more than {MOST_BYTES >> 20} MiB")


class Events:
    """Server-sent events; the payload is the event's data. Names and ids are not used."""

    def __init__(self) -> None:
        self._lines = Lines()
        self._data: list[bytes] = []
        self._size = 0
        self._is_first = True

    def feed(self, chunk: bytes) -> list[bytes]:
        payloads: list[bytes] = []
        for line in self._lines.split(chunk):
            if self._is_first:
                line, self._is_first = line.removeprefix(BOM), False
            if line.startswith(b"data:"):
                self._data.append(line[6:] if line[5:6] == b" " else line[5:])
                if len(self._data) > 1:
                    self._grow()
            elif not line and self._data:
                payload, self._data, self._size = b"\n".join(self._data), [], 0
                if payload:
                    payloads.append(payload)
        return payloads

    def end(self) -> list[bytes]:
        return self.feed(b"\n\n")

    def _grow(self) -> None:
        """A line alone is short enough; many of them may not be."""
        self._size += len(self._data[-1])
        if self._size > MOST_BYTES:
            raise ValueError(f"an event of more than {MOST_BYTES >> 20} MiB")


class Document:
    """One JSON document: a server's answer that does not stream."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []

    def feed(self, chunk: bytes) -> list[bytes]:
        self._parts.append(chunk)
        return []

    def end(self) -> list[bytes]:
        return [b"".join(self._parts)]


FRAMINGS: dict[Framing, type[Lines] | type[Events]] = {"events": Events, "lines": Lines}


def parser_of(framing: Framing, beginning: bytes) -> Parser:
    """What takes a stream apart that begins like this; no event begins with a brace."""
    if framing == "events" and beginning.lstrip()[:1] == b"{":
        return Document()
    return FRAMINGS[framing]()
