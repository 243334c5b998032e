"""Pages over TLS: the connection goes to the address that was checked, the certificate is the host's."""

import ssl
from collections.abc import Callable
from pathlib import Path

import pytest
from certificates import self_signed
from sites import answer, fetch, reader, redirect, refused, served

from aoskernel.subsystems.tools.messages import ToolFailed

SITE, OTHER = "site.example", "other.example"
ONE, TWO = ("127.0.0.2/32",), ("127.0.0.2/32", "127.0.0.3/32")
Tls = Callable[..., ssl.SSLContext]


@pytest.fixture
def asked_for() -> list[str | None]:
    """The name that each handshake was for."""
    return []


@pytest.fixture
def certified(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, asked_for: list[str | None]) -> Tls:
    """A server that is certified for these hosts, by an authority that is trusted here."""

    def certified(*hosts: str) -> ssl.SSLContext:
        certificate, key = self_signed(tmp_path, "site", *hosts)
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key)
        context.sni_callback = lambda _, name, __: asked_for.append(name)
        return context

    return certified


@pytest.mark.parametrize("host", [SITE, f"{SITE}."])
async def test_the_certificate_is_the_host_s_and_the_connection_goes_to_its_address(
    certified: Tls, asked_for: list[str | None], host: str
) -> None:
    async with served({"/": answer("safe")}, certified(SITE)) as site:
        page = await fetch(f"https://{host}:{site.port}/", {host: ["127.0.0.2"]}, networks=ONE)
    assert page["text"] == "safe"
    assert site.asked == [("127.0.0.2", host, "/")]
    assert asked_for == [SITE]


async def test_a_certificate_of_another_host_is_refused(certified: Tls) -> None:
    names = {SITE: ["127.0.0.2"]}
    async with served({"/": answer("SECRET")}, certified(OTHER)) as site:
        by_name = await refused(f"https://{SITE}:{site.port}/", names, networks=ONE)
        by_address = await refused(f"https://127.0.0.2:{site.port}/", networks=ONE)
    assert "certificate is not valid for 'site.example'" in by_name
    assert "certificate is not valid for '127.0.0.2'" in by_address
    assert site.asked == []


async def test_a_certificate_of_an_authority_that_nobody_knows_is_refused(
    certified: Tls, monkeypatch: pytest.MonkeyPatch
) -> None:
    tls = certified(SITE)
    monkeypatch.delenv("SSL_CERT_FILE")
    async with served({"/": answer("SECRET")}, tls) as site:
        told = await refused(f"https://{SITE}:{site.port}/", {SITE: ["127.0.0.2"]}, networks=ONE)
    assert "certificate verify failed" in told
    assert site.asked == []


async def test_each_step_of_a_redirect_goes_to_an_address_of_its_own(
    certified: Tls, asked_for: list[str | None]
) -> None:
    names = {SITE: ["127.0.0.2", "127.0.0.3"]}
    async with served({"/": redirect("/b"), "/b": answer("moved")}, certified(SITE)) as site:
        page = await fetch(f"https://{SITE}:{site.port}/", names, networks=TWO)
    assert page["text"] == "moved"
    assert site.asked == [("127.0.0.2", SITE, "/"), ("127.0.0.3", SITE, "/b")]
    assert asked_for == [SITE, SITE]


async def test_a_redirect_to_another_host_is_told_and_that_host_has_its_own_address(
    certified: Tls, asked_for: list[str | None]
) -> None:
    names = {SITE: ["127.0.0.2"], OTHER: ["127.0.0.3"]}
    pages = {"/": redirect(f"https://{OTHER}:PORT/b"), "/b": answer("there")}
    async with (
        served(pages, certified(SITE, OTHER)) as site,
        reader(names, networks=TWO) as read,
    ):
        with pytest.raises(ToolFailed, match=f"redirects to 'https://{OTHER}:{site.port}/b'"):
            await read(f"https://{SITE}:{site.port}/")
        assert (await read(f"https://{OTHER}:{site.port}/b"))["text"] == "there"
    assert site.asked == [("127.0.0.2", SITE, "/"), ("127.0.0.3", OTHER, "/b")]
    assert asked_for == [SITE, OTHER]


async def test_a_host_at_the_address_of_another_shows_a_certificate_of_its_own(
    certified: Tls,
) -> None:
    names = {SITE: ["127.0.0.2"], OTHER: ["127.0.0.2"]}
    async with served({"/": answer("safe")}, certified(SITE)) as site:
        async with reader(names, networks=ONE) as read:
            assert (await read(f"https://{SITE}:{site.port}/"))["text"] == "safe"
            with pytest.raises(ToolFailed, match=r"not valid for 'other\.example'"):
                await read(f"https://{OTHER}:{site.port}/")
    assert len(site.asked) == 1


async def test_a_name_that_leads_inside_the_second_time_is_refused(certified: Tls) -> None:
    names = {SITE: ["127.0.0.2", "127.0.0.1"]}
    async with served({"/": redirect("/b"), "/b": answer("SECRET")}, certified(SITE)) as site:
        told = await refused(f"https://{SITE}:{site.port}/", names, networks=ONE)
    assert "not on the public internet" in told
    assert site.asked == [("127.0.0.2", SITE, "/")]


async def test_a_name_is_looked_up_once_for_each_request(certified: Tls) -> None:
    names = {SITE: ["127.0.0.2", "127.0.0.1"]}
    async with served({"/": answer("outside")}, certified(SITE)) as site:
        page = await fetch(f"https://{SITE}:{site.port}/", names, networks=ONE)
    assert page["text"] == "outside"
    assert site.asked == [("127.0.0.2", SITE, "/")]
    assert names == {SITE: ["127.0.0.1"]}
