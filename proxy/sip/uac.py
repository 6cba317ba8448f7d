"""The UAC core: requests of the TU to the network, responses from the network to the TU.

RFC 3261 §8.1, §9.1, §12.2.1, §13.2, §14.1, §15.1.1; RFC 3262 §4; RFC 6026.
"""

from __future__ import annotations

import logging

from proxy.errors import LocalProtocolError, RemoteProtocolError
from proxy.sip.dialog import (
    TARGET_REFRESH,
    AwaitedNotify,
    Dialog,
    DialogState,
    DialogTable,
    listener_for,
    route,
)
from proxy.sip.events import (
    CallEnded,
    ClientTransaction,
    DialogEnded,
    Event,
    RequestFailed,
    RequestTimedOut,
    ResponseReceived,
)
from proxy.sip.flow import Flow
from proxy.sip.further import Further
from proxy.sip.ids import IdSource
from proxy.sip.invite_client import InviteClientState, InviteClientTransaction
from proxy.sip.large import MAX_DATAGRAM_REQUEST, TRIAL, LargeRequests, Outgoing
from proxy.sip.message import Response
from proxy.sip.non_invite_client import NonInviteClientTransaction
from proxy.sip.parser import validate_response
from proxy.sip.reliable import acknowledgement
from proxy.sip.spec import InviteSpec
from proxy.sip.transactions import TransactionLayer, peer_of
from proxy.sip.writer import ExtraHeaders, Fixed, RequestLines, header_lines, is_secure

__all__ = ["Uac"]

logger = logging.getLogger(__name__)

_ACKS_IN_VAIN = 2
"""2xx that come again before their ACK takes another way."""

_FORKS = 50
"""Early dialogs of one INVITE that are kept; a 2xx makes its dialog all the same."""


class Uac:
    """Client side of one endpoint."""

    __slots__ = ("_dialogs", "_events", "_fixed", "_ids", "_layer")

    def __init__(
        self, layer: TransactionLayer, dialogs: DialogTable, events: list[Event], fixed: Fixed, ids: IdSource
    ) -> None:
        self._layer = layer
        self._dialogs = dialogs
        self._events = events
        self._fixed = fixed
        self._ids = ids

    # Requests out -------------------------------------------------------------------------------------------

    def invite(self, spec: InviteSpec, owner: object, now: float) -> InviteClientTransaction:
        """Send an INVITE outside a dialog (§13.2.1)."""
        tag = spec.local_tag or self._ids.tag()
        branch = self._ids.branch()
        uri, routes = route(spec.uri, spec.route)
        lines = RequestLines(
            uri=uri,
            via=self._fixed.via(spec.flow, branch),
            routes=routes,
            from_=f"{spec.from_};tag={tag}",
            to=spec.to,
            call_id=spec.call_id or self._ids.call_id(),
            cseq=spec.cseq,
            local_tag=tag,
        )
        secure = is_secure(spec.uri, spec.route[0] if spec.route else "")
        contact = self._fixed.contact(spec.flow, spec.contact_user, secure=secure)
        extra = self._fixed.for_invite(contact, spec.headers)
        data = lines.invite(spec.max_forwards, extra, spec.body, spec.content_type)
        usual = Outgoing(lines, data, spec.flow)
        transaction = self._start_invite(
            usual, branch, owner=owner, dialog=None, large=spec.large, urgent=spec.urgent, now=now
        )
        transaction.contact_user = spec.contact_user
        return transaction

    def _start_invite(
        self,
        usual: Outgoing,
        branch: str,
        *,
        owner: object,
        dialog: Dialog | None,
        large: LargeRequests,
        urgent: bool = False,
        now: float,
    ) -> InviteClientTransaction:
        """Begin the transaction of an INVITE; ``dialog``: the one that it is sent within.

        A call for help (``urgent``) goes by every way that there is, and soon.
        """
        first = self._sized(usual, branch, large, now)
        transaction = InviteClientTransaction(self._layer, first.lines, branch, first.flow, owner)
        transaction.large = large
        if first is not usual:
            transaction.dialog_flow = usual.flow
        if dialog is not None:
            transaction.dialog = dialog
            transaction.reinvite = True
            transaction.further = _further(dialog, usual)
            dialog.invite_client = transaction
        otherwise = _otherwise(first, usual, LargeRequests.TCP_FIRST if urgent else large)
        transaction.start(first.data, now, otherwise, (1 if urgent else TRIAL) * self._layer.config.t1)
        return transaction

    def _sized(self, usual: Outgoing, branch: str, large: LargeRequests, now: float) -> Outgoing:
        """Return a request as it goes out first: over TCP when it is too large for a datagram (§18.1.1)."""
        flow = usual.flow
        if (
            len(usual.data) <= MAX_DATAGRAM_REQUEST
            or flow.transport != "UDP"
            or large is LargeRequests.UDP
            or (large is LargeRequests.TCP_FIRST and self._layer.without_tcp.holds(flow, now))
        ):
            return usual
        listener = listener_for("TCP", flow.remote_host, flow, self._layer.config.listen_points)
        if listener is None:
            return usual
        flow = Flow("TCP", flow.remote_host, flow.remote_port, listener)
        return usual.over(self._fixed.via(flow, branch), flow)

    def cancel(self, transaction: InviteClientTransaction, headers: ExtraHeaders, now: float) -> None:
        """Cancel an INVITE, now or at its first provisional response (§9.1)."""
        if transaction.cancelled or transaction.completed:
            return
        transaction.cancelled = True
        transaction.cancel_extra = header_lines(headers)
        if transaction.state is InviteClientState.PROCEEDING:
            self.provisional_received(transaction, now)

    def provisional_received(self, transaction: InviteClientTransaction, now: float) -> None:
        """Send the CANCEL that was asked for: over the INVITE's flow and with its branch (§9.1)."""
        lines = transaction.lines
        cancel = NonInviteClientTransaction(
            self._layer,
            "CANCEL",
            transaction.branch,
            transaction.flow,
            call_id=lines.call_id,
            local_tag=lines.local_tag,
            cseq=lines.cseq,
            internal=True,
        )
        cancel.start(lines.cancel(transaction.cancel_extra), now)
        transaction.expect_end(now)

    def ack(self, dialog: Dialog, headers: ExtraHeaders, body: bytes, content_type: str) -> None:
        """ACK a 2xx: a request of its own, outside all transactions (§13.2.2.4)."""
        if dialog.ack_due is None:
            raise LocalProtocolError("no 2xx of this dialog waits for an ACK")
        flow = dialog.next_hop(self._layer.config.listen_points, self._layer.config.lookup)
        lines = self._lines(dialog, flow, self._ids.branch(), dialog.ack_due)
        dialog.ack = Outgoing(lines, lines.request("ACK", header_lines(headers), body, content_type), flow)
        dialog.ack_due = None
        dialog.ack_repeats = 0
        self._layer.send(dialog.ack.data, flow)

    def _repeat_ack(self, dialog: Dialog, ack: Outgoing) -> None:
        """ACK a 2xx that comes again; if that has not helped, by the next address of the name that the ACK
        went to (RFC 3263 §4.3)."""
        dialog.ack_repeats += 1
        if dialog.ack_repeats == _ACKS_IN_VAIN:
            dialog.ack_repeats = 0
            config = self._layer.config
            dialog.not_reached(ack.flow)
            flow = dialog.next_hop(config.listen_points, config.lookup)
            if flow != ack.flow:
                ack = ack.over(self._fixed.via(flow, self._ids.branch()), flow)
                dialog.ack = ack
        self._layer.send(ack.data, ack.flow)

    def request(
        self,
        dialog: Dialog,
        method: str,
        *,
        headers: ExtraHeaders,
        body: bytes,
        content_type: str,
        again: bool = False,
        now: float,
    ) -> ClientTransaction:
        """Send a request within a dialog (§12.2.1.1)."""
        if not (again and method == "BYE"):
            self._check_allowed(dialog, method)
        dialog.local_cseq += 1
        cseq = dialog.local_cseq
        branch = self._ids.branch()
        flow = dialog.next_hop(self._layer.config.listen_points, self._layer.config.lookup)
        lines = self._lines(dialog, flow, branch, cseq)
        if method == "INVITE":
            extra = self._fixed.for_reinvite(self._contact(dialog, flow), headers)
            usual = Outgoing(lines, lines.invite(70, extra, body, content_type), flow)
            return self._start_invite(
                usual, branch, owner=dialog.owner, dialog=dialog, large=dialog.large, now=now
            )
        extra = self._fixed.user_agent
        if method in TARGET_REFRESH:
            extra = self._contact(dialog, flow) + extra
        if method == "UPDATE":
            # RFC 4028 §7.1: without it the peer takes the gate for one that knows no session timer.
            extra = self._fixed.supported_again + extra
        data = lines.request(method, self._fixed.overridden(extra, headers), body, content_type)
        usual = Outgoing(lines, data, flow)
        # A BYE is never that large, and has to arrive.
        first = usual if method == "BYE" else self._sized(usual, branch, dialog.large, now)
        transaction = NonInviteClientTransaction(
            self._layer,
            method,
            branch,
            first.flow,
            call_id=dialog.call_id,
            local_tag=dialog.local_tag,
            cseq=cseq,
            owner=dialog.owner,
            dialog=dialog,
        )
        transaction.further = _further(dialog, usual)
        if method == "BYE":
            dialog.state = DialogState.TERMINATED
            if dialog.invite_client is not None:
                dialog.invite_client.dialog_ended(now)
            if dialog.awaited_ack is not None:
                # §15: the callee's BYE waits for the ACK of its 2xx, or for the end of that wait.
                dialog.awaited_ack.held_bye = (transaction, data)
                return transaction
        trial = TRIAL * self._layer.config.t1
        transaction.start(first.data, now, _otherwise(first, usual, dialog.large), trial)
        return transaction

    def _contact(self, dialog: Dialog, flow: Flow) -> str:
        first = dialog.route_set[0] if dialog.route_set else ""
        return self._fixed.contact(flow, dialog.contact_user, secure=is_secure(dialog.remote_target, first))

    def _lines(self, dialog: Dialog, flow: Flow, branch: str, cseq: int) -> RequestLines:
        return RequestLines(
            uri=dialog.request_uri,
            via=self._fixed.via(flow, branch),
            routes=dialog.route_lines,
            from_=dialog.local,
            to=dialog.remote,
            call_id=dialog.call_id,
            cseq=cseq,
            local_tag=dialog.local_tag,
        )

    @staticmethod
    def _check_allowed(dialog: Dialog, method: str) -> None:
        if method in {"ACK", "CANCEL"}:
            raise LocalProtocolError(f"{method} is not sent with request()")
        if not dialog.takes(method):
            raise LocalProtocolError(f"{method} in a dialog that has ended")
        if method == "INVITE" and dialog.invite_pending:
            raise LocalProtocolError("a second INVITE while one is pending")
        if method == "BYE" and dialog.state is DialogState.EARLY and not dialog.uac:
            raise LocalProtocolError("the callee may not send BYE in an early dialog")

    def send_request(
        self,
        method: str,
        uri: str,
        *,
        from_: str,
        to: str,
        headers: ExtraHeaders,
        body: bytes,
        content_type: str,
        flow: Flow,
        owner: object,
        route: tuple[str, ...] = (),
        call_id: str = "",
        local_tag: str = "",
        cseq: int = 1,
        now: float,
    ) -> NonInviteClientTransaction:
        """Send a request outside a dialog (§8.1.1)."""
        if method in {"INVITE", "ACK", "CANCEL"}:
            raise LocalProtocolError(f"{method} is not sent with send_request()")
        tag = local_tag or self._ids.tag()
        call_id = call_id or self._ids.call_id()
        branch = self._ids.branch()
        point = self._layer.config.point(flow)
        from_ = from_ or f"<sip:{self._layer.config.contact_user}@{point.sent_by}>"
        extra = self._fixed.contact(flow) + self._fixed.user_agent
        lines = RequestLines(
            uri=uri,
            via=self._fixed.via(flow, branch),
            routes=_route_lines(route),
            from_=f"{from_};tag={tag}",
            to=to or f"<{uri}>",
            call_id=call_id,
            cseq=cseq,
            local_tag=tag,
        )
        data = lines.request(method, self._fixed.overridden(extra, headers), body, content_type)
        transaction = NonInviteClientTransaction(
            self._layer, method, branch, flow, call_id=call_id, local_tag=tag, cseq=cseq, owner=owner
        )
        if method == "SUBSCRIBE":
            self._dialogs.await_notify(call_id, AwaitedNotify(lines.from_, tag, cseq, owner))
        transaction.start(data, now)
        return transaction

    def ping(self, uri: str, flow: Flow, route: tuple[str, ...]) -> None:
        """Send an OPTIONS without a transaction (§11.1)."""
        tag = self._ids.tag()
        point = self._layer.config.point(flow)
        lines = RequestLines(
            uri=uri,
            via=self._fixed.via(flow, self._ids.branch()),
            routes=_route_lines(route),
            from_=f"<sip:{self._layer.config.contact_user}@{point.sent_by}>;tag={tag}",
            to=f"<{uri}>",
            call_id=self._ids.call_id(),
            cseq=1,
            local_tag=tag,
        )
        self._layer.send(lines.request("OPTIONS", self._fixed.user_agent, b"", ""), flow)

    # Responses in -------------------------------------------------------------------------------------------

    def receive(self, response: Response, flow: Flow, now: float) -> None:
        """Take a response; one that is broken, not ours or not expected is dropped (§8.1.3, §18.1.2)."""
        try:
            validate_response(response)
        except RemoteProtocolError as error:
            logger.debug("broken response dropped: %s", error)
            return
        via = response.top_via
        transaction = self._layer.clients.get((via.branch or "", response.cseq.method))
        if transaction is None:
            return
        if not self._layer.config.point(transaction.flow).is_at(via.host):
            return
        if flow.connection and not transaction.flow.connection and peer_of(flow) == peer_of(transaction.flow):
            # The request asked for a connection; this is the one it got.
            transaction.flow = flow
        if isinstance(transaction, InviteClientTransaction):
            self._receive_invite(transaction, response, now)
        elif transaction.receive(response.status, now) and not transaction.internal:
            self._receive_non_invite(transaction, response)

    def _receive_non_invite(self, transaction: NonInviteClientTransaction, response: Response) -> None:
        dialog = transaction.dialog
        self._events.append(ResponseReceived(transaction, response, dialog))
        if dialog is None and transaction.method == "SUBSCRIBE" and response.status >= 300:
            self._dialogs.no_notify(transaction.call_id, transaction.local_tag)
        if dialog is None or response.status < 200:
            return
        if transaction.method == "BYE":
            self.end_dialog(dialog)
        elif transaction.method in TARGET_REFRESH and response.status < 300 and response.contact is not None:
            dialog.refresh_target(response.contact.uri_text)

    def _receive_invite(self, transaction: InviteClientTransaction, response: Response, now: float) -> None:
        status = response.status
        if not transaction.receive(status, response.headers.get("To") or "", now):
            return
        if status >= 300:
            self._events.append(ResponseReceived(transaction, response, transaction.dialog))
            self._end_invite(transaction)
        elif status >= 200:
            self._receive_2xx(transaction, response)
        else:
            self._receive_provisional(transaction, response)

    def _receive_provisional(self, transaction: InviteClientTransaction, response: Response) -> None:
        if transaction.reinvite:
            self._events.append(ResponseReceived(transaction, response, transaction.dialog))
            return
        dialog = self._early_dialog(transaction, response)
        rack = "" if dialog is None else acknowledgement(response, dialog)
        if rack is not None:
            self._events.append(ResponseReceived(transaction, response, dialog, rack))

    def _receive_2xx(self, transaction: InviteClientTransaction, response: Response) -> None:
        """Confirm the dialog of a 2xx, or repeat its ACK (§13.2.2.4)."""
        dialog = transaction.dialog if transaction.reinvite else self._find_fork(transaction, response)
        if dialog is not None:
            if dialog.ack is not None and dialog.ack.lines.cseq == transaction.cseq:
                self._repeat_ack(dialog, dialog.ack)
                return
            if dialog.ack_due == transaction.cseq:
                return
        if dialog is None or (dialog.state is DialogState.TERMINATED and not transaction.reinvite):
            # Also where the TU had given up the early dialog: it has to ACK this 2xx and send BYE.
            dialog = self._make_dialog(transaction, response)
        dialog.invite_client = None
        dialog.ack_due = transaction.cseq
        if dialog.state is DialogState.EARLY:
            dialog.state = DialogState.CONFIRMED
        contact = response.contact
        if contact is not None:
            if transaction.reinvite:
                dialog.refresh_target(contact.uri_text)
            else:
                dialog.set_route(contact.uri_text, _route_set(response))
        if transaction.dialog is None:
            transaction.dialog = dialog
        self._events.append(ResponseReceived(transaction, response, dialog))

    def _find_fork(self, transaction: InviteClientTransaction, response: Response) -> Dialog | None:
        tag = response.to.tag or ""
        for dialog in reversed(transaction.dialogs):
            if dialog.remote_tag == tag:
                return dialog
        return None

    def _early_dialog(self, transaction: InviteClientTransaction, response: Response) -> Dialog | None:
        """Find or make the early dialog of a provisional response (§12.1.2); 100 and one without tag make
        none, and neither do more forks than any proxy makes."""
        if response.status == 100 or not response.to.tag:
            return None
        dialog = self._find_fork(transaction, response)
        if dialog is None:
            return self._make_dialog(transaction, response) if len(transaction.dialogs) < _FORKS else None
        return None if dialog.state is DialogState.TERMINATED else dialog

    def _make_dialog(self, transaction: InviteClientTransaction, response: Response) -> Dialog:
        lines = transaction.lines
        contact = response.contact
        dialog = Dialog(
            call_id=lines.call_id,
            local=lines.from_,
            local_tag=lines.local_tag,
            remote=response.headers.get("To") or "",
            remote_tag=response.to.tag or "",
            remote_target=lines.uri if contact is None else contact.uri_text,
            route_set=_route_set(response),
            local_cseq=lines.cseq,
            flow=transaction.dialog_flow or transaction.flow,
            uac=True,
            owner=transaction.owner,
        )
        dialog.large = transaction.large
        dialog.contact_user = transaction.contact_user
        dialog.invite_client = transaction
        transaction.dialogs.append(dialog)
        self._dialogs.add(dialog)
        return dialog

    # Ends ---------------------------------------------------------------------------------------------------

    def client_timed_out(self, transaction: ClientTransaction, now: float) -> None:
        """Timer B or F, or the wait after a CANCEL (§8.1.3.1)."""
        if self._goes_on(transaction, now):
            return
        if isinstance(transaction, InviteClientTransaction):
            self._events.append(RequestTimedOut(transaction))
            self._end_invite(transaction)
        elif not transaction.internal:
            self._events.append(RequestTimedOut(transaction))
            self._end_non_invite(transaction)

    def client_failed(self, transaction: ClientTransaction, now: float) -> None:
        """The transport failed (§8.1.3.1, §17.1.4)."""
        if self._goes_on(transaction, now):
            return
        if isinstance(transaction, InviteClientTransaction):
            self._events.append(RequestFailed(transaction))
            self._end_invite(transaction)
        elif not transaction.internal:
            self._events.append(RequestFailed(transaction))
            self._end_non_invite(transaction)

    def _goes_on(self, transaction: ClientTransaction, now: float) -> bool:
        """Repeat a request within a dialog at the next address of its name, as long as it still means
        something; returns whether it did (RFC 3263 §4.3)."""
        dialog, further, method = transaction.dialog, transaction.further, transaction.method
        if dialog is None:
            return False
        dialog.not_reached(transaction.flow)
        transaction.further = None
        if further is None or now >= transaction.until or not (method == "BYE" or dialog.takes(method)):
            return False
        if isinstance(transaction, InviteClientTransaction) and transaction.cancelled:
            return False
        found = dialog.elsewhere(further.targets, self._layer.config.listen_points)
        if found is None:
            return False
        flow, left = found
        branch = self._ids.branch()
        usual = further.usual.over(self._fixed.via(flow, branch), flow)
        first = usual if method == "BYE" else self._sized(usual, branch, dialog.large, now)
        if left:
            transaction.further = Further(usual, left)
        trial = TRIAL * self._layer.config.t1
        transaction.go_on(branch, first, now, _otherwise(first, usual, dialog.large), trial)
        return True

    def invite_settled(self, transaction: InviteClientTransaction) -> None:
        """No more 2xx can come (Timer M): forks that have not answered are gone (§13.2.2.4)."""
        self._end_invite(transaction)

    def end_dialog(self, dialog: Dialog) -> None:
        """Forget a dialog whose call is over and tell the TU."""
        if self._dialogs.end_call(dialog):
            self._events.append(DialogEnded(dialog))
        elif dialog.subscriptions:
            self._events.append(CallEnded(dialog))

    def _end_non_invite(self, transaction: NonInviteClientTransaction) -> None:
        """Take it that a request got no answer: a BYE ends its dialog, a SUBSCRIBE makes none."""
        if transaction.method == "SUBSCRIBE":
            self._dialogs.no_notify(transaction.call_id, transaction.local_tag)
        if transaction.method == "BYE" and transaction.dialog is not None:
            self.end_dialog(transaction.dialog)

    def _end_invite(self, transaction: InviteClientTransaction) -> None:
        """Let go of the dialogs of an INVITE that has found its end; the unconfirmed ones end with it."""
        if (
            transaction.reinvite
            and transaction.dialog is not None
            and transaction.dialog.invite_client is transaction
        ):
            transaction.dialog.invite_client = None
        for dialog in transaction.dialogs:
            if dialog.invite_client is transaction:
                dialog.invite_client = None
                self.end_dialog(dialog)
        transaction.dialogs.clear()


def _further(dialog: Dialog, usual: Outgoing) -> Further | None:
    """Return where else a request may go whose way `Dialog.next_hop` has just chosen."""
    return Further(usual, dialog.further) if dialog.further else None


def _otherwise(first: Outgoing, usual: Outgoing, large: LargeRequests) -> Outgoing | None:
    """Return what goes out when the first way does not work, if there is another."""
    return None if first is usual or large is LargeRequests.TCP else usual


def _route_lines(route: tuple[str, ...]) -> str:
    return "".join([f"Route: {value}\r\n" for value in route])


def _route_set(response: Response) -> tuple[str, ...]:
    """Return the route set of a dialog made by our INVITE: Record-Route in reverse order (§12.1.2)."""
    if "Record-Route" not in response.headers:
        return ()
    return tuple(reversed(response.headers.values("Record-Route")))
