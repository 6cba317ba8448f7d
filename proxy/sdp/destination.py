"""Where a description leads the gate's media: addresses that nothing may be sent to (RFC 8866 §5.7).

What a peer names may be wrong or hostile: the gate's SIP, or a service of the gate's machine or link that
strangers cannot reach. SIP refuses the like in a Contact (`proxy.sip.reachability`). The gate's media is no
such thing: a call that a proxy sends back to the gate bears the gate's own description. Legs that lead to
each other with no peer between them are ended by the engine, which knows them by their pace.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import TypeVar

from proxy.errors import RemoteProtocolError
from proxy.sdp.audio import AudioDescription, is_ip_address
from proxy.sdp.fax import FaxDescription

__all__ = ["OwnSockets"]

Stream = TypeVar("Stream", bound=AudioDescription | FaxDescription)


@dataclass(frozen=True, slots=True)
class OwnSockets:
    """Where the gate's SIP is, and what a peer's media may be sent to."""

    sockets: tuple[tuple[IPv4Network | IPv6Network, int], ...] = ()
    """Addresses and a UDP port at each of them."""

    def problem(self, address: str, port: int, source: str) -> str:
        """Say what is wrong with an address and port that a peer at ``source`` names, or "".

        The ports of reports are not asked for: nobody answers those, and one in five seconds is no load.
        """
        named, signalled = _parse(address), _parse(source)
        if named is None:
            return ""  # the signalling goes by a name, too: nothing is sent before the peer sends something
        if any(port == own and named in network for network, own in self.sockets):
            return "an address of the gate's SIP"
        if named.is_loopback and not (signalled is not None and signalled.is_loopback):
            return "a loopback address from another host"
        if named.is_link_local and not (signalled is not None and signalled.is_link_local):
            return "a link-local address from elsewhere"
        return ""

    def judge(self, stream: Stream, source: str, *, emergency: bool) -> Stream:
        """Return what a peer at ``source`` describes, if its media may be sent there.

        In an emergency that is never a reason to refuse: media goes where the signalling comes from, as with
        a host name, and nowhere if that will not do either.

        Raises `RemoteProtocolError` 488.
        """
        port = stream.rtp_port if isinstance(stream, AudioDescription) else stream.port
        # A host name is not looked up: the peer is where its signalling is.
        address = stream.address if is_ip_address(stream.address) else source
        problem = self.problem(address, port, source)
        if not problem:
            return stream
        if not emergency:
            raise RemoteProtocolError(f"SDP c= line with {problem}", status_hint=488)
        instead = "0.0.0.0" if self.problem(source, port, source) else source  # noqa: S104  (nothing is bound)
        return replace(stream, address=instead)


@lru_cache(maxsize=4096)
def _parse(address: str) -> IPv4Address | IPv6Address | None:
    try:
        parsed = ip_address(address.partition("%")[0])
    except ValueError:
        return None
    mapped = parsed.ipv4_mapped if isinstance(parsed, IPv6Address) else None
    return parsed if mapped is None else mapped
