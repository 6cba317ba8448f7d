"""The UAS core: requests from the network to the TU, responses of the TU to the network.

RFC 3261 §8.2, §9.2, §12.2.2, §13.3, §14.2, §15.1.2, §18.2; RFC 3262 §3; RFC 6026.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import suppress

from proxy.errors import LocalProtocolError, RemoteProtocolError
from proxy.sip.accepted import AwaitedAck
from proxy.sip.address import NameAddr
from proxy.sip.declining import Declinable, DeclinedRequests, declinable
from proxy.sip.dialog import TARGET_REFRESH, Dialog, DialogState, DialogTable
from proxy.sip.events import (
    AckReceived,
    AckTimedOut,
    CallEnded,
    Cancelled,
    DialogEnded,
    Event,
    PrackTimedOut,
    RequestFailed,
    RequestReceived,
    ServerTransaction,
)
from proxy.sip.flow import Flow
from proxy.sip.ids import IdSource
from proxy.sip.inspection import Refusal, inspect
from proxy.sip.invite_client import InviteClientTransaction
from proxy.sip.invite_server import InviteServerTransaction
from proxy.sip.message import Request, Response
from proxy.sip.non_invite_server import NonInviteServerTransaction
from proxy.sip.parser import is_answerable, validate_request
from proxy.sip.reliable import OPTION_TAG, RAck, ReliableResponses
from proxy.sip.transactions import MergeKey, ServerKey, TransactionLayer, server_key
from proxy.sip.writer import (
    ExtraHeaders,
    Fixed,
    ResponseLines,
    header_lines,
    response_flow,
)

__all__ = ["Uas"]

logger = logging.getLogger(__name__)

_OF_CALLS = frozenset({"BYE", "INFO", "INVITE", "PRACK", "REFER", "UPDATE"})
"""Requests that mean nothing in the dialog of a subscription (RFC 5057 §5.3)."""

_WITHIN_DIALOGS = frozenset({"BYE", "INFO", "PRACK", "UPDATE"})
"""Requests that mean nothing without a dialog (§15.1.2; RFC 3262 §3, RFC 3311 §5.2, RFC 6086 §4.2.2)."""


class Uas:
    """Server side of one endpoint."""

    __slots__ = ("_declined", "_dialogs", "_events", "_fixed", "_ids", "_layer")

    def __init__(
        self, layer: TransactionLayer, dialogs: DialogTable, events: list[Event], fixed: Fixed, ids: IdSource
    ) -> None:
        self._layer = layer
        self._dialogs = dialogs
        self._events = events
        self._fixed = fixed
        self._ids = ids
        self._declined = DeclinedRequests(64 * layer.config.t1)

    # Requests in --------------------------------------------------------------------------------------------

    def receive(self, request: Request, flow: Flow, size: int, now: float) -> None:
        """Take a request of ``size`` octets."""
        try:
            validate_request(request)
            if request.method == "ACK":
                self._receive_ack(request, flow, now)
            else:
                self._receive_request(request, flow, size, now)
        except RemoteProtocolError as error:
            self._refuse_broken(request, flow, error)

    def decline(self, new: Declinable, size: int, may_decline: Callable[[str], bool], now: float) -> bool:
        """Refuse a request of ``size`` octets and forget it; see `Endpoint.decline`."""
        if new.key in self._layer.servers or not may_decline(new.uri):
            return False
        self._send_stateless(new.response(), new.back, size)
        self._declined.add(new.key, now)
        return True

    def _repeats(self, request: Request, key: ServerKey, flow: Flow, size: int, now: float) -> bool:
        """Say whether a request has come before; then it is answered as it was (§17.2, §8.2.7)."""
        known = self._layer.servers.get(key)
        if isinstance(known, InviteServerTransaction):
            known.receive_invite()
        elif known is not None:
            known.receive_request()
        else:
            again = declinable(request, flow) if self._declined.holds(key, now) else None
            if again is None:
                return False
            self._send_stateless(again.response(), again.back, size)
        return True

    def _receive_request(self, request: Request, flow: Flow, size: int, now: float) -> None:
        method = request.method
        to_tag = request.to.tag or ""
        key = server_key(request, method, to_tag)
        if self._repeats(request, key, flow, size, now):
            return
        lines = ResponseLines(request, flow, size)
        back = response_flow(request.top_via, flow)
        if method == "CANCEL":
            self._receive_cancel(request, key, back, lines, now)
            return
        refusal = inspect(request, self._layer.config)
        if not to_tag:
            merge_key = (lines.call_id, lines.from_tag, f"{lines.cseq} {method}")
            loop = self._find_loop(request, merge_key)
            # Nothing is kept of what is refused before anybody knows whose it is (§8.2.7).
            if loop is not None:
                self._refuse_stateless(lines, back, loop)
            elif method in _WITHIN_DIALOGS:
                self._refuse_stateless(lines, back, refusal or Refusal(481))
            elif refusal is not None and not (method == "INVITE" and self._layer.config.invites_to_tu):
                self._refuse_stateless(lines, back, refusal)
            else:
                transaction = self._begin(method, key, merge_key, back, lines)
                transaction.start(now)
                self._events.append(RequestReceived(transaction, request, None, flow, refusal))
            return
        dialog = self._dialogs.get((request.call_id, to_tag, lines.from_tag))
        if dialog is None and method == "NOTIFY" and refusal is None:
            dialog = self._dialogs.notified(request, flow)
        if dialog is None:
            self._refuse_stateless(lines, back, Refusal(481))
            return
        rack = RAck.of(request) if method == "PRACK" else None
        refusal = self._enter_dialog(request, dialog, flow) or refusal
        if rack is not None and refusal is None:
            refusal = self._enter_prack(rack, dialog, now)
        transaction = self._begin(method, key, None, back, lines)
        transaction.start(now)
        if refusal is not None:
            transaction.internal = True
            self.respond(transaction, refusal.status, headers=refusal.headers, now=now)
            return
        self._assign(transaction, dialog, now)
        self._events.append(RequestReceived(transaction, request, dialog, flow))

    def _begin(
        self, method: str, key: ServerKey, merge_key: MergeKey | None, back: Flow, lines: ResponseLines
    ) -> ServerTransaction:
        if method == "INVITE":
            return InviteServerTransaction(self._layer, key=key, merge_key=merge_key, flow=back, lines=lines)
        return NonInviteServerTransaction(
            self._layer, method, key=key, merge_key=merge_key, flow=back, lines=lines
        )

    def _assign(self, transaction: ServerTransaction, dialog: Dialog, now: float) -> None:
        """Give a request that will reach the TU to its dialog."""
        transaction.dialog = dialog
        if isinstance(transaction, InviteServerTransaction):
            dialog.invite_server = transaction
        elif transaction.method == "BYE":
            self._enter_bye(dialog, now)

    def _find_loop(self, request: Request, merge_key: MergeKey) -> Refusal | None:
        """Find a request that came here by two ways (§8.2.2.2), or that is our own and came back
        unchanged."""
        layer = self._layer
        if merge_key in layer.merged:
            return Refusal(482)
        if request.method == "INVITE" and layer.clients:
            for part in ",".join(request.headers.get_all("Via")).split("branch=")[1:]:
                branch = part.partition(";")[0].partition(",")[0].strip()
                ours = layer.clients.get((branch, "INVITE"))
                # With another Request-URI it is a spiral, as when a number of ours is called by way of the
                # trunk.
                if isinstance(ours, InviteClientTransaction) and ours.lines.uri == request.uri:
                    return Refusal(482)
        return None

    def _enter_dialog(self, request: Request, dialog: Dialog, flow: Flow) -> Refusal | None:
        """Check a request against its dialog and let it move the dialog on (§12.2.2)."""
        number = request.cseq.number
        if dialog.remote_cseq is not None and number <= dialog.remote_cseq:
            return Refusal(500)
        dialog.remote_cseq = number
        self._dialogs.moved(dialog, flow)
        if not dialog.for_calls and request.method in _OF_CALLS:
            return Refusal(481)
        if not dialog.takes(request.method):
            # A BYE is under way: a crossing BYE is fine (§15.1.2), anything else comes too late.
            if request.method != "BYE":
                return Refusal(481)
            self._drop_held_bye(dialog)
            return Refusal(200)
        if request.method == "INVITE":
            if dialog.invite_server is not None:
                return Refusal(500, (("Retry-After", str(self._ids.retry_after())),))
            if dialog.invite_client is not None:
                return Refusal(491)
        return None

    @staticmethod
    def _enter_prack(rack: RAck, dialog: Dialog, now: float) -> Refusal | None:
        """Find the response that a PRACK acknowledges (RFC 3262 §3)."""
        provisionals = dialog.provisionals
        if provisionals is None or not provisionals.acknowledge(rack, now):
            return Refusal(481)
        return None

    def _drop_held_bye(self, dialog: Dialog) -> None:
        """End a dialog whose peer has sent BYE while ours waited for an ACK: it would only get 481."""
        awaited = dialog.awaited_ack
        if awaited is not None and awaited.held_bye is not None:
            awaited.stop()
            dialog.awaited_ack = None
            awaited.held_bye[0].abandon()
            self.end_dialog(dialog)

    def _enter_bye(self, dialog: Dialog, now: float) -> None:
        """End what a BYE ends at once (§15.1.2): our 2xx needs no ACK, a pending re-INVITE gets 487."""
        confirmed = dialog.state is DialogState.CONFIRMED
        dialog.state = DialogState.TERMINATED
        if dialog.awaited_ack is not None:
            dialog.awaited_ack.stop()
            dialog.awaited_ack = None
        if dialog.invite_client is not None:
            dialog.invite_client.dialog_ended(now)
        pending = dialog.invite_server
        if confirmed and pending is not None:
            self.respond(pending, 487, now=now)

    def _receive_cancel(
        self, cancel: Request, key: ServerKey, back: Flow, lines: ResponseLines, now: float
    ) -> None:
        """Answer a CANCEL and tell the TU if it still matters (§9.2)."""
        found = self._layer.servers.get(server_key(cancel, "INVITE", cancel.to.tag or ""))
        if not isinstance(found, InviteServerTransaction):
            self._refuse_stateless(lines, back, Refusal(481))
            return
        transaction = self._begin("CANCEL", key, None, back, lines)
        transaction.start(now)
        # §9.2: the To tag of the 200 should be that of the INVITE's own response.
        self._choose_tag(found.lines)
        if not transaction.lines.to_tag:
            transaction.lines.choose_tag(found.lines.to_tag)
        self.respond(transaction, 200, now=now)
        if not found.answered:
            self._events.append(Cancelled(found, cancel))

    def _receive_ack(self, request: Request, flow: Flow, now: float) -> None:
        to_tag = request.to.tag or ""
        servers = self._layer.servers
        transaction = servers.get(server_key(request, "INVITE", to_tag))
        if transaction is None and not request.top_via.has_unique_branch:
            # RFC 2543: the ACK has our tag, the INVITE it belongs to may have had none (§17.2.3).
            transaction = servers.get(server_key(request, "INVITE", ""))
            if transaction is not None and transaction.lines.to_tag != to_tag:
                transaction = None
        if isinstance(transaction, InviteServerTransaction) and not transaction.receive_ack(now):
            return
        dialog = self._dialogs.get((request.call_id, to_tag, request.from_.tag or ""))
        if dialog is None or dialog.awaited_ack is None or dialog.awaited_ack.cseq != request.cseq.number:
            return
        awaited = dialog.awaited_ack
        self._dialogs.moved(dialog, flow)
        self._end_wait(awaited, now)
        if awaited.held_bye is None:
            self._events.append(AckReceived(dialog, request))

    def _end_wait(self, awaited: AwaitedAck, now: float) -> None:
        awaited.stop()
        awaited.dialog.awaited_ack = None
        if awaited.held_bye is not None:
            bye, data = awaited.held_bye
            bye.start(data, now)

    def _ack_timed_out(self, awaited: AwaitedAck, now: float) -> None:
        self._end_wait(awaited, now)
        if awaited.held_bye is None:
            self._events.append(AckTimedOut(awaited.dialog))

    def _refuse_broken(self, request: Request, flow: Flow, error: RemoteProtocolError) -> None:
        """Answer a request that can't be trusted with a transaction, as far as it can be answered at all."""
        logger.debug("broken request dropped or refused: %s", error)
        if not is_answerable(request):
            return
        back = flow
        with suppress(RemoteProtocolError):
            back = response_flow(request.top_via, flow)
            request.note_source(flow.remote_host, flow.remote_port)
        headers = request.headers
        tag = self._ids.derived_tag(f"{headers.get('Call-ID')} {headers.get('CSeq')} {headers.get('From')}")
        response = Response.to_request(request, error.status_hint, to_tag=tag)
        self._layer.send(response.serialize(), back)

    # Responses out ------------------------------------------------------------------------------------------

    def respond(
        self,
        transaction: ServerTransaction,
        status: int,
        *,
        reason: str = "",
        headers: ExtraHeaders = (),
        body: bytes = b"",
        content_type: str = "",
        reliable: bool = False,
        now: float,
    ) -> Dialog | None:
        """Send a response (§8.2.6, §12.1.1, §13.3.1); see `Endpoint.respond`."""
        if transaction.answered:
            raise LocalProtocolError(f"a second final response ({status}) to one {transaction.method}")
        lines = transaction.lines
        if status == 100 and not reliable:
            transaction.respond(100, lines.trying(), now)
            return None
        if "\n" in reason or "\r" in reason:
            raise LocalProtocolError("line end within a reason phrase")
        self._choose_tag(lines)
        extra = self._extra_lines(transaction, status, headers)
        if reliable:
            return self._respond_reliably(transaction, status, reason, extra, body, content_type, now)
        data = lines.response(status, reason, extra, body, content_type)
        if isinstance(transaction, NonInviteServerTransaction):
            transaction.respond(status, data, now)
            return self._finish_non_invite(transaction, status) if status >= 200 else None
        return self._respond_invite(transaction, status, data, now)

    def send_trying(self, transaction: InviteServerTransaction, now: float) -> None:
        """The TU takes its time: 100 (Trying) (§17.2.1)."""
        transaction.respond(100, transaction.lines.trying(), now)

    def reject_stateless(self, transaction: ServerTransaction, status: int, headers: ExtraHeaders) -> None:
        """Refuse and forget (§8.2.7); see `Endpoint.reject_stateless`."""
        lines = transaction.lines
        if transaction.answered or lines.to_tag:
            raise LocalProtocolError("only an unanswered request outside a dialog can be refused statelessly")
        transaction.discard()
        self._refuse_stateless(lines, transaction.flow, Refusal(status, tuple(headers)))

    def _refuse_stateless(self, lines: ResponseLines, flow: Flow, refusal: Refusal) -> None:
        """Answer a request of which nothing is kept: whoever sent it may be anybody, so it does not even hear
        what software this is (§20.35). Headers that make the answer too large are left out, the last first:
        of several challenges the strongest stays (RFC 8760 §2.4).
        """
        if not lines.to_tag:
            lines.choose_tag(
                self._ids.derived_tag(f"{lines.call_id} {lines.cseq} {lines.from_tag} {lines.branch}")
            )
        for kept in range(len(refusal.headers), -1, -1):
            data = lines.response(refusal.status, "", header_lines(refusal.headers[:kept]))
            if self._send_stateless(data, flow, lines.request_size):
                return

    def _send_stateless(self, data: bytes, flow: Flow, request_size: int) -> bool:
        """Send unless that would turn a forged address into a target; say whether it was sent."""
        if not flow.reliable and len(data) > self._layer.config.amplification_limit * request_size:
            return False
        self._layer.send(data, flow)
        return True

    def server_failed(self, transaction: ServerTransaction, now: float) -> None:
        """No ACK for a refusal, or no way to deliver a response (§17.2.1, §17.2.4)."""
        del now
        if not transaction.internal:
            self._events.append(RequestFailed(transaction))
        if isinstance(transaction, InviteServerTransaction):
            self._forget_invite(transaction)
        elif transaction.method == "BYE" and transaction.dialog is not None:
            self.end_dialog(transaction.dialog)

    def end_dialog(self, dialog: Dialog) -> None:
        """Forget a dialog whose call is over and tell the TU."""
        if self._dialogs.end_call(dialog):
            self._events.append(DialogEnded(dialog))
        elif dialog.subscriptions:
            self._events.append(CallEnded(dialog))

    def _forget_invite(self, transaction: InviteServerTransaction) -> None:
        """Note that the pending INVITE of a dialog is refused: an early dialog ends with it (§12.3)."""
        dialog = transaction.dialog
        if dialog is not None and dialog.invite_server is transaction:
            dialog.invite_server = None
            if dialog.provisionals is not None:
                dialog.provisionals.finish()
            if dialog.state is DialogState.EARLY:
                self.end_dialog(dialog)

    def _respond_reliably(  # noqa: PLR0917
        self,
        transaction: ServerTransaction,
        status: int,
        reason: str,
        extra: str,
        body: bytes,
        content_type: str,
        now: float,
    ) -> Dialog:
        """Send a provisional response that is repeated until its PRACK (RFC 3262 §3)."""
        if not isinstance(transaction, InviteServerTransaction) or not 100 < status < 200:
            raise LocalProtocolError(f"a {status} to {transaction.method} can't be sent reliably")
        dialog = transaction.dialog or self._make_dialog(transaction)
        provisionals = dialog.provisionals
        if provisionals is None:
            provisionals = dialog.provisionals = ReliableResponses(
                self._layer, transaction, self._ids.rseq(), self._prack_timed_out
            )
        # §5.1 of RFC 3311: who may send an UPDATE now learns here whether it is taken.
        extra += (
            f"{self._fixed.allow}{self._fixed.supported}Require: {OPTION_TAG}\r\n"
            f"RSeq: {provisionals.next_rseq}\r\n"
        )
        data = transaction.lines.response(status, reason, extra, body, content_type)
        provisionals.send(status, data, now, described=bool(body))
        return dialog

    def _prack_timed_out(self, transaction: InviteServerTransaction) -> None:
        self._events.append(PrackTimedOut(transaction))

    def _respond_invite(
        self, transaction: InviteServerTransaction, status: int, data: bytes, now: float
    ) -> Dialog | None:
        dialog = transaction.dialog
        if status < 300 and dialog is not None and dialog.state is DialogState.TERMINATED:
            raise LocalProtocolError("an INVITE can't be accepted after the BYE of its dialog")
        if 200 <= status < 300 and dialog is not None and dialog.withholds_success:
            raise LocalProtocolError("no 2xx while a description waits for its PRACK")
        transaction.respond(status, data, now)
        if status >= 300:
            self._forget_invite(transaction)
            transaction.lines.release()
            return None
        if dialog is None:
            dialog = self._make_dialog(transaction)
        if status >= 200:
            self._accept(transaction, dialog, data, now)
        return dialog

    def _make_dialog(self, transaction: ServerTransaction) -> Dialog:
        """Make the dialog of a 101-299 to an INVITE (§12.1.1), or of a 2xx to a SUBSCRIBE (RFC 6665
        §4.2.1.3)."""
        lines = transaction.lines
        dialog = Dialog(
            call_id=lines.call_id,
            local=lines.to,
            local_tag=lines.to_tag,
            remote=lines.from_,
            remote_tag=lines.from_tag,
            # An INVITE without Contact breaks §8.1.1.8; its From is the best guess at where the peer is.
            remote_target=lines.contact or NameAddr.parse(lines.from_).uri_text,
            route_set=lines.record_routes,
            remote_cseq=lines.cseq,
            flow=lines.source,
            for_calls=isinstance(transaction, InviteServerTransaction),
            owner=transaction.owner,
        )
        if isinstance(transaction, InviteServerTransaction):
            dialog.invite_server = transaction
        else:
            dialog.state = DialogState.CONFIRMED
        transaction.dialog = dialog
        self._dialogs.add(dialog)
        return dialog

    def _accept(self, transaction: InviteServerTransaction, dialog: Dialog, data: bytes, now: float) -> None:
        """Do what a 2xx to an INVITE does to its dialog (§13.3.1.4, §14.2)."""
        lines = transaction.lines
        dialog.state = DialogState.CONFIRMED
        dialog.invite_server = None
        if dialog.provisionals is not None:
            dialog.provisionals.finish()
        if lines.contact is not None:
            dialog.refresh_target(lines.contact)
        if dialog.awaited_ack is not None:
            # A re-INVITE overtook the ACK of our earlier 2xx, which therefore has arrived.
            dialog.awaited_ack.stop()
        dialog.awaited_ack = AwaitedAck(self._layer, dialog, transaction, data, self._ack_timed_out)
        dialog.awaited_ack.start(now)
        lines.release()

    def _finish_non_invite(self, transaction: NonInviteServerTransaction, status: int) -> Dialog | None:
        dialog, method, contact = transaction.dialog, transaction.method, transaction.lines.contact
        made = None
        if dialog is None:
            if method == "SUBSCRIBE" and status < 300:
                made = self._make_dialog(transaction)
        elif method == "BYE":
            self.end_dialog(dialog)
        elif method in TARGET_REFRESH and status < 300 and contact is not None:
            dialog.refresh_target(contact)
        transaction.lines.release()
        return made

    def _choose_tag(self, lines: ResponseLines) -> None:
        if not lines.to_tag:
            lines.choose_tag(self._ids.tag())

    def _extra_lines(self, transaction: ServerTransaction, status: int, headers: ExtraHeaders) -> str:
        """Print the TU's headers and those that the RFC wants beside them (§8.2.6, §12.1.1, §13.3.1,
        §20.5)."""
        fixed = self._fixed
        text = ""
        if status < 300 and transaction.method in TARGET_REFRESH:
            lines = transaction.lines
            dialog = transaction.dialog
            user = "" if dialog is None else dialog.contact_user
            text = fixed.contact(transaction.flow, user, secure=lines.secure)
            if lines.record_routes and transaction.method in {"INVITE", "SUBSCRIBE"}:
                text = lines.record_route_lines() + text
            if status >= 200 and transaction.method in {"INVITE", "UPDATE"}:
                text += fixed.allow + fixed.supported
        text += fixed.server
        return fixed.overridden(text, headers)
