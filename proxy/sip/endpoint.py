"""The sans-I/O SIP endpoint: every message in, every message out, one deadline, events for the TU.

RFC 3261 §8, §9, §12-§15, §17, §18; RFC 6026; RFC 3581. After each input drain `transmits()`, then `events()` (whose
handling may add transmits), then re-arm the one timer from `next_timer()`. Times are seconds of one monotonic clock.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from proxy.sip.config import EndpointConfig
from proxy.sip.dialog import Dialog
from proxy.sip.events import ClientTransaction, Event, ServerTransaction
from proxy.sip.flow import Flow, Transmit
from proxy.sip.ids import IdSource
from proxy.sip.invite_client import InviteClientTransaction

__all__ = ["Endpoint", "ExtraHeaders", "InviteSpec", "TraceHook"]

ExtraHeaders = Iterable[tuple[str, str]]
"""Further headers of a message, in order: name and raw value, without line ends."""

TraceHook = Callable[[bool, Flow, bytes], None]
"""Called with ``(incoming, flow, data)`` for every message. It sees INFO bodies: whoever shows them masks digits."""


@dataclass(frozen=True, slots=True)
class InviteSpec:
    """An INVITE outside a dialog (RFC 3261 §13.2.1).

    The endpoint adds Via, the From tag, Call-ID, CSeq, Contact, Allow, Supported, User-Agent and Content-Length.
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
    """Further headers (P-Asserted-Identity, Require ...); none of those the endpoint adds, except Contact, Allow,
    Supported and User-Agent, which then replace the endpoint's."""
    route: tuple[str, ...] = ()
    """Preloaded Route values (§8.1.1.1), such as ``<sip:192.0.2.9;lr>``."""
    max_forwards: int = 70
    contact_user: str = ""
    """User part of the Contact; "" for the configured one."""
    call_id: str = ""
    """"" for a fresh one. To repeat an INVITE after 401, 407 or 422 (§22.2): the old transaction's ``call_id``,
    ``local_tag`` and ``cseq + 1``."""
    local_tag: str = ""
    cseq: int = 1


class Endpoint:
    """One SIP endpoint with all its transactions and dialogs."""

    def __init__(self, config: EndpointConfig, ids: IdSource, trace: TraceHook | None = None) -> None:
        self.config = config
        self.trace = trace

    # Inputs -------------------------------------------------------------------------------------------------

    def receive(self, data: bytes, flow: Flow, now: float) -> None:
        """Take one datagram or one message framed from a stream. Never raises because of ``data``."""
        raise NotImplementedError

    def transport_failed(self, flow: Flow, now: float) -> None:
        """Tell that ``flow`` is gone: ICMP error, refused or lost connection (RFC 3261 §17.1.4, §18.4).

        With ``connection`` 0 and a reliable transport: no connection could be opened.
        """
        raise NotImplementedError

    def handle_timer(self, now: float) -> None:
        """Run everything that is due."""
        raise NotImplementedError

    # Outputs ------------------------------------------------------------------------------------------------

    def transmits(self) -> list[Transmit]:
        """Take what is to be sent, in order."""
        raise NotImplementedError

    def events(self) -> list[Event]:
        """Take what has happened, in order."""
        raise NotImplementedError

    def next_timer(self) -> float | None:
        """Return when `handle_timer` is to be called next."""
        raise NotImplementedError

    @property
    def idle(self) -> bool:
        """Whether no transaction, dialog or timer is left."""
        raise NotImplementedError

    # As UAS -------------------------------------------------------------------------------------------------

    def respond(
        self,
        transaction: ServerTransaction,
        status: int,
        *,
        reason: str = "",
        headers: ExtraHeaders = (),
        body: bytes = b"",
        content_type: str = "application/sdp",
        now: float,
    ) -> Dialog | None:
        """Answer a request; returns the dialog of an INVITE answered with 101-299.

        A 101-199 or 2xx to an INVITE outside a dialog makes the (early) dialog and always with the same To tag.
        A 2xx is retransmitted until its ACK (§13.3.1.4). Contact, Record-Route, Allow and Supported are added where
        the RFC wants them. Raises LocalProtocolError after the final response (see ``transaction.answered``).
        """
        raise NotImplementedError

    def reject_stateless(
        self, transaction: ServerTransaction, status: int, *, headers: ExtraHeaders = (), now: float
    ) -> None:
        """Refuse a request outside a dialog and forget it at once (RFC 3261 §8.2.7).

        For strangers over UDP: nothing is kept, a retransmission comes again as a new request, the ACK is absorbed,
        and a response of more than `EndpointConfig.amplification_limit` times the request is not sent at all.
        """
        raise NotImplementedError

    # As UAC -------------------------------------------------------------------------------------------------

    def invite(self, spec: InviteSpec, owner: object, now: float) -> InviteClientTransaction:
        """Send an INVITE outside a dialog; its dialogs get the same ``owner``."""
        raise NotImplementedError

    def cancel(self, transaction: InviteClientTransaction, *, headers: ExtraHeaders = (), now: float) -> None:
        """Cancel an INVITE (§9.1): at once after a provisional response, otherwise when the first one comes.

        Nothing happens after the final response. What follows is a ResponseReceived (487, or the late 2xx that the
        TU must ACK and BYE) or RequestTimedOut.
        """
        raise NotImplementedError

    def ack(self, dialog: Dialog, *, body: bytes = b"", content_type: str = "application/sdp", now: float) -> None:
        """ACK the 2xx of the dialog's INVITE (§13.2.2.4); a repeated 2xx gets the same ACK again by itself."""
        raise NotImplementedError

    def request(
        self,
        dialog: Dialog,
        method: str,
        *,
        headers: ExtraHeaders = (),
        body: bytes = b"",
        content_type: str = "application/sdp",
        now: float,
    ) -> ClientTransaction:
        """Send a request within a dialog (§12.2.1.1), re-INVITE and BYE included; its owner is the dialog's.

        After a BYE (also one that gets no answer) the dialog ends. Raises LocalProtocolError for a second INVITE
        while one is pending in either direction (``dialog.invite_pending``, §14.1).
        """
        raise NotImplementedError

    def send_request(
        self,
        method: str,
        uri: str,
        *,
        from_: str = "",
        to: str = "",
        headers: ExtraHeaders = (),
        body: bytes = b"",
        content_type: str = "application/sdp",
        flow: Flow,
        owner: object = None,
        now: float,
    ) -> ClientTransaction:
        """Send a request other than INVITE outside a dialog (OPTIONS, MESSAGE ...).

        ``from_`` and ``to`` are name-addrs without tag: the gate's own address and the Request-URI if not given.
        """
        raise NotImplementedError

    def terminate(self, dialog: Dialog, now: float) -> None:
        """Forget a dialog without a word to the peer."""
        raise NotImplementedError

    @property
    def capabilities(self) -> tuple[tuple[str, str], ...]:
        """Allow, Accept, Accept-Encoding, Accept-Language and Supported, for the 200 to an OPTIONS (§11.2)."""
        raise NotImplementedError
