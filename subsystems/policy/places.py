"""Where paths lead, and whom URLs ask.

A path is where the system would find it: `..` and links are followed before it is compared, and
whole names are, so that `/desk-old` is not below `/desk`. What opens it may still find something
else there a moment later; keeping that inside is the tool's own jail.
"""

import ipaddress
import os
import re
import socket
from collections.abc import Iterable
from contextlib import suppress
from functools import lru_cache
from typing import NamedTuple
from urllib.parse import urlsplit

PORTS = {"http": 80, "https": 443, "ws": 80, "wss": 443, "ftp": 21}
HOME_ZONES = (".localhost", ".local", ".internal", ".lan", ".home.arpa", ".intranet", ".corp")
NO_URL = re.compile(r"[\x00-\x20\x7f\\]")
"""Libraries differ in whom such a URL asks."""


class Places:
    """Real paths, each looked up once for one decision. Relative ones begin in `workspace`."""

    def __init__(self, workspace: str) -> None:
        self._workspace = workspace
        self._real: dict[str, str | None] = {}

    def real(self, path: str) -> str | None:
        """Where it leads; None where nobody can say: to some tools `~` is a home."""
        if path.startswith("~"):
            return None
        if path not in self._real:
            self._real[path] = _real(path)
        return self._real[path]

    def directory(self, written: str) -> str | None:
        """Where a rule's directory is."""
        return self.real(os.path.join(self._workspace, os.path.expanduser(written)))

    def is_below(self, path: str, directories: Iterable[str]) -> bool | None:
        """None where nobody can say where the path leads."""
        real = self.real(path)
        if real is None:
            return None
        roots = map(self.directory, directories)
        return any(root is not None and _within(real, root) for root in roots)


def _real(path: str) -> str | None:
    try:
        return os.path.realpath(path)
    except (OSError, ValueError):  # a NUL, a name that is too long
        return None


def _within(path: str, root: str) -> bool:
    return path == root or path.startswith(root.rstrip("/") + "/")


class Host(NamedTuple):
    """Whom a URL asks, and at which port."""

    name: str
    port: int | None

    @property
    def is_private(self) -> bool:
        """An address that no public host has, in whatever spelling, or a name of one's own net."""
        address = _address(self.name)
        if address is not None:
            return not address.is_global or address.is_multicast
        return "." not in self.name or self.name.endswith(HOME_ZONES)

    def fits(self, pattern: str) -> bool:
        """Is it the host that a rule names, at its port if it names one?"""
        name, colon, port = pattern.rpartition(":")
        if not (colon and port.isdecimal()):
            name, port = pattern, ""
        name = name.lower().rstrip(".")
        if port and self.port != int(port):
            return False
        if name == "*":
            return True
        return self.name.endswith(name[1:]) if name.startswith("*.") else self.name == name


@lru_cache(1024)
def host_of(url: str) -> Host | None:
    """None where it names nobody, or libraries would differ in whom."""
    if NO_URL.search(url):
        return None
    try:
        parts = urlsplit(url)
        name, port = (parts.hostname or "").rstrip("."), parts.port
        name = name if name.isascii() else name.encode("idna").decode()
    except ValueError:  # also of the encoding
        return None
    return Host(name, port or PORTS.get(parts.scheme)) if name and "%" not in name else None


def _address(name: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """The address that a name spells: also 0x7f.1, 2130706433, or one that IPv6 wraps."""
    with suppress(OSError):
        return ipaddress.IPv4Address(socket.inet_aton(name))
    try:
        address = ipaddress.IPv6Address(name)
    except ValueError:
        return None
    wrapped = address.ipv4_mapped or address.sixtofour
    if wrapped is None and address in NAT64:
        wrapped = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return wrapped or address


NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
