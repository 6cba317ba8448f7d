"""Requests that are too large for a datagram: over TCP first, over UDP if that fails (RFC 3261 §18.1.1).

A request of more than 1300 octets would travel in fragments, which many firewalls drop. It goes over TCP to
the same address and port, its top Via says so, and what belongs to its dialog stays with UDP. An attempt is
on trial: when the peer refuses the connection, or nothing at all has come back after 4*T1 (a call for help
waits T1), the request goes over UDP like any other, with the same branch, so that a peer that gets both takes
them for one.
"""

from __future__ import annotations

import enum
from typing import Final, NamedTuple

from proxy.sip.flow import Flow
from proxy.sip.writer import RequestLines

__all__ = ["MAX_DATAGRAM_REQUEST", "TRIAL", "LargeRequests", "Outgoing", "PeersWithoutTcp"]

MAX_DATAGRAM_REQUEST: Final = 1300
"""Octets of a request that may go over UDP where nothing is known of the path (§18.1.1)."""
TRIAL: Final = 4
"""In T1: an INVITE that has arrived gets its 100 within 200 ms (§17.2.1), however long the way."""
_REMEMBERED: Final = 600.0
"""Seconds for which a peer that did not answer over TCP is not asked again."""
_MAX_PEERS: Final = 1_000


class LargeRequests(enum.Enum):
    """How requests of more than 1300 octets reach a peer that is spoken with over UDP."""

    TCP_FIRST = "tcp-first"
    """Over TCP, then over UDP if that does not work."""
    TCP = "tcp"
    """Over TCP only: the peer's network drops fragments."""
    UDP = "udp"
    """As they are, fragmented: the peer takes no TCP, or sits behind a NAT that knows its UDP port only."""


class Outgoing(NamedTuple):
    """One request as it goes out by one transport."""

    lines: RequestLines
    data: bytes
    flow: Flow

    def over(self, via: str, flow: Flow) -> Outgoing:
        """Return the same request by another way: nothing but its top Via changes."""
        data = self.data.replace(self.lines.via.encode(), via.encode(), 1)
        return Outgoing(self.lines._replace(via=via), data, flow)


class PeersWithoutTcp:
    """Addresses that a large request did not reach over TCP, so that the next one need not try."""

    __slots__ = ("_until",)

    def __init__(self) -> None:
        self._until: dict[tuple[str, int], float] = {}

    def add(self, flow: Flow, now: float) -> None:
        """Remember the peer of a flow for a while."""
        if len(self._until) >= _MAX_PEERS:
            self._until.clear()
        self._until[flow.remote_host, flow.remote_port] = now + _REMEMBERED

    def holds(self, flow: Flow, now: float) -> bool:
        """Say whether the peer of a flow is one of them."""
        return self._until.get((flow.remote_host, flow.remote_port), 0.0) > now
