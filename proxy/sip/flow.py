"""Where a message came from or goes to, and the gate's own listen points.

RFC 3261 §18, RFC 3581. Addresses are IP literals without brackets; names are resolved before they come here.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from ipaddress import IPv6Address, ip_address
from typing import NamedTuple

from proxy.sip.uri import format_host

__all__ = ["DEFAULT_PORTS", "Flow", "ListenPoint", "Transmit", "is_address", "is_sendable"]

DEFAULT_PORTS = {"UDP": 5060, "TCP": 5060, "TLS": 5061, "WS": 80, "WSS": 443}
"""Port of a sent-by or a URI that names none (RFC 3261 §18.2.2, §19.1.2; RFC 7118 §4)."""


class Flow(NamedTuple):
    """One way between the gate and a peer.

    A named tuple, since flows are made and hashed for every message that goes over the network.
    """

    transport: str
    """``"UDP"``, ``"TCP"``, ``"TLS"``, ``"WS"`` or ``"WSS"``, as in a Via."""
    remote_host: str
    """IP address of the peer, without brackets."""
    remote_port: int
    listener: int = 0
    """Index of the local `ListenPoint` in the endpoint's configuration."""
    connection: int = 0
    """Names one connection of a reliable transport; 0 for datagrams, or "open one, or use one that is
    open"."""
    certified: tuple[str, ...] = ()
    """TLS: the domains that the peer proved by its certificate, in lower case (RFC 5922 §7.1)."""

    @property
    def reliable(self) -> bool:
        """Whether the transport retransmits by itself (RFC 3261 §17): anything but UDP."""
        return self.transport != "UDP"

    @property
    def source(self) -> str:
        """Address and port of the peer as one text, for records and logs; as in a URI (RFC 3986 §3.2.2)."""
        return f"{format_host(self.remote_host)}:{self.remote_port}"


class Transmit(NamedTuple):
    """One serialised message on its way out; the driver sends ``data`` over ``flow``."""

    data: bytes
    flow: Flow


@dataclass(frozen=True, slots=True)
class ListenPoint:
    """What the gate says about one of its sockets in Via and Contact.

    ``host`` is the advertised address or name (an IPv6 address without brackets), ``port`` the advertised
    port.
    """

    transport: str
    host: str
    port: int
    alias: bool = False
    """Reliable transports: offer peers to send their requests over connections of the gate's making
    (RFC 5923)."""
    bound: tuple[str, ...] = ()
    """IP addresses of the socket itself, which peers need not know: requests to them come here, too."""
    own: str = ""
    """The address that the socket is bound to, which may be a wildcard; "": nobody is told it."""

    def is_at(self, host: str) -> bool:
        """Say whether an address is this one's, be it the advertised one or the socket's own."""
        host = host.lower()
        return host == self.host.lower() or host in self.bound

    def told_as(self, host: str) -> ListenPoint:
        """Return it as those see it who know it by another address."""
        return _told_as(self, host)

    @property
    def sent_by(self) -> str:
        """``host:port`` as it stands in a Via (RFC 3261 §20.42)."""
        return f"{format_host(self.host)}:{self.port}"

    @property
    def uri_parameters(self) -> str:
        """What a Contact URI needs after the port so that requests come back over this transport
        (§19.1.1)."""
        return "" if self.transport == "UDP" else f";transport={self.transport.lower()}"


@lru_cache(maxsize=1024)
def _told_as(point: ListenPoint, host: str) -> ListenPoint:
    return replace(point, host=host, bound=(*point.bound, point.host.lower()))


@lru_cache(maxsize=4096)
def is_address(host: str) -> bool:
    """Whether a host is an IP address, and no name."""
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


@lru_cache(maxsize=4096)
def is_sendable(host: str) -> bool:
    """Whether a packet may go to this host: never to multicast, broadcast or the unspecified address.

    A peer chooses the addresses in Via and Contact; they must not turn the gate into an amplifier. Names,
    which the driver resolves, are let through.
    """
    try:
        address = ip_address(host)
    except ValueError:
        return bool(host)
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    return not (address.is_multicast or address.is_unspecified or str(address) == "255.255.255.255")
