"""Addresses of IP as values: two spellings of one address are equal."""

from __future__ import annotations

import ipaddress
from functools import lru_cache

SUBSCRIBER_PREFIX = 64
"""The bits of an IPv6 address that a provider gives to one customer (RFC 6177); they choose the others themselves."""

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


@lru_cache(maxsize=1000)
def parse_address(text: str) -> Address | None:
    """Return the address that a text is, or None. An IPv4 address within IPv6 (``::ffff:192.0.2.1``) is IPv4."""
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


def network_of(text: str) -> str:
    """Return what counts as one address: an IPv4 address, the /64 of an IPv6 address, any other text as it is."""
    address = parse_address(text)
    if isinstance(address, ipaddress.IPv6Address):
        return str(ipaddress.IPv6Network((int(address), SUBSCRIBER_PREFIX), strict=False))
    return text if address is None else str(address)
