"""The client under every driver that speaks HTTP: connections, timeouts, what is sent twice."""

import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest
from wire import END, Asked, Play, Send, always, chunk, document, events, full, head, playing

from aoskernel.drivers._http import Fault, Http, Patience
from aoskernel.drivers._stream import Framing

PATIENCE_S = 20
SHORT = Patience(connect_s=0.3, first_byte_s=0.3, idle_s=0.3)
STREAMED = (head(), *events([{"n": 1}, {"n": 2}]), END)
PAYLOADS = [{"n": 1}, {"n": 2}]


@asynccontextmanager
async def client(url: str, **how: Any) -> AsyncIterator[Http]:
    how = {"headers": {}, "patience": Patience(), "slots": 4, **how}
    with anyio.fail_after(PATIENCE_S):
        http = Http(url, **how)
        try:
            yield http
        finally:
            await http.close()


async def read(http: Http, framing: Framing = "events") -> list[Any]:
    """One streamed call, read to its end."""
    async with http.stream("/chat", {"q": 1}, framing) as stream:
        payloads = [payload async for payload in stream]
        await stream.finish()
    return payloads


# Connections


async def test_a_connection_is_used_again() -> None:
    async with playing(always(*STREAMED)) as server, client(server.url) as http:
        for _ in range(3):
            assert await read(http) == PAYLOADS
        assert (server.connections, len(server.asked)) == (1, 3)


async def test_a_connection_is_used_again_after_a_refusal() -> None:
    async with playing(always(document({"error": "no"}, status=400))) as server:
        async with client(server.url) as http:
            for _ in range(3):
                with pytest.raises(Fault):
                    await read(http)
            assert (server.connections, len(server.asked)) == (1, 3)


async def test_a_stream_that_is_left_early_gives_its_connection_up() -> None:
    async with playing(always(*STREAMED)) as server, client(server.url) as http:
        async with http.stream("/chat", {}, "events") as stream:
            assert await anext(stream) == {"n": 1}
        assert await read(http) == PAYLOADS
        assert server.connections == 2


async def test_no_more_requests_are_under_way_than_there_are_slots() -> None:
    most = now = 0

    async def play(asked: Asked, send: Send) -> bool:
        nonlocal most, now
        now += 1
        most = max(most, now)
        await anyio.sleep(0.02)
        now -= 1
        await always(*STREAMED)(asked, send)
        return True

    async with playing(play) as server, client(server.url, slots=3) as http:
        async with anyio.create_task_group() as tasks:
            for _ in range(9):
                tasks.start_soon(read, http)
        assert most == 3


# Dropped connections


def dropping(*, second: bytes = b"") -> Play:
    """Answer the first request; at the second, say this and hang up; answer all the others."""
    asks = 0

    async def play(asked: Asked, send: Send) -> bool | None:
        nonlocal asks
        asks += 1
        if asks != 2:
            return await always(*STREAMED)(asked, send)
        if second:
            await send(second)
        return False

    return play


async def test_a_kept_connection_that_the_server_dropped_costs_nothing() -> None:
    async with playing(always(*STREAMED, keep=False)) as server, client(server.url) as http:
        assert await read(http) == PAYLOADS
        await anyio.wait_all_tasks_blocked()
        assert await read(http) == PAYLOADS
        assert (server.connections, len(server.asked)) == (2, 2)


async def test_a_request_lost_on_a_kept_connection_is_sent_once_more() -> None:
    async with playing(dropping()) as server, client(server.url) as http:
        assert await read(http) == PAYLOADS
        assert await read(http) == PAYLOADS
        assert [asked.connection for asked in server.asked] == [1, 1, 2]


async def test_a_request_lost_on_a_new_connection_is_not_sent_again() -> None:
    async with playing(always(keep=False)) as server, client(server.url) as http:
        with pytest.raises(Fault, match="closed the connection") as fault:
            await read(http)
        assert fault.value.kind == "cut"
        assert len(server.asked) == 1


@pytest.mark.parametrize(
    "said",
    [b"garbage\r\n\r\n", head(), head() + chunk(b'data: {"n": 1}\n\n')],
    ids=["no HTTP", "a head", "an event"],
)
async def test_a_request_is_not_sent_again_after_the_server_said_a_word(said: bytes) -> None:
    async with playing(dropping(second=said)) as server, client(server.url) as http:
        assert await read(http) == PAYLOADS
        with pytest.raises(Fault) as fault:
            await read(http)
        assert fault.value.kind == "cut"
        assert len(server.asked) == 2


# Silence


async def test_a_connection_that_does_not_come_about_is_a_timeout() -> None:
    with full() as url:
        async with client(url, patience=SHORT) as http:
            with pytest.raises(Fault) as fault:
                await read(http)
        assert (fault.value.kind, fault.value.phase) == ("timeout", "connect")


async def test_a_server_that_never_accepts_is_a_timeout() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        async with client(f"http://127.0.0.1:{listener.getsockname()[1]}", patience=SHORT) as http:
            with pytest.raises(Fault) as fault:
                await read(http)
        assert (fault.value.kind, fault.value.phase) == ("timeout", "first_byte")


async def test_a_port_that_nobody_listens_on_is_no_connection() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    async with client(url) as http:
        with pytest.raises(Fault, match=url) as fault:
            await read(http)
        assert fault.value.kind == "connect"


# Addresses


@pytest.mark.parametrize("base", ["", "/", "/v1", "/v1/", "/v1//"])
async def test_a_base_url_may_end_with_a_slash(base: str) -> None:
    async with playing(always(*STREAMED)) as server, client(server.url + base) as http:
        await read(http)
        assert server.asked[0].path == base.rstrip("/") + "/chat"


@pytest.mark.parametrize(
    "url", ["localhost:8080", "ftp://host/v1", "http://", "//host", "host", ""]
)
def test_what_is_no_url_is_refused_at_once(url: str) -> None:
    with pytest.raises(Fault, match="write http") as fault:
        Http(url, headers={}, patience=Patience(), slots=1)
    assert fault.value.kind == "no_api"


# Documents


async def test_a_document_in_place_of_events_is_one_payload() -> None:
    async with playing(always(document({"n": 1}))) as server, client(server.url) as http:
        assert await read(http) == [{"n": 1}]
        assert await http.ask("POST", "/chat", {}) == {"n": 1}


async def test_a_body_is_said_to_be_json() -> None:
    async with playing(always(*STREAMED)) as server, client(server.url) as http:
        await read(http)
        assert server.asked[0].headers["content-type"] == "application/json"
        assert server.asked[0].body == {"q": 1}


async def test_a_reply_is_asked_for_without_compression() -> None:
    async with playing(always(*STREAMED)) as server, client(server.url) as http:
        await read(http)
        assert server.asked[0].headers["accept-encoding"] == "identity"
