"""Reading pages, and every known way to make a reader of pages read what is inside."""

import gzip
from typing import Any

import anyio
import pytest
from sites import THIS_MACHINE, answer, fetch, redirect, refused, served

from aoskernel.drivers.tools._web_address import is_public
from aoskernel.drivers.tools._web_text import readable
from aoskernel.drivers.tools.web import Web
from aoskernel.subsystems.tools.messages import ToolFailed

# Reading


async def test_a_page_is_read_as_text_with_its_title_and_links() -> None:
    html = (
        "<html><head><title>A &amp; B</title><style>p{}</style></head><body><h1>Hello</h1>"
        "<p>See <a href='/more'>more</a>\n now.<script>alert('<p>no')</script><ul><li>one<li>two</ul>"
        "<!-- hidden --><pre>a\n  b</pre></body>"
    )
    async with served({"/": answer(html, "text/html; charset=utf-8")}) as site:
        page = await fetch(f"http://127.0.0.1:{site.port}/", networks=THIS_MACHINE)
    assert page["title"] == "A & B"
    assert page["text"] == (
        f"# Hello\n\nSee [more](http://127.0.0.1:{site.port}/more) now.\n\n- one\n- two\n\na\n  b"
    )
    assert page["note"] == ""


async def test_text_in_another_encoding_is_read_and_what_is_no_text_is_refused() -> None:
    async with served(
        {
            "/latin": answer("é".encode("latin-1"), "text/plain; charset=iso-8859-1"),
            "/json": answer('{"a": 1}', "application/ld+json"),
            "/odd": answer("fine", "text/plain; charset=unicode_escape"),
            "/png": answer(b"\x89PNG", "image/png"),
            "/binary": answer(b"\0\1\2", ""),
        }
    ) as site:
        at = f"http://127.0.0.1:{site.port}"
        texts = [
            (await fetch(at + p, networks=THIS_MACHINE))["text"]
            for p in ("/latin", "/json", "/odd")
        ]
        told = [await refused(at + p, networks=THIS_MACHINE) for p in ("/png", "/binary", "/none")]
    assert texts == ["é", '{"a": 1}', "fine"]
    assert ["image/png" in told[0], "not text" in told[1], "HTTP 404" in told[2]] == [True] * 3


async def test_a_long_page_is_cut_and_says_how_to_go_on() -> None:
    async with served({"/": answer("x" * 100)}) as site:
        at = f"http://127.0.0.1:{site.port}/"
        by_chars = await fetch(at, networks=THIS_MACHINE, max_chars=40)
        by_bytes = await fetch(at, networks=THIS_MACHINE, max_bytes=30)
    assert (len(by_chars["text"]), by_chars["note"]) == (
        40,
        "It goes on; for more set start to 40.",
    )
    assert (len(by_bytes["text"]), by_bytes["note"]) == (30, "It was cut after 30 bytes.")


async def test_a_bomb_of_packed_bytes_is_not_unpacked() -> None:
    bomb = gzip.compress(b"a" * 20_000_000)
    async with served(
        {
            "/bomb": answer(bomb, Content_Encoding="gzip"),
            "/twice": answer(gzip.compress(bomb), Content_Encoding="gzip, gzip"),
            "/torn": answer(b"no gzip", Content_Encoding="gzip"),
        }
    ) as site:
        at = f"http://127.0.0.1:{site.port}"
        page = await fetch(f"{at}/bomb", networks=THIS_MACHINE, max_bytes=1000)
        twice = await refused(f"{at}/twice", networks=THIS_MACHINE)
        torn = await refused(f"{at}/torn", networks=THIS_MACHINE)
    assert page["text"] == "a" * 1000
    assert "not asked for" in twice
    assert "cannot be unpacked" in torn


async def test_a_server_that_never_ends_is_left_in_time() -> None:
    endless = answer("x").replace(b"Content-Length: 1", b"Content-Length: 1000")
    async with served({"/hang": endless}) as site:
        at = f"http://127.0.0.1:{site.port}/hang"
        assert "longer than 0.3 s" in await refused(at, networks=THIS_MACHINE, within_s=0.3)


@pytest.mark.parametrize("piece", ["<a ", "<a a=a", "<!--", "</", "<", "<script", "&", "<a href='"])
def test_broken_html_costs_no_more_than_its_length(piece: str) -> None:
    text = readable(piece * (200_000 // len(piece)), "http://a/")[1]
    assert len(text) <= 400_000


# Addresses

INSIDE = [
    *("127.0.0.1", "127.1.2.3", "0.0.0.0", "10.0.0.1", "172.16.0.1", "192.168.1.1", "169.254.1.1"),
    *("169.254.169.254", "100.64.0.1", "100.100.100.200", "168.63.129.16", "192.0.0.192"),
    *("224.0.0.1", "239.255.255.250", "240.0.0.1", "255.255.255.255", "198.18.0.1", "192.0.2.1"),
    *("::", "::1", "fe80::1", "fe80::1%eth0", "fc00::1", "fd00:ec2::254", "fec0::1", "ff02::1"),
    *("::ffff:127.0.0.1", "::ffff:169.254.169.254", "::127.0.0.1", "::ffff:0:127.0.0.1"),
    *("64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe", "64:ff9b:1::1", "2002:7f00:1::", "2002:808:808::"),
    *("2001:0:7f00:1::", "2001:db8::1", "100::1"),
]


@pytest.mark.parametrize("address", INSIDE)
def test_an_address_inside_is_not_public_however_it_is_wrapped(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize(
    "address",
    ["8.8.8.8", "93.184.216.34", "2606:4700::1111", "::ffff:8.8.8.8", "64:ff9b::808:808"],
)
def test_an_address_that_everybody_reaches_is_public(address: str) -> None:
    assert is_public(address)


@pytest.mark.parametrize(
    "host",
    [
        *("127.0.0.1", "2130706433", "0x7f000001", "0177.0.0.1", "0x7f.1", "127.1", "0", "0x0"),
        *("[::1]", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "[64:ff9b::7f00:1]", "[2002:7f00:1::]"),
        *("169.254.169.254", "2852039166", "0xa9fea9fe", "0251.0376.0251.0376", "localhost"),
        *("localhost.", "LOCALHOST", "１２７.0.0.1", "127。0。0。1", "①②⑦.0.0.1"),
    ],
)
async def test_this_machine_is_not_asked_however_it_is_written(host: str) -> None:
    async with served({"/": answer("SECRET")}) as site:
        await refused(f"http://{host}:{site.port}/")
        assert site.asked == []


@pytest.mark.parametrize(
    "url",
    [
        *(
            "file:///etc/passwd",
            "ftp://example.org/",
            "gopher://127.0.0.1:70/",
            "data:text/plain,a",
        ),
        *("//example.org/", "example.org", "http://", "http:///x", "javascript:1", ""),
        *("http://good.example@127.0.0.1/", "http://u:p@example.org/", "http://a\\@127.0.0.1/"),
        *(
            "http://127.0.0.1\t/",
            "http://exa mple.org/",
            "http://example.org/\r\nHost: x",
            "http://[::1",
        ),
        *("http://example.org:22/", "http://example.org:99999/", "http://example.org:25/"),
        "http://example.org/" + "a" * 5000,
    ],
)
async def test_what_is_no_plain_address_of_a_page_is_refused(url: str) -> None:
    await refused(url, {"example.org": ["93.184.216.34"]})


async def test_a_name_that_leads_inside_is_refused_even_if_it_leads_outside_too() -> None:
    web = Web()

    async def look_up(host: str, port: int, **more: Any) -> Any:
        return [(0, 0, 0, "", ("93.184.216.34", port)), (0, 0, 0, "", ("10.0.0.1", port))]

    web._look_up = look_up
    await web.start()
    with anyio.fail_after(20), pytest.raises(ToolFailed, match="not on the public internet"):
        await web.call("fetch_url", {"url": "http://two.example/"}, "")
    await web.stop()


# Redirects and names that change

ONE, OTHER = ("127.0.0.2/32",), ("127.0.0.2/32", "127.0.0.3/32")


async def test_a_redirect_on_one_host_is_followed_and_each_step_is_checked_anew() -> None:
    names = {"site.example": ["127.0.0.2", "127.0.0.2", "127.0.0.1"]}
    async with served({"/": redirect("/b"), "/b": redirect("/c"), "/c": answer("SECRET")}) as site:
        told = await refused(f"http://site.example:{site.port}/", names, networks=ONE)
    assert "not on the public internet" in told
    assert site.asked == [
        ("127.0.0.2", "site.example", "/"),
        ("127.0.0.2", "site.example", "/b"),
    ]


@pytest.mark.parametrize(
    "target",
    [
        *("http://127.0.0.1:PORT/secret", "http://other.example:PORT/secret", "//other.example/"),
        *("http://169.254.169.254/latest/meta-data/", "file:///etc/passwd", "http://[::1]:PORT/"),
        *(
            "http://site.example@127.0.0.1:PORT/",
            "http://site.example:81/",
            "gopher://site.example/",
        ),
    ],
)
async def test_a_redirect_to_another_place_is_told_and_not_followed(target: str) -> None:
    names = {"site.example": ["127.0.0.2"], "other.example": ["127.0.0.3"]}
    async with served({"/": redirect(target), "/secret": answer("SECRET")}) as site:
        told = await refused(f"http://site.example:{site.port}/", names, networks=OTHER)
    assert "SECRET" not in told
    assert len(site.asked) == 1


async def test_redirects_in_a_circle_end() -> None:
    async with served({"/": redirect("/")}) as site:
        told = await refused(
            f"http://127.0.0.1:{site.port}/", networks=THIS_MACHINE, max_redirects=3
        )
    assert "more than 3 times" in told
    assert len(site.asked) == 4


async def test_a_name_that_changes_after_it_was_checked_is_not_looked_up_again() -> None:
    names = {"rebind.example": ["127.0.0.2", "127.0.0.1"]}
    async with served({"/": answer("outside")}) as site:
        page = await fetch(f"http://rebind.example:{site.port}/", names, networks=ONE)
    assert page["text"] == "outside"
    assert site.asked == [("127.0.0.2", "rebind.example", "/")]
    assert names == {"rebind.example": ["127.0.0.1"]}


async def test_a_proxy_of_the_environment_is_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    async with served({"/": answer("direct")}) as site, served({}) as proxy:
        for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.port}")
        page = await fetch(f"http://127.0.0.1:{site.port}/", networks=THIS_MACHINE)
    assert page["text"] == "direct"
    assert proxy.asked == []
