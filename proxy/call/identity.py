"""Who calls: the source address names the peer, a trusted peer names the user, a phone proves its own.

DESIGN, Identity of the caller; RFC 3325 §9.1 (P-Asserted-Identity), RFC 3261 §22 (digest). Only what was
authenticated counts: what a phone writes in From or P-Asserted-Identity never chooses a policy.
"""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Protocol

from proxy.call.config import GateConfig, Peer
from proxy.call.routing import Caller, did_of
from proxy.errors import RemoteProtocolError
from proxy.policy import Snapshot, User
from proxy.sip.address import NameAddr
from proxy.sip.bindings import Bindings
from proxy.sip.flow import Flow
from proxy.sip.message import Request
from proxy.sip.uri import Uri

__all__ = [
    "Authenticator",
    "Challenge",
    "PeerTable",
    "asserted_caller",
    "peer_networks",
    "registered_user",
    "unproved_caller",
]

_Networks = tuple[IPv4Network | IPv6Network, ...]
_REMEMBERED = 16384
"""Source addresses whose peer is remembered; strangers can't fill the memory with theirs."""


class PeerTable:
    """Finds the peer of a source address."""

    __slots__ = ("_by_address", "_by_host", "_certified", "_local", "_networks")

    def __init__(self, config: GateConfig) -> None:
        self._local: _Networks = config.local_networks
        # Of peers on one address (a PBX and a carrier simulated on one host) the port tells which one it is.
        self._by_address = {
            (flow.remote_host, flow.remote_port): peer
            for peer in config.peers
            if not peer.certificate_names
            for flow in peer.flows
        }
        self._certified = {name: peer for peer in config.peers for name in peer.certificate_names}
        networks = [
            (network, peer)
            for peer in config.peers
            if not peer.certificate_names
            for network in peer.networks
        ]
        networks.sort(key=lambda item: -item[0].prefixlen)
        self._networks = networks
        self._by_host: dict[str, Peer | None] = {}

    def find(self, flow: Flow) -> Peer | None:
        """Return the peer that a message comes from, or None: a stranger, until it proves who it is."""
        host = flow.remote_host
        if flow.certified and self._certified:
            for name in flow.certified:
                proved = self._certified.get(name)
                if proved is not None and _comes_from(proved, host):
                    return proved
        peer = self._by_address.get((host, flow.remote_port))
        if peer is not None:
            return peer
        try:
            return self._by_host[host]
        except KeyError:
            pass
        address = _parse(host)
        peer = next((peer for network, peer in self._networks if _holds(network, address)), None)
        if len(self._by_host) >= _REMEMBERED:
            self._by_host.clear()
        self._by_host[host] = peer
        return peer

    def is_local(self, flow: Flow) -> bool:
        """Tell whether an emergency call from here is placed without a challenge."""
        address = _parse(flow.remote_host)
        return any(_holds(network, address) for network in self._local)


def peer_networks(config: GateConfig) -> _Networks:
    """Return the addresses of all trunks and PBXs: where they may call from, and where they are called."""
    networks = [network for peer in config.peers for network in peer.networks]
    flows = [flow for peer in config.peers for flow in peer.flows]
    flows += [flow for trunk in config.trunks for flow in trunk.flows]
    addresses = [_parse(flow.remote_host) for flow in flows]
    return tuple(
        dict.fromkeys((*networks, *(ip_network(address) for address in addresses if address is not None)))
    )


def _comes_from(peer: Peer, host: str) -> bool:
    """Say whether an address is one of a peer's own; any is, where none are named."""
    address = _parse(host)
    return not peer.networks or any(_holds(network, address) for network in peer.networks)


def _parse(host: str) -> IPv4Address | IPv6Address | None:
    try:
        address = ip_address(host.partition("%")[0])
    except ValueError:
        return None
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address


def _holds(network: IPv4Network | IPv6Network, address: IPv4Address | IPv6Address | None) -> bool:
    return address is not None and network.version == address.version and address in network


def asserted_caller(peer: Peer, invite: Request) -> Caller:
    """Return the caller as a peer that is known by its address names it.

    P-Asserted-Identity of a trusted peer, else From (RFC 3325 §9.1); a malformed identity names nobody.
    """
    address = invite.from_
    if peer.trusted:
        asserted = invite.headers.get("P-Asserted-Identity")
        if asserted is not None:
            try:
                address = NameAddr.parse(invite.headers.values("P-Asserted-Identity")[0])
            except (RemoteProtocolError, IndexError):
                return Caller(peer, "", "")
    number = did_of(address.uri_text)
    try:
        # The number is going to stand in URIs of the gate's own.
        Uri.parse(f"sip:{number or 'nobody'}@invalid")
    except RemoteProtocolError:
        return Caller(peer, "", "")
    return Caller(peer, number, address.display_name, asserted=address.uri_text)


def unproved_caller(peer: Peer, invite: Request, user: User | None, callback: str) -> Caller:
    """Return the caller of a call for help that nobody has proved.

    Whose phone it is by its registration calls under the number of that user. Of anybody else the number is a
    claim, which the gate asserts to nobody (RFC 3325 §5); help calls back ``callback`` then, if there is one.
    """
    if user is not None:
        return Caller(peer, user.outside_number, user.name, registered=user.digest_name)
    said = asserted_caller(peer, invite)
    return Caller(peer, callback, said.name, claimed=said.number)


def registered_user(bindings: Bindings, flow: Flow, invite: Request, policy: Snapshot) -> User | None:
    """Return whose phone sent an INVITE, by the ``bindings`` that were registered from its address.

    Of several users behind one address it is the one who registered over the same flow. Where that tells none
    of them or, through a proxy, several, From may name one of them, and nobody else.
    """
    way = flow[:3]
    users = {one.user for one in bindings if one.source[:3] == way} or {one.user for one in bindings}
    if len(users) > 1:
        name = did_of(invite.from_.uri_text)
        named = policy.user_by_caller(name) or policy.user_by_digest_name(name)
        users &= {"" if named is None else named.extension}
    return policy.users.get(users.pop()) if users else None


class Authenticator(Protocol):
    """Proves users by digest (`proxy.call.authentication`)."""

    def authenticate(self, invite: Request, flow: Flow, policy: Snapshot, now: float) -> User | Challenge:
        """Return the user that the request's credentials prove, or the challenge that it gets."""
        ...


@dataclass(frozen=True, slots=True)
class Challenge:
    """What goes out instead of an answer: the same for an unknown user, a wrong password and none at all
    (but ``stale``)."""

    headers: tuple[tuple[str, str], ...]
    known: User | None = None
    """Who is proved and disabled, and calls for help: enough for that, and for nothing else (DESIGN 1.4)."""

    @property
    def status(self) -> int:
        """401 with a challenge; 403 to who gets none."""
        return 401 if self.headers else 403
