"""The way to a server: with or without a proxy, with or without TLS."""

import re
from collections.abc import Callable, Mapping
from functools import partial
from ipaddress import ip_address
from urllib.request import getproxies, proxy_bypass

import httpx

from .faults import Fault

POOL = 16
"""Connections in one pool of httpx: a pool's work grows with the square of its connections,
and 300 in one stopped the loop for seconds."""


def opener(
    base_url: str, headers: Mapping[str, str], proxy: str | None
) -> Callable[[], httpx.AsyncClient]:
    """What makes a client. Raises Fault where none could be made."""
    url = httpx.URL(base_url)
    if url.scheme not in ("http", "https") or not url.host:
        raise Fault(
            "no_api", f"{base_url!r} is no URL of a server: write http://... or https://..."
        )
    via = proxy or proxy_for(url)
    # Loading the certificates takes 20 ms, which a plain connection does not need.
    secure = "https" in (url.scheme, via and via[:5])
    verify = httpx.create_ssl_context() if secure else False
    make = partial(
        httpx.AsyncClient,
        headers={"User-Agent": "aoskernel", "Accept-Encoding": "identity", **headers},
        limits=httpx.Limits(max_connections=POOL, max_keepalive_connections=POOL),
        proxy=via,
        verify=verify,
        trust_env=False,
    )
    return partial(_made, make, via) if via else make


def _made(make: Callable[[], httpx.AsyncClient], via: str) -> httpx.AsyncClient:
    """Raises Fault where there is no way through this proxy."""
    try:
        return make()
    except ImportError as error:
        raise Fault(
            "missing",
            f"the proxy {_shown(via)} needs a library for SOCKS: pip install 'aoskernel[socks]'",
        ) from error
    except ValueError as error:
        raise Fault(
            "no_api",
            f"the proxy {_shown(via)} cannot be used: {error}. It comes from `proxy` or from the "
            "environment (HTTPS_PROXY, HTTP_PROXY, ALL_PROXY)",
        ) from error


def socks_errors() -> tuple[type[Exception], ...]:
    """What httpcore lets through when a SOCKS proxy hangs up, or is none."""
    try:
        import socksio
    except ImportError:
        return ()
    return (socksio.SOCKSError,)


def _shown(proxy: str) -> str:
    """A proxy's URL without what may be a password."""
    return re.sub(r"//[^/@]*@", "//...@", proxy)


def proxy_for(url: httpx.URL) -> str | None:
    """The proxy that the environment names for this URL; never one for this machine."""
    if is_local(url.host) or proxy_bypass(url.host):
        return None
    known = getproxies()
    via = known.get(url.scheme) or known.get("all")
    if via is None:
        return None
    via = via if "://" in via else f"http://{via}"
    return via.replace("socks://", "socks5://", 1)  # as desktops write it


def is_local(host: str) -> bool:
    """Whether this host is this machine."""
    try:
        address = ip_address(host.strip("[]"))
        return address.is_loopback or address.is_unspecified
    except ValueError:
        return f".{host.lower()}".endswith(".localhost")
