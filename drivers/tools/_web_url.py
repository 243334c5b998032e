"""Which URLs may be asked for at all, before any name is looked up."""

import httpx

from ...subsystems.tools.driver import Resource, ToolFailed

LENGTH = 4096
PORTS = {"http": 80, "https": 443}
FREE_PORTS = range(1024, 2**16)
"""Below are those of mail, shells and directories, which a request could be meant for."""


def checked(text: str) -> httpx.URL:
    """Raises ToolFailed for what is no plain address of a page.

    Whoever rules over hosts must see the one that is asked: what two parsers may read in two
    ways is refused.
    """
    if len(text) > LENGTH:
        raise ToolFailed(f"a URL has at most {LENGTH} characters, this one {len(text)}")
    if not text.isprintable() or " " in text or "\\" in text:
        raise ToolFailed(f"{text!r} has signs in it that no URL has; write them as %XX")
    try:
        url = httpx.URL(text)
    except (httpx.InvalidURL, ValueError) as error:
        raise ToolFailed(f"{text!r} is no URL: {error}") from error
    if url.scheme not in PORTS or not url.host:
        raise ToolFailed(f"{text!r} is no address of a page: write http://... or https://...")
    if url.userinfo:
        raise ToolFailed("a URL with a name or password in it is not asked for; leave them out")
    if Resource("url", text, "read").host not in (url.host.rstrip("."), host_of(url).rstrip(".")):
        raise ToolFailed(f"{text!r} can be read in two ways; write its host plainly")
    if port_of(url) not in FREE_PORTS and port_of(url) not in PORTS.values():
        raise ToolFailed(f"port {port_of(url)} is not one of a web server")
    return url


def host_of(url: httpx.URL) -> str:
    """The host as it is looked up."""
    return url.raw_host.decode()


def port_of(url: httpx.URL) -> int:
    return PORTS[url.scheme] if url.port is None else url.port


def redirected(asked: httpx.URL, location: str) -> httpx.URL:
    """Where to look next. Raises ToolFailed where that is somebody else's to allow."""
    try:
        target = asked.join(location)
    except (httpx.InvalidURL, ValueError) as error:
        raise ToolFailed(f"{str(asked)!r} redirects to no URL: {location[:200]!r}") from error
    url = checked(str(target.copy_with(fragment=None)))
    if (url.host, url.scheme, port_of(url)) == (asked.host, asked.scheme, port_of(asked)):
        return url
    if url.host == asked.host and (asked.scheme, url.scheme) == ("http", "https"):
        return url
    raise ToolFailed(f"{str(asked)!r} redirects to {str(url)!r}; fetch that if you want it")
