"""Streams taken apart: whatever the chunks, the payloads are the same."""

from collections.abc import Callable, Iterable
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aoskernel.drivers._stream import Document, Events, Lines, Parser, parser_of

# What a stream may be made of, and how it may be cut

ENDS = st.sampled_from(["\n", "\r\n", "\r"])
VALUES = st.sampled_from(
    ["", " ", "{}", '{"a": 1}', "[DONE]", "你好 🦊", " x ", "data: y", ":", "é"]
)
FIELDS = st.one_of(
    st.builds("data:{}".format, VALUES),
    st.builds("data: {}".format, VALUES),
    st.sampled_from(["", "", "", ": comment", "event: delta", "id: 7", "retry: 9", "dat: 1", "x"]),
)
STREAMS = st.lists(st.builds(str.__add__, FIELDS, ENDS), max_size=20).map("".join)


def cut(body: bytes, places: Iterable[int]) -> list[bytes]:
    """The body in pieces that end at these places; some may be empty."""
    at = [0, *sorted(place % (len(body) + 1) for place in places), len(body)]
    return [body[a:b] for a, b in pairwise(at)]


def parsed(parser: Parser, chunks: Iterable[bytes]) -> list[bytes]:
    payloads = [payload for chunk in chunks for payload in parser.feed(chunk)]
    return payloads + parser.end()


def lines_of(text: str) -> list[str]:
    """The reference: lines end with CRLF, CR or LF, and with nothing else."""
    return text.replace("\r\n", "\n").replace("\r", "\n").split("\n")


def events_of(text: str) -> list[str]:
    """The reference for server-sent events, in the words of its specification."""
    events, data = list[str](), list[str]()
    for line in [*lines_of(text), ""]:
        name, _, value = line.partition(":")
        if line == "":
            events.append("\n".join(data))
            data = []
        elif name == "data" and ":" in line:
            data.append(value.removeprefix(" "))
    return [event for event in events if event]


@given(STREAMS, st.lists(st.integers(0, 2000), max_size=12))
def test_events_are_the_same_however_they_are_cut(text: str, places: list[int]) -> None:
    payloads = parsed(Events(), cut(text.encode(), places))
    assert [payload.decode() for payload in payloads] == events_of(text)


@given(STREAMS)
def test_events_are_the_same_byte_by_byte(text: str) -> None:
    body = text.encode()
    payloads = parsed(Events(), [body[i : i + 1] for i in range(len(body))])
    assert [payload.decode() for payload in payloads] == events_of(text)


@given(STREAMS, st.lists(st.integers(0, 2000), max_size=12))
def test_lines_are_the_same_however_they_are_cut(text: str, places: list[int]) -> None:
    payloads = parsed(Lines(), cut(text.encode(), places))
    assert [p.decode() for p in payloads] == [line for line in lines_of(text) if line.strip()]


@given(st.text(max_size=60), st.lists(st.integers(0, 400), max_size=8))
def test_a_character_is_never_halved(text: str, places: list[int]) -> None:
    told = "".join(sign for sign in text if sign not in "\r\n")
    body = f"data: {told}\n\n".encode()
    for payload in parsed(Events(), cut(body, places)):
        assert payload.decode() == told


# When a payload is given out


@pytest.mark.parametrize("end", [b"\n\n", b"\r\n\r\n", b"\r\r"])
def test_an_event_is_given_out_as_soon_as_it_is_complete(end: bytes) -> None:
    assert Events().feed(b"data: 1" + end) == [b"1"]


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
def test_a_line_is_given_out_as_soon_as_it_is_complete(end: bytes) -> None:
    assert Lines().feed(b"1" + end) == [b"1"]


def test_a_byte_order_mark_at_the_beginning_is_passed_over() -> None:
    assert Events().feed(b"\xef\xbb\xbfdata: 1\n\n") == [b"1"]


@pytest.mark.parametrize("make", [Lines, Events])
def test_a_line_without_an_end_is_refused_in_time(make: Callable[[], Parser]) -> None:
    parser, chunk = make(), b"x" * 2**22
    with pytest.raises(ValueError, match="64 MiB"):
        for _ in range(17):
            parser.feed(chunk)


def test_an_event_without_an_end_is_refused_in_time() -> None:
    parser, line = Events(), b"data: " + b"x" * 2**22 + b"\n"
    with pytest.raises(ValueError, match="64 MiB"):
        for _ in range(18):
            parser.feed(line)


# Documents


@given(st.lists(st.integers(0, 100), max_size=8))
def test_a_document_is_one_payload_however_it_is_cut(places: list[int]) -> None:
    body = b' {"error":\n\n{"message": "data: none"}}\n'
    assert parsed(Document(), cut(body, places)) == [body]


@pytest.mark.parametrize(
    ("beginning", "kind"),
    [(b"data: {", Events), (b": hi", Events), (b'{"a"', Document), (b"\n {", Document)],
)
def test_a_document_in_place_of_events_is_known_by_its_beginning(
    beginning: bytes, kind: type[Parser]
) -> None:
    assert type(parser_of("events", beginning)) is kind


def test_lines_may_begin_with_a_brace() -> None:
    assert type(parser_of("lines", b'{"done": false}')) is Lines
