"""The sans-I/O SIP endpoint: every message in, every message out, one deadline, events for the TU.

RFC 3261 §8, §9, §12-§15, §17, §18; RFC 3262; RFC 6026; RFC 3581. After each input drain `transmits()`, then
`events()` (whose handling may add transmits), then re-arm the one timer from `next_timer()`. Times are
seconds of one monotonic clock.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from proxy.errors import RemoteProtocolError
from proxy.sip.config import EndpointConfig
from proxy.sip.declining import declinable, plainly_declinable
from proxy.sip.dialog import Dialog, DialogTable
from proxy.sip.events import ClientTransaction, ConnectionLost, Event, ServerTransaction
from proxy.sip.flow import Flow, Transmit
from proxy.sip.ids import IdSource
from proxy.sip.invite_client import InviteClientTransaction
from proxy.sip.message import Request
from proxy.sip.parser import parse_datagram
from proxy.sip.spec import InviteSpec
from proxy.sip.transactions import TransactionLayer, peer_of
from proxy.sip.uac import Uac
from proxy.sip.uas import Uas
from proxy.sip.writer import ExtraHeaders, Fixed

logger = logging.getLogger(__name__)

__all__ = ["Endpoint", "ExtraHeaders", "InviteSpec", "TraceHook"]

TraceHook = Callable[[bool, Flow, bytes], None]
"""Called with ``(incoming, flow, data)`` for every message. It sees INFO bodies: whoever shows them masks
digits."""


class Endpoint:
    """One SIP endpoint with all its transactions and dialogs."""

    def __init__(self, config: EndpointConfig, ids: IdSource, trace: TraceHook | None = None) -> None:
        self.config = config
        self.ids = ids
        self.trace = trace
        self._events: list[Event] = []
        self._layer = layer = TransactionLayer(config)
        self._dialogs = DialogTable()
        self._fixed = Fixed(config)
        self._uas = Uas(layer, self._dialogs, self._events, self._fixed, ids)
        self._uac = Uac(layer, self._dialogs, self._events, self._fixed, ids)
        layer.server_user = self._uas
        layer.client_user = self._uac

    # Inputs -------------------------------------------------------------------------------------------------

    def receive(self, data: bytes, flow: Flow, now: float) -> None:
        """Take one datagram or one message framed from a stream. Never raises because of ``data``."""
        if self.trace is not None:
            self.trace(True, flow, data)
        try:
            message = parse_datagram(data, self.config.limits)
        except RemoteProtocolError as error:
            logger.debug("message from %s dropped: %s", flow.remote_host, error)
            return
        if message is None:
            return
        if logger.isEnabledFor(logging.DEBUG):
            logger.debug(
                "received %r from %s", message, flow, extra={"call_id": message.headers.get("Call-ID")}
            )
        if isinstance(message, Request):
            self._uas.receive(message, flow, len(data), now)
        else:
            self._uac.receive(message, flow, now)

    def decline(self, data: bytes, flow: Flow, may_decline: Callable[[str], bool], now: float) -> bool:
        """Answer a request outside dialogs with 503, statelessly and for little; False if it is anything
        else, or to a Request-URI that ``may_decline`` spares: then nothing has happened (RFC 3261 §21.5.4).

        There is no Retry-After: the next request may well find time.
        """
        new = plainly_declinable(data, flow)
        if new is None:
            try:
                message = parse_datagram(data, self.config.limits)
            except RemoteProtocolError:
                return False
            new = declinable(message, flow) if isinstance(message, Request) else None
        return new is not None and self._uas.decline(new, len(data), may_decline, now)

    def transport_failed(self, flow: Flow, now: float) -> None:
        """Tell that ``flow`` is gone: ICMP error, refused or lost connection (RFC 3261 §17.1.4, §18.4).

        With ``connection`` 0 and a reliable transport: no connection could be opened.
        """
        layer = self._layer
        for client in list(layer.pending.get(peer_of(flow), ())):
            # A request that asked for any connection (0) may have got the one that is lost.
            if client.flow.connection in {0, flow.connection}:
                client.transport_failed(now)
        if not flow.reliable:
            return
        for server in list(layer.on_connection.get(flow.connection, ())):
            if flow.connection:
                layer.reroute_server(server)
            elif peer_of(server.flow) == peer_of(flow):
                server.transport_failed(now)
        if flow.connection:
            self._dialogs.connection_lost(flow.connection)
            self._events.append(ConnectionLost(flow))

    def handle_timer(self, now: float) -> None:
        """Run everything that is due."""
        self._layer.timers.run(now)

    # Outputs ------------------------------------------------------------------------------------------------

    def withdrawals(self) -> list[Transmit]:
        """Take what is not to be sent any more, where it still waits for a connection."""
        withdrawn, self._layer.withdrawn = self._layer.withdrawn, []
        return withdrawn

    def transmits(self) -> list[Transmit]:
        """Take what is to be sent, in order."""
        transmits = self._layer.transmits
        if transmits:
            self._layer.transmits = []
            if self.trace is not None:
                for data, flow in transmits:
                    self.trace(False, flow, data)
        return transmits

    def events(self) -> list[Event]:
        """Take what has happened, in order."""
        events = self._events[:]
        self._events.clear()
        return events

    def next_timer(self) -> float | None:
        """Return when `handle_timer` is to be called next."""
        return self._layer.timers.next_deadline()

    @property
    def transactions(self) -> int:
        """How many transactions are left."""
        return len(self._layer.clients) + len(self._layer.servers)

    @property
    def dialogs(self) -> int:
        """How many dialogs are left."""
        return len(self._dialogs)

    @property
    def idle(self) -> bool:
        """Whether no transaction, dialog or timer is left."""
        return self._layer.idle and not len(self._dialogs)

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
        reliable: bool = False,
        now: float,
    ) -> Dialog | None:
        """Answer a request; returns the dialog of an INVITE answered with 101-299, of a SUBSCRIBE with 2xx.

        A 101-199 or 2xx to an INVITE outside a dialog makes the (early) dialog and always with the same To
        tag. A 2xx is retransmitted until its ACK (§13.3.1.4). Contact, Record-Route, Allow and Supported
        are added where the RFC wants them. Raises LocalProtocolError after the final response (see
        ``transaction.answered``).

        A ``reliable`` provisional response is repeated until its PRACK, and followed by the next one only
        then; no 2xx goes while one with a body is left (``dialog.withholds_success``, RFC 3262 §3).
        """
        return self._uas.respond(
            transaction,
            status,
            reason=reason,
            headers=headers,
            body=body,
            content_type=content_type,
            reliable=reliable,
            now=now,
        )

    def reject_stateless(
        self, transaction: ServerTransaction, status: int, *, headers: ExtraHeaders = ()
    ) -> None:
        """Refuse a request outside a dialog, or answer an OPTIONS, and forget it at once (RFC 3261 §8.2.7).

        For strangers: nothing is kept, a retransmission comes again as a new request, the ACK is
        absorbed. A response of more than `EndpointConfig.amplification_limit` times the request loses
        headers, the last of these first, or is not sent at all.
        """
        self._uas.reject_stateless(transaction, status, headers)

    # As UAC -------------------------------------------------------------------------------------------------

    def invite(self, spec: InviteSpec, owner: object, now: float) -> InviteClientTransaction:
        """Send an INVITE outside a dialog; its dialogs get the same ``owner``."""
        return self._uac.invite(spec, owner, now)

    def cancel(self, transaction: InviteClientTransaction, *, headers: ExtraHeaders = (), now: float) -> None:
        """Cancel an INVITE (§9.1): at once after a provisional response, otherwise when the first one comes.

        Nothing happens after the final response. What follows is a ResponseReceived (487, or the late 2xx
        that the TU must ACK and BYE) or RequestTimedOut.
        """
        self._uac.cancel(transaction, headers, now)

    def ack(
        self,
        dialog: Dialog,
        *,
        headers: ExtraHeaders = (),
        body: bytes = b"",
        content_type: str = "application/sdp",
        now: float,
    ) -> None:
        """ACK the 2xx of the dialog's INVITE (§13.2.2.4); a repeated 2xx gets the same ACK again by
        itself."""
        del now  # an ACK starts no timer
        self._uac.ack(dialog, headers, body, content_type)

    def request(
        self,
        dialog: Dialog,
        method: str,
        *,
        headers: ExtraHeaders = (),
        body: bytes = b"",
        content_type: str = "application/sdp",
        again: bool = False,
        now: float,
    ) -> ClientTransaction:
        """Send a request within a dialog (§12.2.1.1), re-INVITE and BYE included; its owner is the dialog's.

        After a BYE (also one that gets no answer) the dialog ends, unless a subscription shares it. Raises
        LocalProtocolError for a second INVITE while one is pending in either direction
        (``dialog.invite_pending``, §14.1). ``again``: a BYE was challenged and is repeated with credentials
        (§22.2), after the end of its dialog.
        """
        return self._uac.request(
            dialog, method, headers=headers, body=body, content_type=content_type, again=again, now=now
        )

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
        route: tuple[str, ...] = (),
        call_id: str = "",
        local_tag: str = "",
        cseq: int = 1,
        now: float,
    ) -> ClientTransaction:
        """Send a request other than INVITE outside a dialog (OPTIONS, MESSAGE ...).

        ``from_`` and ``to`` are name-addrs without tag: the gate's own address and the Request-URI if not
        given; ``route`` are the proxies before the peer, loose routers all. ``call_id`` and ``local_tag``
        are fresh ones if not given: a request that is repeated with credentials (§22.2) keeps them and raises
        ``cseq``, as do all REGISTERs of one binding (§10.2).

        The first NOTIFY that answers a SUBSCRIBE makes its dialog, which gets the same ``owner`` (RFC 6665
        §4.4.1); where none comes after a 2xx the TU says so: `await_no_notify`.
        """
        return self._uac.send_request(
            method,
            uri,
            from_=from_,
            to=to,
            headers=headers,
            body=body,
            content_type=content_type,
            flow=flow,
            owner=owner,
            route=route,
            call_id=call_id,
            local_tag=local_tag,
            cseq=cseq,
            now=now,
        )

    def ping(self, uri: str, flow: Flow, *, route: tuple[str, ...] = ()) -> None:
        """Send an OPTIONS that nobody waits for: it is not repeated, and its response is dropped.

        What it does to the NATs on its way, and the response back through them, is its whole use.
        """
        self._uac.ping(uri, flow, route)

    def keep_open(self, flow: Flow) -> None:
        """Send an empty datagram: two line ends, which every SIP element ignores (§7.5)."""
        self._layer.send(b"\r\n\r\n", flow)

    def terminate(self, dialog: Dialog) -> None:
        """Forget a dialog without a word to the peer."""
        if dialog.awaited_ack is not None:
            dialog.awaited_ack.stop()
            dialog.awaited_ack = None
        if dialog.provisionals is not None:
            dialog.provisionals.finish()
        self._dialogs.remove(dialog)

    def share(self, dialog: Dialog) -> None:
        """Let a subscription share the dialog of a call: its NOTIFYs go on after the BYE (RFC 5057 §4.1)."""
        dialog.subscriptions += 1

    def part(self, dialog: Dialog) -> None:
        """Note that a subscription has ended which shared a dialog: it may be the last that kept it."""
        dialog.subscriptions -= 1
        if dialog.call_over:
            self._uas.end_dialog(dialog)

    def await_no_notify(self, call_id: str, local_tag: str) -> None:
        """Give up a subscription of ours that got no NOTIFY: no dialog comes of its SUBSCRIBE any more."""
        self._dialogs.no_notify(call_id, local_tag)

    def uses(self, connection: int) -> bool:
        """Say whether the peer of some dialog, or who waits for an answer, is there on this connection."""
        return connection in self._layer.on_connection or self._dialogs.uses(connection)

    def dialog(self, call_id: str, local_tag: str, remote_tag: str) -> Dialog | None:
        """Find a dialog that somebody names (RFC 3891 §3)."""
        return self._dialogs.get((call_id, local_tag, remote_tag))

    @property
    def capabilities(self) -> tuple[tuple[str, str], ...]:
        """Allow, Accept, Accept-Encoding, Accept-Language and Supported, for the 200 to an OPTIONS
        (§11.2)."""
        return self._fixed.capabilities
