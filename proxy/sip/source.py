"""Whose a packet is, as far as its address says: under which names what a source may do is counted."""

from __future__ import annotations

from functools import lru_cache
from ipaddress import IPv6Address

__all__ = ["WIDER", "counted_as"]

WIDER = 10
"""Who has a whole network of IPv6 addresses has so many times what one address has, and not 2**64 times."""


@lru_cache(maxsize=4096)
def counted_as(host: str) -> tuple[str, ...]:
    """Return the address itself, and in IPv6 the network of /64 that its owner has, which counts up to a
    bound that is `WIDER` times as high."""
    address = IPv6Address(host.partition("%")[0]) if ":" in host else None
    if address is None or address.ipv4_mapped is not None:
        return (host,)
    return host, f"{int(address) >> 64:x}/64"
