"""Replies as networks and servers deliver them: slow, cut, garbled, in crumbs, in bulk."""

import gzip

import anyio
import pytest
from replies import EVENTS, PATIENCE_S, WIRES, Wire, silence, talking
from wire import END, Asked, Send, always, chunk, document, full, head

from aoskernel.subsystems.llm.conformance import Model
from aoskernel.subsystems.llm.conformance.prompts import question
from aoskernel.subsystems.llm.driver import (
    CutReply,
    ModelError,
    ModelTimeout,
    ModelUnavailable,
)

every_wire = pytest.mark.parametrize("wire", WIRES, ids=str)
events_only = pytest.mark.parametrize("wire", EVENTS, ids=str)

SHORT_S = 0.2
CRUMBS = "🦊🎉 你好,世界 – naïve"


# Silence


@every_wire
async def test_silence_before_the_first_byte_is_a_timeout(wire: Wire) -> None:
    async with talking(wire, silence(), first_byte_s=SHORT_S) as talk:
        with pytest.raises(ModelTimeout) as late:
            await talk.ask()
        assert late.value.phase == "first_byte"
        assert late.value.retryable
        assert len(talk.asked) == 1


@every_wire
async def test_silence_in_mid_stream_is_a_timeout(wire: Wire) -> None:
    play = silence(head(wire.kind), chunk(wire.begun("Hello")))
    async with talking(wire, play, idle_s=SHORT_S) as talk:
        with pytest.raises(ModelTimeout) as late:
            await talk.ask()
        assert late.value.phase == "stream"
        assert talk.model.said() == "Hello"
        assert talk.model.used.completion > 0


@every_wire
async def test_the_first_byte_may_take_longer_than_the_next(wire: Wire) -> None:
    async def play(asked: Asked, send: Send) -> bool:
        await anyio.sleep(3 * SHORT_S)
        await always(*wire.streamed(wire.said("Late")))(asked, send)
        return True

    async with talking(wire, play, first_byte_s=30, idle_s=SHORT_S) as talk:
        assert (await talk.ask()).text == "Late"


@events_only
async def test_a_connection_that_does_not_come_about_is_a_timeout(wire: Wire) -> None:
    with full() as url, anyio.fail_after(PATIENCE_S):
        driver = wire.make(url, connect_s=SHORT_S)
        await driver.start()
        with pytest.raises(ModelTimeout) as late:
            await Model(driver).ask(question("Hi", most=9))
        assert late.value.phase == "connect"
        assert late.value.retryable
        await driver.stop()


# Cut


@every_wire
@pytest.mark.parametrize("end", [b"", END], ids=["broken", "ended"])
async def test_a_cut_stream_is_an_error_with_the_text_so_far(wire: Wire, end: bytes) -> None:
    play = always(head(wire.kind), chunk(wire.begun("Hello", " wor")), end, keep=False)
    async with talking(wire, play) as talk:
        with pytest.raises(CutReply) as cut:
            await talk.ask()
        assert cut.value.text == talk.model.said() == "Hello wor"
        assert cut.value.retryable
        assert talk.model.used.completion > 0
        assert len(talk.asked) == 1


@every_wire
async def test_a_stream_that_is_cut_within_a_payload_is_an_error(wire: Wire) -> None:
    half = wire.framed(wire.delta(" world"))[:-9]
    play = always(head(wire.kind), chunk(wire.begun("Hello") + half), END, keep=False)
    async with talking(wire, play) as talk:
        with pytest.raises(CutReply) as cut:
            await talk.ask()
        assert cut.value.text == "Hello"


@every_wire
async def test_an_empty_answer_is_an_error(wire: Wire) -> None:
    async with talking(wire, always(document(b"", kind=wire.kind))) as talk:
        with pytest.raises(CutReply):
            await talk.ask()


@every_wire
@pytest.mark.parametrize("told", ['{"choices": [', "nothing", '"text"', "[1]", "7", "null"])
async def test_a_malformed_payload_is_an_error(wire: Wire, told: str) -> None:
    framed = f"{told}\n" if wire.name == "ollama" else f"data: {told}\n\n"
    body = wire.begun("Hello") + framed.encode() + wire.said("never")
    async with talking(wire, always(*wire.streamed(body), keep=False)) as talk:
        with pytest.raises(CutReply) as cut:
            await talk.ask()
        assert cut.value.text == "Hello"


@every_wire
@pytest.mark.parametrize("told", ["text", "[]", "7", "null", "{}"])
async def test_a_document_that_is_no_reply_is_an_error(wire: Wire, told: str) -> None:
    async with talking(wire, always(document(told.encode()))) as talk:
        with pytest.raises(ModelError):
            await talk.ask()
        assert not talk.model.heard


# Crumbs


@every_wire
async def test_a_reply_that_comes_byte_by_byte_is_whole(wire: Wire) -> None:
    body = wire.said(CRUMBS[0], CRUMBS[1], CRUMBS[2:])
    parts = [chunk(body[i : i + 1]) for i in range(len(body))]
    async with talking(wire, always(head(wire.kind), *parts, END)) as talk:
        answer = await talk.ask()
        assert answer.text == talk.model.said() == CRUMBS
        assert talk.model.heard[0] == ("🦊", "text")


@events_only
@pytest.mark.parametrize("end", [b"\r\n", b"\r"], ids=["CRLF", "CR"])
async def test_line_ends_may_be_of_any_kind(wire: Wire, end: bytes) -> None:
    body = wire.said("Hi", " there").replace(b"\n", end)
    async with talking(wire, always(*wire.streamed(body))) as talk:
        assert (await talk.ask()).text == "Hi there"


@events_only
async def test_comments_and_other_fields_are_passed_over(wire: Wire) -> None:
    body = b"\xef\xbb\xbf: hello\n\nretry: 3000\nid: 1\n\n: PROCESSING\n\nevent: ping\n\n"
    body += wire.said("Hi").replace(b"data: ", b": keep-alive\ndata:")
    async with talking(wire, always(*wire.streamed(body))) as talk:
        assert (await talk.ask()).text == "Hi"


@events_only
async def test_data_on_several_lines_is_one_payload(wire: Wire) -> None:
    body = wire.said("Hi").replace(b", ", b",\ndata: ")
    assert body.count(b"data:") > body.count(b"\n\n")
    async with talking(wire, always(*wire.streamed(body))) as talk:
        assert (await talk.ask()).text == "Hi"


@every_wire
async def test_the_last_line_needs_no_end(wire: Wire) -> None:
    body = wire.said("Hi").removesuffix(wire.done).rstrip(b"\n")
    async with talking(wire, always(*wire.streamed(body))) as talk:
        assert (await talk.ask()).text == "Hi"


@every_wire
async def test_empty_lines_between_keep_a_stream_alive(wire: Wire) -> None:
    body = wire.said("Hi", " there").replace(b"\n", b"\n\n\n")
    if wire in EVENTS:
        body = wire.said("Hi", " there").replace(b"\n\n", b"\n\n\n\n")
    async with talking(wire, always(*wire.streamed(body))) as talk:
        assert (await talk.ask()).text == "Hi there"


# Bulk


@every_wire
async def test_a_megabyte_may_come_at_once(wire: Wire) -> None:
    text = "fox " * 2**18
    async with talking(wire, always(*wire.streamed(wire.said(text)))) as talk:
        assert (await talk.ask()).text == text
        assert talk.model.said() == text


@every_wire
async def test_a_megabyte_may_come_in_a_hundred_thousand_pieces(wire: Wire) -> None:
    pieces = 100_000
    first, one = wire.begun(), wire.framed(wire.delta("0123456789"))
    last = b"".join(map(wire.framed, wire.last)) + wire.done
    body = first + one * pieces + last
    async with talking(wire, always(*wire.streamed(body))) as talk:
        answer = await talk.ask()
        assert len(answer.text) == 10 * pieces
        assert len(talk.model.heard) == pieces


@every_wire
async def test_three_hundred_calls_at_once_come_to_their_end(wire: Wire) -> None:
    async def play(asked: Asked, send: Send) -> bool:
        said = asked.raw.decode().rpartition("number ")[2].partition('"')[0]
        return bool(await always(*wire.streamed(wire.said("You are ", said)))(asked, send))

    async with talking(wire, play, slots=300) as talk:
        replies: set[str] = set()

        async def ask(number: int) -> None:
            ask = question(f"I am number {number}", most=50)
            replies.add((await Model(talk.model.driver).ask(ask)).text)

        async with anyio.create_task_group() as tasks:
            for number in range(300):
                tasks.start_soon(ask, number)
        assert replies == {f"You are {number}" for number in range(300)}
        assert len(talk.asked) == 300


# Odd but whole


@every_wire
async def test_usage_that_nobody_reported_is_estimated_and_says_so(wire: Wire) -> None:
    async with talking(wire, always(*wire.streamed(wire.unmeasured("Hello there.")))) as talk:
        answer = await talk.ask()
        assert answer.text == "Hello there."
        assert answer.usage.estimated
        assert answer.usage.prompt > 0
        assert answer.usage.completion > 0
        assert talk.model.used == answer.usage.model_copy(update={"estimated": False})


@every_wire
async def test_a_compressed_answer_is_read(wire: Wire) -> None:
    body = gzip.compress(wire.said("Hi"))
    answer = document(body, kind=wire.kind, headers={"Content-Encoding": "gzip"})
    async with talking(wire, always(answer)) as talk:
        assert (await talk.ask()).text == "Hi"


@every_wire
async def test_a_compressed_answer_that_is_garbled_is_an_error(wire: Wire) -> None:
    answer = document(b"no gzip", kind=wire.kind, headers={"Content-Encoding": "gzip"})
    async with talking(wire, always(answer)) as talk:
        with pytest.raises(ModelUnavailable):
            await talk.ask()
