"""Proxies: those of the environment are used for other machines, and never for this one."""

import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import anyio
import httpx
import pytest
from anyio.abc import SocketAttribute, SocketStream
from wire import END, Asked, Send, always, document, events, head, playing

from aoskernel.drivers._http import Fault, Http, Patience
from aoskernel.drivers._http.proxies import is_local, proxy_for
from aoskernel.drivers.llm.openai import OpenAI
from aoskernel.subsystems.llm.driver import ModelMissing

PATIENCE_S = 20
STREAMED = (head(), *events([{"n": 1}]), END)
NAMES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY")


@pytest.fixture(autouse=True)
def _no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


def http(url: str, **how: Any) -> Http:
    return Http(url, **({"headers": {}, "patience": Patience(), "slots": 2} | how))


async def read(client: Http) -> list[Any]:
    try:
        async with client.stream("/chat", {}, "events") as stream:
            return [payload async for payload in stream]
    finally:
        await client.close()


# This machine


@pytest.mark.parametrize("name", NAMES[:3])
@pytest.mark.parametrize("scheme", ["http", "socks5", "socks", "https"])
@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
async def test_a_proxy_is_never_asked_for_this_machine(
    name: str, scheme: str, host: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with anyio.fail_after(PATIENCE_S):
        async with playing(always(*STREAMED)) as server, playing(always()) as proxy:
            monkeypatch.setenv(name, proxy.url.replace("http", scheme))
            url = server.url.replace("127.0.0.1", host)
            assert await read(http(url)) == [{"n": 1}]
            assert proxy.connections == 0


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1", "127.8.9.1", "localhost", "a.localhost", "::1", "[::1]", "0.0.0.0", "LOCALHOST"],
)
def test_these_hosts_are_this_machine(host: str) -> None:
    assert is_local(host)


@pytest.mark.parametrize(
    "host", ["10.0.0.1", "localhost.example", "example.com", "::2", "1270.0.1"]
)
def test_these_hosts_are_not(host: str) -> None:
    assert not is_local(host)


# Other machines


async def test_a_proxy_is_asked_for_another_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    with anyio.fail_after(PATIENCE_S):
        async with playing(always(*STREAMED)) as proxy:
            monkeypatch.setenv("HTTP_PROXY", proxy.url)
            assert await read(http("http://models.example/v1")) == [{"n": 1}]
            assert proxy.asked[0].path == "http://models.example/v1/chat"


async def test_a_proxy_is_asked_for_a_tunnel_to_a_secure_server(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def refuse(asked: Asked, send: Send) -> bool:
        await send(document(b"", status=502))
        return False

    with anyio.fail_after(PATIENCE_S):
        async with playing(refuse) as proxy:
            monkeypatch.setenv("ALL_PROXY", proxy.url)
            with pytest.raises(Fault, match="proxy") as fault:
                await read(http("https://models.example/v1"))
            assert fault.value.kind == "proxy"
            assert [(a.method, a.path) for a in proxy.asked] == [("CONNECT", "models.example:443")]


@asynccontextmanager
async def socks(*answers: bytes) -> AsyncIterator[tuple[int, list[bytes]]]:
    """A SOCKS proxy's port, and what it was told; it hangs up after its answers."""
    told: list[bytes] = []

    async def serve(stream: SocketStream) -> None:
        async with stream:
            for answer in answers:
                told.append(await stream.receive())
                await stream.send(answer)

    listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
    async with listener, anyio.create_task_group() as tasks:
        tasks.start_soon(listener.serve, serve)
        yield listener.extra(SocketAttribute.local_port), told
        tasks.cancel_scope.cancel()


@pytest.mark.parametrize("scheme", ["socks5", "socks", "socks5h"])
async def test_a_socks_proxy_is_asked_in_its_own_words(
    scheme: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    refused = b"\x05\x05\x00\x01" + bytes(6)
    with anyio.fail_after(PATIENCE_S):
        async with socks(b"\x05\x00", refused) as (port, told):
            monkeypatch.setenv("ALL_PROXY", f"{scheme}://127.0.0.1:{port}")
            with pytest.raises(Fault) as fault:
                await read(http("https://models.example/v1"))
        assert fault.value.kind == "proxy"
        assert told[0][0] == 5
        assert b"models.example" in told[1]


async def test_what_is_no_socks_proxy_is_a_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    with anyio.fail_after(PATIENCE_S):
        async with socks(b"HTTP/1.1 400 Bad Request\r\n\r\n") as (port, _):
            monkeypatch.setenv("ALL_PROXY", f"socks5://127.0.0.1:{port}")
            with pytest.raises(Fault, match="proxy") as fault:
                await read(http("https://models.example/v1"))
        assert fault.value.kind == "proxy"


async def test_a_request_lost_behind_a_socks_proxy_is_not_sent_again() -> None:
    connected = b"\x05\x00\x00\x01" + bytes(6)
    with anyio.fail_after(PATIENCE_S):
        async with socks(b"\x05\x00", connected, b"") as (port, told):
            with pytest.raises(Fault) as fault:
                await read(http("http://models.example", proxy=f"socks5://127.0.0.1:{port}"))
        assert fault.value.kind == "cut"
        assert len(told) == 3


async def test_the_config_names_a_proxy_over_the_environments(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with anyio.fail_after(PATIENCE_S):
        async with playing(always(*STREAMED)) as ours, playing(always()) as theirs:
            monkeypatch.setenv("HTTP_PROXY", theirs.url)
            assert await read(http("http://models.example/v1", proxy=ours.url)) == [{"n": 1}]
            assert (ours.connections, theirs.connections) == (1, 0)


def test_a_host_of_no_proxy_has_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALL_PROXY", "http://proxy.example:3128")
    monkeypatch.setenv("NO_PROXY", "models.example")
    assert proxy_for(httpx.URL("https://models.example")) is None
    assert proxy_for(httpx.URL("https://other.example")) == "http://proxy.example:3128"


def test_a_proxy_may_be_written_without_a_scheme(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "proxy.example:3128")
    assert proxy_for(httpx.URL("https://models.example")) == "http://proxy.example:3128"


# Proxies that cannot be


@contextmanager
def without_socks() -> Iterator[None]:
    """As if the extra `socks` were not installed."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "socksio", None)
        yield


async def test_a_socks_proxy_without_its_library_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("ALL_PROXY", "socks5://me:secret@127.0.0.1:1080")
    driver = OpenAI(model="tiny", base_url="http://models.example/v1")
    with (
        without_socks(),
        pytest.raises(ModelMissing, match=r"pip install 'aoskernel\[socks\]'") as no,
    ):
        await driver.start()
    assert not no.value.retryable
    assert "secret" not in str(no.value)


def test_a_proxy_of_an_unknown_kind_is_refused_without_its_password() -> None:
    with pytest.raises(Fault, match="gopher") as fault:
        http("http://models.example/v1", proxy="gopher://me:secret@127.0.0.1")
    assert "secret" not in str(fault.value)
