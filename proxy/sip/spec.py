"""What the TU says about an INVITE that it wants to have sent."""

from __future__ import annotations

from typing import NamedTuple

from proxy.sip.flow import Flow
from proxy.sip.large import LargeRequests

__all__ = ["InviteSpec"]


class InviteSpec(NamedTuple):
    """An INVITE outside a dialog (RFC 3261 §13.2.1).

    The endpoint adds Via, the From tag, Call-ID, CSeq, Contact, Allow, Supported, User-Agent and
    Content-Length.
    """

    uri: str
    """Request-URI."""
    from_: str
    """From without tag, such as ``"204" <sip:204@example.com>``; angle brackets are required."""
    to: str
    """To, such as ``<sip:15551230001@example.com>``."""
    flow: Flow
    """Where the INVITE is sent: the next hop, already resolved."""
    body: bytes = b""
    content_type: str = "application/sdp"
    headers: tuple[tuple[str, str], ...] = ()
    """Further headers (P-Asserted-Identity, Require ...); of those the endpoint adds only Contact, Allow,
    Supported and User-Agent, which then replace the endpoint's."""
    route: tuple[str, ...] = ()
    """Preloaded Route values (§8.1.1.1), such as ``<sip:192.0.2.9;lr>``."""
    max_forwards: int = 70
    contact_user: str = ""
    """User part of the Contact; "" for the configured one."""
    call_id: str = ""
    """Empty for a fresh one. To repeat an INVITE after 401, 407 or 422 (§22.2): the old transaction's
    ``call_id``, ``local_tag`` and ``cseq + 1``."""
    local_tag: str = ""
    cseq: int = 1
    large: LargeRequests = LargeRequests.UDP
    """What becomes of it, and of the requests of its dialogs, when it is too large for a datagram."""
    urgent: bool = False
    """Over TCP for its size, it goes over UDP too after T1 of silence: a call for help has no time."""
