"""Where a Contact leads: contacts that are refused, and the way requests to a registered one take.

RFC 3261 §10.2.1, §19.1.5; RFC 3581 and RFC 5626 §1 (why the observed address counts).
A Contact is the phone's word. It may be wrong (the phone does not know of the NAT before it) or hostile (the
gate is to send its INVITEs to a third party, to everybody, to itself, or to a trunk that believes them).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Final, NamedTuple

from proxy.sip.flow import DEFAULT_PORTS, Flow, ListenPoint, is_sendable
from proxy.sip.uri import Uri
from proxy.sip.via import Via

__all__ = [
    "NextHop",
    "Surroundings",
    "address_problem",
    "contact_problem",
    "hop_to",
    "is_within",
    "networks_of",
]

_LOCAL: Final = tuple(
    ip_network(text)
    for text in (
        "10.0.0.0/8",
        "172.16.0.0/12",
        "192.168.0.0/16",
        "100.64.0.0/10",
        "169.254.0.0/16",
        "127.0.0.0/8",
        "fc00::/7",
        "fe80::/10",
        "::1/128",
    )
)
"""Addresses with a meaning only within their own network (RFC 1918, RFC 3927, RFC 4193, RFC 6598)."""


class NextHop(NamedTuple):
    """The way to a binding."""

    flow: Flow
    behind_nat: bool
    """The phone is reached only because it keeps a NAT open: at the address its REGISTER came from."""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What the gate knows of itself: its listen points, and the names that mean it."""

    listen_points: tuple[ListenPoint, ...]
    domains: frozenset[str] = frozenset()
    """Host names and addresses in lower case; empty: every domain of a To is taken as the gate's."""
    peers: tuple[IPv4Network | IPv6Network, ...] = ()
    """Addresses of trunks and PBXs, which take what the gate sends for a call that it has allowed."""
    _own: frozenset[tuple[str, int]] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        own = frozenset(
            (_spelled(host), point.port)
            for point in self.listen_points
            for host in (point.host, *point.bound)
        )
        object.__setattr__(self, "_own", own)

    def means_gate(self, host: str, port: int) -> bool:
        """Say whether requests to this host and port come back to the gate."""
        if (_spelled(host), port) in self._own:
            return True
        # A phone may run on an address of the gate, beside it; a name of the gate is the gate's alone.
        return host.rstrip(".") in self.domains and _parse(host) is None

    def may_be_sent_to(self, host: str, port: int) -> bool:
        """Say whether a request may go to the address that a name turned out to have.

        Whoever has a name of its own decides what that is: an address of the gate, or of another service on
        its machine, is none that a phone can have.
        """
        if (_spelled(host), port) in self._own or not is_sendable(_spelled(host)):
            return False
        return not _is_loopback(host) or any(_is_loopback(point.host) for point in self.listen_points)

    def is_peer(self, host: str) -> bool:
        """Say whether an address is that of a trunk or PBX."""
        return is_within(host, self.peers)

    def is_led_to_peer(self, host: str, source: str) -> bool:
        """Say whether a phone at ``source`` names a trunk or PBX as the way to itself: calls to it would go
        out there, to whatever number its Contact says, past the policy. What shares a host with a peer, or
        registers through it, does come from there.
        """
        return _spelled(host) != _spelled(source) and self.is_peer(host)

    def listener(self, transport: str, host: str, preferred: int) -> int | None:
        """Return the listen point to reach ``host`` from: the preferred one if it fits, or None."""
        points = self.listen_points
        ipv6 = ":" in host
        if preferred < len(points):
            point = points[preferred]
            if point.transport == transport and (":" in point.host) == ipv6:
                return preferred
        for index, point in enumerate(points):
            if point.transport == transport and (":" in point.host) == ipv6:
                return index
        return None


def is_within(host: str, networks: Iterable[IPv4Network | IPv6Network]) -> bool:
    """Say whether an address, in whatever spelling, is of one of these networks; a name is of none."""
    address = _parse(host.partition("%")[0])
    return address is not None and any(
        network.version == address.version and address in network for network in networks
    )


def networks_of(flows: Iterable[Flow]) -> tuple[IPv4Network | IPv6Network, ...]:
    """Return the addresses that flows lead to, each as a network of its own."""
    return tuple(ip_network(flow.remote_host.partition("%")[0]) for flow in flows)


def contact_problem(uri: Uri, source: Flow, gate: Surroundings) -> str:
    """Say what forbids a Contact of a REGISTER that came over ``source``, or ""."""
    if not uri.is_sip:
        return f"Contact of scheme {uri.scheme}"
    if uri.headers:
        # §19.1.1 allows them in a Contact, but they would let a phone write headers into calls to it.
        return "Contact with headers"
    if "maddr" in uri.params:
        return "Contact with maddr"
    return address_problem(uri, source, gate)


def address_problem(uri: Uri, source: Flow, gate: Surroundings) -> str:
    """Say what is wrong with the host of a URI that requests are to be sent to, or ""."""
    host = uri.host.lower()
    transport = _transport(uri, "UDP")
    if gate.means_gate(host, _port(uri, transport)):
        return "address of the gate itself"
    address = _parse(host)
    if address is None:
        return _name_problem(host)
    if address.is_multicast:
        return "multicast address"
    if address.is_unspecified or str(address) == "255.255.255.255":
        return "unspecified or broadcast address"
    if address.is_loopback and not _is_loopback(source.remote_host):
        return "loopback address from another host"
    return ""


def hop_to(uri: Uri, source: Flow, via: Via, *, direct: bool, gate: Surroundings) -> NextHop | None:
    """Work out the way to a Contact, or to the first Path entry before it; None when the gate has no way.

    ``direct``: no proxy stood between the phone and the gate. Then a reliable transport is used again (a
    phone's connection is its only sure way, RFC 5626 §5.3), and over UDP the observed address is the way
    whenever the phone sits behind a NAT: its Via or its Contact names another address than the packet had.
    """
    transport = _transport(uri, source.transport if direct else "UDP")
    host = uri.host.lower()
    port = _port(uri, transport)
    if direct:
        if source.reliable:
            return NextHop(source, host != source.remote_host)
        if transport == "UDP" and _behind_nat(host, port, source, via):
            return NextHop(source, True)
    elif _parse(host) is None and gate.is_peer(source.remote_host):
        # A PBX that phones register through names itself: no other name may lead to one.
        return NextHop(source, False)
    listener = gate.listener(transport, host, source.listener)
    return None if listener is None else NextHop(Flow(transport, host, port, listener, 0), False)


def _behind_nat(host: str, port: int, source: Flow, via: Via) -> bool:
    observed = (source.remote_host, source.remote_port)
    if (via.host.lower(), via.port or DEFAULT_PORTS["UDP"]) != observed:
        # Even where the Contact names what was observed: the phone knows of the NAT then (RFC 3581 §4).
        return True
    if (host, port) == observed:
        return False
    address = _parse(host)
    if address is None:
        # A name in a phone's own Contact is its host name more often than one that can be looked up.
        return True
    return host != source.remote_host and _is_local(address) and not _is_local(_parse(source.remote_host))


def _transport(uri: Uri, otherwise: str) -> str:
    transport = (uri.params.get("transport") or "").upper()
    if uri.scheme == "sips":
        return "WSS" if transport in {"WS", "WSS"} else "TLS"
    return transport if transport in DEFAULT_PORTS else otherwise


def _port(uri: Uri, transport: str) -> int:
    return DEFAULT_PORTS[transport] if uri.port is None else uri.port


def _name_problem(host: str) -> str:
    name = host.rstrip(".")
    if name == "localhost" or name.endswith(".localhost"):
        return "name of the local host"
    last = name.rpartition(".")[2]
    if last.isdigit() or last[:2] == "0x":
        # 127.1, 2130706433, 0x7f.1: resolvers read such names as addresses.
        return "malformed IP address"
    return ""


def _spelled(host: str) -> str:
    """Return the one spelling of an address; that of a name in lower case."""
    address = _parse(host)
    return host.lower() if address is None else str(address)


@lru_cache(maxsize=4096)
def _parse(host: str) -> IPv4Address | IPv6Address | None:
    try:
        address = ip_address(host)
    except ValueError:
        return None
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address


def _is_loopback(host: str) -> bool:
    address = _parse(host)
    return address is not None and address.is_loopback


def _is_local(address: IPv4Address | IPv6Address | None) -> bool:
    return address is not None and any(address in network for network in _LOCAL)
