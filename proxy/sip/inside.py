"""Who reaches the gate at its own addresses, and who at those that it has beyond address translation.

A gate in a private network stands between a PBX beside it and a carrier beyond a NAT: each must be told, in
Via, Contact and SDP (RFC 3261 §8.1.1.7, §8.1.1.8; RFC 4566 §5.7), the address by which it reaches the gate.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, ip_address

from proxy.sip.reachability import is_within

__all__ = ["Inside"]


def _unknown(_peer: str) -> str:
    return ""


@dataclass(frozen=True, slots=True)
class Inside:
    """The networks in which nothing translates between a host and the gate."""

    networks: tuple[IPv4Network | IPv6Network, ...] = ()
    source: Callable[[str], str] = _unknown
    """The address that this machine sends from to a host; "" if that is not known."""

    def own_address(self, peer: str, bound: str) -> str:
        """Return what a peer is told of a socket that is bound to this address instead of what is advertised;
        "" for a peer that is not inside, or when nothing better is known.
        """
        if not self.networks or not bound or not is_within(peer, self.networks):
            return ""
        if not ip_address(bound).is_unspecified:
            return bound
        source = self.source(peer)
        return source if (":" in source) == (":" in bound) else ""
