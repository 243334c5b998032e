"""Whether an address is one of the public internet, however it is written."""

from collections.abc import Iterable
from ipaddress import (
    IPv4Address,
    IPv4Network,
    IPv6Address,
    IPv6Network,
    ip_address,
    ip_network,
)

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

GLOBAL = IPv6Network("2000::/3")
NAT64 = IPv6Network("64:ff9b::/96")
TUNNELS = tuple(map(IPv6Network, ("2001::/32", "2002::/16")))
"""Teredo and 6to4: an address of the other kind is inside, and relays may deliver to it."""
NEVER = tuple(
    map(
        IPv4Network,
        (
            "192.0.0.0/24",  # a provider's own, a cloud's metadata among them
            "192.88.99.0/24",  # relays of 6to4
            "168.63.129.16/32",  # the inside of a cloud, at an address that looks public
        ),
    )
)


def is_public(text: str, also: Iterable[Network] = ()) -> bool:
    """May one connect to it: does everybody see the same there, or is it in one of `also`?"""
    address = _plain(ip_address(text.partition("%")[0]))
    if any(address in network for network in also):
        return True
    if isinstance(address, IPv6Address):
        return (
            address in GLOBAL and address.is_global and not any(address in net for net in TUNNELS)
        )
    return (
        address.is_global
        and not (address.is_multicast or address.is_reserved)
        and not any(address in network for network in NEVER)
    )


def _plain(address: Address) -> Address:
    """The address of IPv4 inside one of IPv6 that only wraps it."""
    if isinstance(address, IPv4Address):
        return address
    if address in NAT64:
        return IPv4Address(int(address) & 0xFFFFFFFF)
    return address.ipv4_mapped or address


def networks(texts: Iterable[str]) -> tuple[Network, ...]:
    """Raises ValueError."""
    return tuple(ip_network(text, strict=False) for text in texts)
