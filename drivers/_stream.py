"""Streamed replies, taken apart: server-sent events, and lines of JSON.

Bytes go in as they come from the network, whole payloads come out; a character that was cut
between two chunks is whole again, because a payload is decoded only when it is complete.
Server-sent events: https://html.spec.whatwg.org/multipage/server-sent-events.html
"""

from typing import Literal, Protocol

Framing = Literal["events", "lines"]

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

    def feed(self, chunk: bytes) -> list[bytes]:
        return [line for line in self.split(chunk) if line.strip()]

    def end(self) -> list[bytes]:
        return self.feed(b"\n")

    def split(self, chunk: bytes) -> list[bytes]:
        """Every line that is complete now; breaks are LF, CRLF or CR. Raises ValueError."""
        if b"\n" not in chunk and b"\r" not in chunk:
            self._keep(chunk)
            return []
        text = b"".join((*self._parts, chunk))
        # A CR at the end may be the first half of a CRLF: it waits for what follows.
        held = b"\r" if text.endswith(b"\r") else b""
        if b"\r" in text:
            text = text[: len(text) - len(held)].replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        *lines, rest = text.split(b"\n")
        self._parts, self._size = [], 0
        self._keep(rest + held)
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

    def feed(self, chunk: bytes) -> list[bytes]:
        payloads: list[bytes] = []
        for line in self._lines.split(chunk):
            if line.startswith(b"data:"):
                self._data.append(line[6:] if line[5:6] == b" " else line[5:])
            elif not line and self._data:
                payloads.append(b"\n".join(self._data))
                self._data = []
        return payloads

    def end(self) -> list[bytes]:
        return self.feed(b"\n\n")


FRAMINGS: dict[Framing, type[Lines] | type[Events]] = {"events": Events, "lines": Lines}
