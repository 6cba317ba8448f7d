"""Settings of the SIP endpoint."""

from __future__ import annotations

from dataclasses import dataclass

from proxy.sip.flow import Flow, ListenPoint
from proxy.sip.inside import Inside
from proxy.sip.parser import ParserLimits
from proxy.sip.reliable import OPTION_TAG
from proxy.sip.routing import Lookup, nothing_known

__all__ = ["ALLOW", "KNOWN_METHODS", "PHONE_METHODS", "SUPPORTED", "EndpointConfig"]

KNOWN_METHODS = frozenset(
    {
        "ACK",
        "BYE",
        "CANCEL",
        "INFO",
        "INVITE",
        "MESSAGE",
        "NOTIFY",
        "OPTIONS",
        "PRACK",
        "PUBLISH",
        "REFER",
        "REGISTER",
        "SUBSCRIBE",
        "UPDATE",
    }
)
"""Methods of the registry: one of these that is not in `EndpointConfig.allow` gets 405, any other 501."""


ALLOW = (
    *("INVITE", "ACK", "CANCEL", "BYE", "OPTIONS", "INFO", "UPDATE", "PRACK"),
    *("REFER", "SUBSCRIBE", "NOTIFY"),
)
"""Methods that every gate takes; the last two for what a REFER subscribes to (RFC 3515 §2.4.4)."""

PHONE_METHODS = ("REGISTER",)
"""Methods that a gate for phones takes besides."""

SUPPORTED = (OPTION_TAG, "timer", "replaces", "norefersub")
"""Extensions that every gate knows (RFC 3262, RFC 4028, RFC 3891, RFC 4488)."""


@dataclass(frozen=True, slots=True)
class EndpointConfig:
    """What one endpoint is told when it is made. Times are in seconds."""

    listen_points: tuple[ListenPoint, ...]
    """The local sockets; `Flow.listener` is an index into them."""
    inside: Inside = Inside()  # noqa: RUF009  (never changes)
    """Who is told the sockets' own addresses."""
    t1: float = 0.5
    """Round-trip time estimate, Timer A's and E's first value (RFC 3261 §17.1.1.1)."""
    t2: float = 4.0
    """Longest interval between retransmissions of non-INVITE requests and INVITE responses."""
    t4: float = 5.0
    """Longest time a message stays in the network."""
    trying_after: float = 0.2
    """An INVITE that the TU has not answered by then gets a 100 (Trying) (§17.2.1)."""
    allow: tuple[str, ...] = ALLOW
    """Methods that the TU takes; the Allow header."""
    accept: tuple[str, ...] = ("application/sdp", "multipart/mixed")
    """Bodies that INVITE and UPDATE may carry; the Accept header of a 415 (§8.2.3)."""
    supported: tuple[str, ...] = ()
    """Option tags understood in Require (§8.2.2.3); the Supported header."""
    registrar_extensions: tuple[str, ...] = ("path", "outbound", "gruu")
    """Option tags understood in the Require of a REGISTER besides (RFC 3327, RFC 5626, RFC 5627)."""
    uri_schemes: frozenset[str] = frozenset({"sip", "sips", "tel", "urn"})
    """Schemes of a Request-URI; any other gets 416 (§8.2.2.1)."""
    user_agent: str = "Tollgate"
    """Server and User-Agent header; "" for none."""
    contact_user: str = "tollgate"
    """User part of the gate's own Contact where neither the TU nor the request names one."""
    invites_to_tu: bool = False
    """An INVITE that §8.2 wants refused comes to the TU with that refusal, not as an answered request: it
    knows who may be told so, and which calls are placed all the same."""
    min_se: int = 90
    """A session interval shorter than this gets 422 (RFC 4028 §9), in seconds."""
    limits: ParserLimits = ParserLimits()  # noqa: RUF009  (never changes)
    """What one message may hold."""
    lookup: Lookup = nothing_known
    """What is known of the names in Contacts and routes (RFC 3263 §4)."""
    amplification_limit: int = 3
    """A stateless response is at most this many times as long as its request."""

    def point(self, flow: Flow) -> ListenPoint:
        """Return the gate's end of a flow, as the peer is told of it."""
        point = self.listen_points[flow.listener]
        own = self.inside.own_address(flow.remote_host, point.own)
        return point.told_as(own) if own else point
