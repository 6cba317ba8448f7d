"""One B leg: an INVITE over one trunk and what becomes of it, as UAC.

RFC 3261 §9.1, §13.2, §15; RFC 3262 §4; RFC 6026; RFC 6228. States::

    CALLING --100--> PROCEEDING --18x--> EARLY --200--> CONFIRMED --BYE--> TERMINATED
       \\________\\____ given up ____\\--> ABANDONED --final response, time-out--> TERMINATED

An abandoned INVITE is cancelled (the endpoint holds the CANCEL until the first 1xx, §9.1); should a 200
come all the same it is ACKed and its dialog ended with BYE at once, and so is every fork after the first to
answer: at most one B leg of a call is ever connected (DESIGN 1.7). The object outlives its call for that.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, NamedTuple

from proxy.call.config import Reliability, Trunk
from proxy.call.early_dialogs import EarlyDialog, EarlyDialogs, Prack
from proxy.call.leg import Leg
from proxy.call.media_leg import MediaLeg
from proxy.call.media_security import MediaSecurity
from proxy.call.outcome import NORMAL_CLEARING, reason_header
from proxy.errors import RemoteProtocolError
from proxy.sdp import Codec, Direction
from proxy.sip.body import session_description
from proxy.sip.dialog import Dialog
from proxy.sip.digest_client import DigestAttempt
from proxy.sip.endpoint import Endpoint
from proxy.sip.events import RequestReceived, ResponseReceived
from proxy.sip.invite_client import InviteClientTransaction
from proxy.sip.message import Response
from proxy.sip.reliable import OPTION_TAG
from proxy.sip.spec import InviteSpec

if TYPE_CHECKING:
    from proxy.call.call import Call

__all__ = ["BLeg", "BLegState", "Refusal"]


class BLegState(enum.Enum):
    """How far the INVITE to the trunk has come."""

    CALLING = "calling"
    PROCEEDING = "proceeding"
    EARLY = "early"
    CONFIRMED = "confirmed"
    ABANDONED = "abandoned"
    TERMINATED = "terminated"


_OPEN = frozenset({BLegState.CALLING, BLegState.PROCEEDING, BLegState.EARLY})


class Refusal(NamedTuple):
    """Why no leg will be connected: the response that counts, or None where there was none at all."""

    leg: BLeg
    status: int
    response: Response | None


class BLeg(Leg):
    """The called side, one attempt."""

    __slots__ = (
        "_attempt",
        "_early",
        "_pracks",
        "_reach",
        "_spec",
        "_symmetric",
        "state",
        "transaction",
        "trunk",
    )

    transaction: InviteClientTransaction

    def __init__(
        self, call: Call, endpoint: Endpoint, trunk: Trunk, media: MediaLeg, *, symmetric: bool = False
    ) -> None:
        """``symmetric``: a phone behind NAT, reached where its messages come from, not at its Contact."""
        security = MediaSecurity(trunk.srtp, call.core.srtp_keys, emergency=call.route.emergency)
        party = call.core.admission.callee_of(call.route, trunk)
        super().__init__("b", call, endpoint, party, latching=trunk.latching, security=security)
        self._symmetric = symmetric
        self._reach = call.core.admission.routes.reach_of(trunk.name)
        self.trunk = trunk
        self.codecs = trunk.codecs
        self.digits = trunk.digits
        self.media = media
        self.state = BLegState.CALLING
        self._attempt: DigestAttempt | None = None
        self._spec: InviteSpec | None = None
        self._early: EarlyDialogs | None = None
        """From the offer to the final response."""
        self._pracks: list[Prack] = []
        """Those that have no final response yet."""

    def offer_as_caller(self, codecs: Iterable[Codec], peer: str) -> bytes:
        """Return the offer of the INVITE to this address, with packet time, attributes and direction of the
        caller's audio.

        Help is offered both ways, whatever the caller wants: a callee who takes no held call is no help.
        """
        self.signalled_from = peer
        caller = self.call.a
        return self.offer(
            codecs,
            ptime_ms=20 if caller.chosen is None else caller.chosen.ptime_ms,
            attributes=caller.carried_attributes,
            direction=Direction.SENDRECV if self.call.route.emergency else caller.wish,
        )

    def send(self, spec: InviteSpec, now: float) -> None:
        """Send the INVITE."""
        self.signalled_from = spec.flow.remote_host
        self._early = EarlyDialogs(self)
        spec = spec._replace(headers=(*spec.headers, *self._extensions()))
        self._attempt = self._begin_attempt(None)
        self._invite(spec, now)

    def _invite(self, spec: InviteSpec, now: float) -> None:
        self._spec = spec
        headers = self.session.request_headers()
        if self._attempt is not None:
            headers += self._attempt.headers("INVITE", spec.uri)
        spec = spec._replace(headers=(*spec.headers, *headers))
        self.transaction = self.endpoint.invite(spec, self, now)

    def attempt(self, dialog: Dialog | None = None) -> DigestAttempt | None:
        """Begin a request within a dialog to the trunk, which may ask who the gate is."""
        return self._begin_attempt(dialog or self.dialog)

    def _begin_attempt(self, dialog: Dialog | None) -> DigestAttempt | None:
        urgent = self.call.route.emergency
        return self.call.core.accounts.attempt(self.trunk, dialog, host=self.signalled_from, urgent=urgent)

    def _extensions(self) -> list[tuple[str, str]]:
        """Say which extensions the gate knows on this trunk (RFC 3262 §4, RFC 6228 §4)."""
        wanted, known = self.trunk.reliable, self.endpoint.config.supported
        if wanted is Reliability.OFF:
            known = tuple(tag for tag in known if tag != OPTION_TAG)
        headers = [("Supported", ", ".join((*known, "199")))]
        if wanted is Reliability.REQUIRED and not self.call.route.emergency:
            headers.append(("Require", OPTION_TAG))
        return headers

    def _repeats(self, response: Response, now: float) -> bool:
        """Repeat the INVITE with credentials where the trunk asks for them and has an account (§22.2), or
        with a longer session interval (RFC 4028 §7.3)."""
        spec = self._spec
        assert spec is not None  # noqa: S101  (it was sent)
        challenged = self._attempt is not None and self._attempt.may_repeat(response)
        if not challenged and not (response.status == 422 and self.session.too_small(response)):
            return False
        before = self.transaction
        spec = spec._replace(call_id=before.call_id, local_tag=before.local_tag, cseq=before.cseq + 1)
        self.state = BLegState.CALLING
        self._invite(spec, now)
        self.call.b_asked_again(now)
        return True

    def _end(self, state: BLegState) -> None:
        """Nothing more of this INVITE counts."""
        self.state = state
        self.over = True
        self._early = None
        self._pracks.clear()

    # What the trunk does ------------------------------------------------------------------------------------

    def responded(self, response: Response, dialog: Dialog | None, now: float, rack: str = "") -> None:
        """Take a response to the INVITE; ``rack``: it asks for a PRACK (RFC 3262 §4)."""
        status = response.status
        if dialog is not None:
            dialog.symmetric = self._symmetric
            dialog.reach = self._reach
        if status >= 300:
            if self.state in _OPEN:
                if self._repeats(response, now):
                    return
                self._end(BLegState.TERMINATED)
                self.call.b_failed(self, status, response, now)
            else:
                self.state = BLegState.TERMINATED
            # Nothing more comes; over TCP the two would keep each other alive.
            self.transaction.owner = None
        elif status >= 200:
            self._accepted(response, dialog, now)
        elif self.state in _OPEN:
            if status == 100:
                if self.state is BLegState.CALLING:
                    self.state = BLegState.PROCEEDING
                    self.call.b_trying(self, now)
                return
            if dialog is not None and rack:
                self._pracks.append(Prack(self.endpoint, dialog, rack, self.attempt(dialog), now))
            self._progressed(response, dialog, now, reliably=bool(rack))

    def _progressed(self, response: Response, dialog: Dialog | None, now: float, *, reliably: bool) -> None:
        assert self._early is not None  # noqa: S101  (there is no final response yet)
        early = self._early.enter(dialog)
        if response.status == 199:
            self._branch_failed(early)
            return
        early.answered(session_description(response), reliably=reliably)
        self.state = BLegState.EARLY
        self.dialog = dialog
        self.call.b_progressed(self, response, now)

    def _branch_failed(self, early: EarlyDialog) -> None:
        """One branch of a forked INVITE has failed, the others go on (RFC 6228 §4)."""
        assert self._early is not None  # noqa: S101
        spoke = early is self._early.speaking
        other = self._early.drop(early)
        if early.dialog is not None:
            self.endpoint.terminate(early.dialog)
        if other is not None:
            self._early.listen_to(other, self)
        elif spoke:
            self.call.b_silenced()

    def _accepted(self, response: Response, dialog: Dialog | None, now: float) -> None:
        assert dialog is not None  # noqa: S101  (every 2xx to an INVITE comes with one)
        self.endpoint.ack(dialog, now=now)
        self.note_way(dialog)
        if self.state in _OPEN:
            assert self._early is not None  # noqa: S101  (this is the first final response)
            self._early.enter(dialog).answered(session_description(response), reliably=False)
            self.state = BLegState.CONFIRMED
            self.established = True
            self.dialog = dialog
            self.heard(response)
            self.session.accepted(response, now)
            self.call.b_answered(self, response, now)
            return
        # A fork that was too late, or the answer that crossed our CANCEL.
        self.part_from(dialog, (reason_header(NORMAL_CLEARING),), now)
        if self.state is BLegState.ABANDONED:
            self.state = BLegState.TERMINATED

    def unreachable(self, status: int, now: float) -> None:
        """No final response will come: 408 after Timer B, 503 after a transport failure (RFC 3261
        §8.1.3.1)."""
        if self.state in _OPEN:
            self._end(BLegState.TERMINATED)
            self.call.b_failed(self, status, None, now)
        else:
            self.state = BLegState.TERMINATED

    def request(self, event: RequestReceived, now: float) -> None:
        """Answer a request within a dialog.

        An UPDATE may offer something within an early one once our own offer is answered there (RFC 3311
        §5.2).
        """
        update = event.request.method == "UPDATE"
        if self.established and event.dialog is not self.dialog:
            self.endpoint.respond(event.transaction, 481, now=now)  # a fork that was too late
            return
        if self._early is not None and update and session_description(event.request):
            early = self._early.enter(event.dialog)
            status = 491
            try:
                if not early.silent:
                    self._early.listen_to(early, self)
            except RemoteProtocolError as error:
                status = error.status_hint
            if self.chosen is None or early is not self._early.speaking:
                self.endpoint.respond(event.transaction, status, now=now)
                return
        super().request(event, now)

    def responded_within(self, event: ResponseReceived, now: float) -> None:
        """Take a response to a PRACK, or to another request within the dialog."""
        for prack in self._pracks:
            if prack.transaction is event.transaction:
                if prack.responded(event.response, now):
                    self._pracks.remove(prack)
                return
        super().responded_within(event, now)

    def unanswered_within(self, transaction: object, now: float, *, reached: bool) -> None:
        """Take the news that a PRACK, or another request within the dialog, gets no final response."""
        self._pracks = [prack for prack in self._pracks if prack.transaction is not transaction]
        super().unanswered_within(transaction, now, reached=reached)

    # What the call asks for ---------------------------------------------------------------------------------

    def listen(self, dialog: Dialog | None) -> bool:
        """Let an early dialog speak if it has sent a description; returns whether it is the one that speaks.

        Raises `RemoteProtocolError` for an answer that is no use.
        """
        assert self._early is not None  # noqa: S101  (asked for while there is no final response)
        early = self._early.enter(dialog)
        if early.answer:
            self._early.listen_to(early, self)
        return early is self._early.speaking

    def settle(self) -> None:
        """Put in force what the dialog that answered the call has said, whoever spoke before.

        Raises `RemoteProtocolError` where that is no use.
        """
        early, self._early = self._early, None
        assert early is not None  # noqa: S101  (once, when the call is answered)
        early.listen_to(early.enter(self.dialog), self)
        if self.chosen is None:
            self.take_answer(b"")
        self._spec = None

    def hang_up(self, cause: int, now: float, headers: Sequence[tuple[str, str]] = ()) -> None:
        """End the leg as its state asks: CANCEL or BYE. ``headers`` replace the Reason made from
        ``cause``."""
        if self.state in _OPEN:
            self._end(BLegState.ABANDONED)
            self.endpoint.cancel(self.transaction, headers=headers or (reason_header(cause),), now=now)
        elif self.state is BLegState.CONFIRMED:
            self.state = BLegState.TERMINATED
            if not self.over:
                self.send_bye(cause, now, headers)
