"""The A leg: the caller's INVITE and the dialog it becomes, as UAS.

RFC 3261 §13.3, §15; RFC 3262 §3, §5; RFC 3326. States::

    INCOMING --18x with To tag--> EARLY --200--> ACCEPTED --ACK--> CONFIRMED --BYE--> TERMINATED
    INCOMING, EARLY --final failure, CANCEL--> TERMINATED
    ACCEPTED --hang-up before the ACK--> ENDING --ACK, Timer H--> TERMINATED

A BYE may not go before the ACK has come or Timer H has fired (§15): that is what ENDING waits for. A 200
waits for the PRACK of a description that went reliably (RFC 3262 §3): until then the leg stays EARLY.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from typing import TYPE_CHECKING

from proxy.call.config import Reliability
from proxy.call.leg import Leg, Offer
from proxy.call.media_security import MediaSecurity
from proxy.call.outcome import NORMAL_CLEARING, reason_header
from proxy.call.ports import Latching
from proxy.errors import RemoteProtocolError
from proxy.sdp import (
    AudioDescription,
    ChosenAudio,
    Direction,
    SessionDescription,
    carried_attributes,
    choose_codec,
    parse_sdp,
)
from proxy.sip.body import session_description
from proxy.sip.endpoint import Endpoint
from proxy.sip.events import AckReceived, RequestReceived
from proxy.sip.headers import canonical_name
from proxy.sip.invite_server import InviteServerTransaction
from proxy.sip.message import Request
from proxy.sip.reliable import names_extension

if TYPE_CHECKING:
    from proxy.call.call import Call
    from proxy.call.routing import Route

__all__ = ["ALeg", "ALegState"]


class ALegState(enum.Enum):
    """How far the caller's INVITE has come."""

    INCOMING = "incoming"
    EARLY = "early"
    ACCEPTED = "accepted"
    CONFIRMED = "confirmed"
    ENDING = "ending"
    TERMINATED = "terminated"


_UNANSWERED = frozenset({ALegState.INCOMING, ALegState.EARLY})


class ALeg(Leg):
    """The caller's side."""

    __slots__ = (
        "_offer",
        "_offered_audio",
        "_progress",
        "_reliability",
        "_settled",
        "_success",
        "_told",
        "bye_cause",
        "description",
        "invite",
        "state",
        "transaction",
    )

    def __init__(
        self,
        call: Call,
        endpoint: Endpoint,
        event: RequestReceived,
        *,
        latching: Latching,
        security: MediaSecurity,
    ) -> None:
        super().__init__("a", call, endpoint, call.route.caller, latching=latching, security=security)
        assert isinstance(event.transaction, InviteServerTransaction)  # noqa: S101
        self.transaction = event.transaction
        self.transaction.owner = self
        self.invite: Request = event.request
        self.heard(event.request)
        self.codecs = call.route.peer.codecs
        self.digits = call.route.peer.digits
        self.description = session_description(event.request)
        """The SDP of the INVITE, or b""."""
        self.state = ALegState.INCOMING
        self.signalled_from = event.flow.remote_host
        self.bye_cause = NORMAL_CLEARING
        self._progress = (183, False)
        self._told = False
        """The caller has the gate's description: it stays until the 200 (RFC 3261 §13.2.1)."""
        self._reliability = _reliability(event.request, call.route)
        self._settled = False
        """The gate's description went reliably: no other response of this INVITE carries one (RFC 3261
        §13.2.1)."""
        self._success: tuple[tuple[str, str], ...] | None = None
        """Headers of a 200 that waits for a PRACK."""
        self._offer: SessionDescription | None = None
        self._offered_audio: AudioDescription | None = None

    # SDP ----------------------------------------------------------------------------------------------------

    @property
    def late_offer(self) -> bool:
        """The INVITE came without SDP: the gate offers in its 200 (RFC 3261 §13.2.1)."""
        return not self.description

    @property
    def takes_early_offer(self) -> bool:
        """An offer of the gate can go in a provisional response, and be answered in its PRACK (RFC 3262
        §5)."""
        return self._reliability is not Reliability.OFF

    @property
    def needs_offer(self) -> bool:
        """The next provisional response has to be the gate's offer: the first reliable one is (RFC 3262
        §5)."""
        return self.late_offer and self.local is None and self._reliability is Reliability.REQUIRED

    @property
    def ipv6(self) -> bool:
        """The caller wants its media over IPv6, by its offer or else by the way it signals."""
        if self._offered_audio is None:
            return ":" in self.signalled_from
        return self._offered_audio.address_type == "IP6"

    def open_media(self, *, ipv6: bool) -> None:
        """Ask for ports."""
        call = self.call
        self.media = call.core.open_media(call, ipv6=ipv6, emergency=call.route.emergency)

    def choose_for_route(self) -> ChosenAudio:
        """Choose the codec of the answer; raises `RemoteProtocolError` when none is in common.

        One that every trunk takes, so that failover needs no other; a caller that has none of those may still
        be carried by some of them. For an emergency call the trunks may take more than they are known for.
        """
        route = self.call.route
        ours = route.peer.codecs
        try:
            return self.choose(ours, route.codecs)
        except RemoteProtocolError:
            try:
                return self.choose(ours, route.codecs_of_any)
            except RemoteProtocolError:
                if not route.emergency:
                    raise
                return self.choose_any()

    def choose_again(self) -> None:
        """Choose for another route, unless the caller has been told something already; raises
        `RemoteProtocolError`."""
        if not self._told and not self.late_offer:
            self.choose_for_route()
            self.local = None
            self.answer()

    def choose_any(self) -> ChosenAudio:
        """Choose what the caller likes best, to be relayed as it is; raises `RemoteProtocolError`."""
        names = [] if self._offered_audio is None else [codec.name for codec in self._offered_audio.codecs]
        return self.choose(names, names)

    def choose(self, gate: Sequence[str], trunk: Sequence[str]) -> ChosenAudio:
        """Choose the one codec of the answer; raises `RemoteProtocolError` 400, 415 or 488."""
        self._offer = parse_sdp(self.description)
        self._offered_audio = self.judged(self.security.read(self._offer))
        chosen = choose_codec(self._offered_audio, gate, trunk, self.call.route.codec_order)
        if chosen is None:
            raise RemoteProtocolError("no codec in common with caller and trunk", status_hint=488)
        self.chosen = chosen
        return chosen

    def answer(self, direction: Direction = Direction.SENDRECV) -> None:
        """Build the answer once, when the ports are known: the SDP of a 183 is the SDP of its 200."""
        assert self._offer is not None and self._offered_audio is not None  # noqa: S101, PT018
        assert self.chosen is not None  # noqa: S101
        self.answer_offer(Offer(self._offer, self._offered_audio), self.chosen, direction)

    def follow(self, b: Leg, *, early: bool = False) -> None:
        """Answer with what the callee speaks, as long as the caller has been told nothing else.

        ``early``: the callee's direction may change with its 200, the caller's answer may not.
        """
        if self._told or self._offered_audio is None or b.chosen is None or b.remote is None:
            return
        there = b.chosen.codec.name
        chosen = choose_codec(self._offered_audio, (*self.codecs, there), (there,))
        direction = Direction.SENDRECV if early else b.remote.direction
        if chosen is not None and (chosen != self.chosen or direction is not self.told):
            self.chosen, self.local = chosen, None
            self.answer(direction)

    @property
    def carried_attributes(self) -> tuple[str, ...]:
        """Attributes of the caller's audio stream that describe it and cross to the B leg."""
        if self._offer is None or self._offered_audio is None:
            return ()
        return carried_attributes(self._offer, self._offered_audio)

    @property
    def _body(self) -> bytes:
        return b"" if self.local is None or self._settled else self.local.data

    # What the call asks for -------------------------------------------------------------------------------

    @property
    def unanswered(self) -> bool:
        """No final response has gone."""
        return self.state in _UNANSWERED

    def progress(
        self, status: int, now: float, *, with_sdp: bool, headers: Sequence[tuple[str, str]] = ()
    ) -> None:
        """Send a provisional response that makes the early dialog."""
        self._progress = (status, with_sdp)
        self._told = self._told or with_sdp
        if self._reliability is Reliability.REQUIRED and self.call.route.emergency and not self.late_offer:
            with_sdp = False  # no PRACK that is lost holds up the 200 of an emergency call
        body = self._body if with_sdp else b""
        reliable = self._reliability is Reliability.REQUIRED or (
            self._reliability is Reliability.SUPPORTED and bool(body)
        )
        headers = self._authorising(headers)
        self.dialog = self.endpoint.respond(
            self.transaction, status, headers=headers, body=body, reliable=reliable, now=now
        )
        if reliable and body:
            self._settled = True
        self._own_dialog()
        self.state = ALegState.EARLY

    def _authorising(self, headers: Sequence[tuple[str, str]]) -> Sequence[tuple[str, str]]:
        """Say of the gate's own early media that it is to be heard, to a network that asks (RFC 5009 §8).

        What the callee's network says of its media crosses with that media.
        """
        if self.media is None or self.media.bridged or not self._told:
            return headers
        own = [header for header in headers if canonical_name(header[0]) != "P-Early-Media"]
        if self.call.route.peer.trusted and "P-Early-Media" in self.invite.headers:
            own.append(("P-Early-Media", "sendrecv"))
        return own

    def repeat_progress(self, now: float) -> None:
        """Send the last provisional response again, so that no proxy gives up (RFC 3261 §13.3.1.1)."""
        status, with_sdp = self._progress
        self.progress(status, now, with_sdp=with_sdp)

    def accept(self, now: float, headers: Sequence[tuple[str, str]] = ()) -> None:
        """Send the 200 with the gate's SDP, or as soon as a PRACK lets it go (RFC 3262 §3)."""
        if self.dialog is not None and self.dialog.withholds_success:
            self._success = tuple(headers)
            return
        self._told = True
        headers = (*headers, *self.session.answered(self.invite, now))
        self.dialog = self.endpoint.respond(self.transaction, 200, headers=headers, body=self._body, now=now)
        self._own_dialog()
        self.established = True
        self.state = ALegState.ACCEPTED

    def _own_dialog(self) -> None:
        assert self.dialog is not None  # noqa: S101  (an INVITE answered with 101-299 has one)
        self.dialog.owner = self
        # A caller behind NAT is reached where its requests come from, not at its Contact.
        self.dialog.symmetric = self.latching is Latching.LEARNING
        self.dialog.reach = self.call.core.admission.routes.reach_of(self.party.peer.name)
        if not self.dialog.symmetric:
            self.dialog.large = self.call.route.peer.large_requests

    def hang_up(self, status: int, cause: int, now: float, headers: Sequence[tuple[str, str]] = ()) -> None:
        """End the leg as its state asks: a final failure, BYE now, or BYE once the ACK is there.

        ``headers`` replace the Reason made from ``cause``.
        """
        if self.state in _UNANSWERED:
            self.over = True
            self.state = ALegState.TERMINATED
            if not self.transaction.answered:
                reason = headers or (reason_header(cause),)
                self.endpoint.respond(self.transaction, status, headers=reason, now=now)
        elif self.over:
            self.state = ALegState.TERMINATED
        elif self.state is ALegState.CONFIRMED:
            self.state = ALegState.TERMINATED
            self.send_bye(cause, now, headers)
        else:
            self.over = True
            self.bye_cause = cause
            self.state = ALegState.ENDING

    def let_go(self) -> None:
        """The call is over: what the INVITE's transaction still waits for is not this leg's affair."""
        if self.state is ALegState.TERMINATED:
            self.transaction.owner = None

    # What the caller does -----------------------------------------------------------------------------------

    def acked(self, event: AckReceived, now: float) -> None:
        """Take the ACK of the 200, or of a 200 to a re-INVITE."""
        if self.state is ALegState.ENDING:
            self.state = ALegState.TERMINATED
            self.send_bye(self.bye_cause, now)
        elif self.state is ALegState.ACCEPTED:
            self.state = ALegState.CONFIRMED
            if not self.answer_due:
                self.call.a_confirmed(now)
                return
            try:
                self.take_answer(session_description(event.request))
            except RemoteProtocolError:
                self.call.a_answer_unusable(now)
            else:
                self.call.a_confirmed(now)
        else:
            super().acked(event, now)

    def request(self, event: RequestReceived, now: float) -> None:
        """Answer a request within the dialog."""
        if event.request.method == "PRACK":
            self._pracked(event, now)
        else:
            super().request(event, now)

    def _pracked(self, event: RequestReceived, now: float) -> None:
        """Take a PRACK with what it describes: the answer to the gate's offer, or a new offer (RFC 3262 §5).

        It has matched, so it gets a 2xx whatever it says (§3); one that is no use ends the call after that.
        """
        description = session_description(event.request)
        answered, body, error = False, b"", None
        try:
            if self.over:
                description = b""
            elif self.answer_due:
                self.take_answer(description)
                answered = True
            elif description:
                body = self._answer_within(description)
        except RemoteProtocolError as unusable:
            error = unusable
        self.endpoint.respond(event.transaction, 200, body=body, now=now)
        if error is not None:
            self.call.a_answer_unusable(now)
            return
        if answered:
            self.call.a_confirmed(now)
        if self._success is not None and self.unanswered:
            headers, self._success = self._success, None
            self.accept(now, headers)

    def _answer_within(self, description: bytes) -> bytes:
        """Answer another offer of the caller's with the codec that is spoken."""
        assert self.chosen is not None  # noqa: S101  (the first offer or answer chose it)
        offer = self.read_offer(description)
        name = self.chosen.codec.name
        chosen = choose_codec(offer.audio, (name,), (name,))
        if chosen is None:
            raise RemoteProtocolError("no common codec", status_hint=488)
        return self.answer_offer(offer, chosen)

    def prack_timed_out(self, now: float) -> None:
        """No PRACK came: the INVITE is refused (RFC 3262 §3), but for an emergency call that may go on."""
        assert self.dialog is not None  # noqa: S101  (a response that makes it was sent)
        if not self.over and (not self.call.route.emergency or self.dialog.withholds_success):
            self.call.a_unacknowledged(now)

    def ack_timed_out(self, now: float) -> None:
        """Give up waiting for an ACK: BYE (RFC 3261 §13.3.1.4)."""
        if self.state is ALegState.ENDING:
            self.state = ALegState.TERMINATED
            self.send_bye(self.bye_cause, now)
        else:
            self.state = ALegState.CONFIRMED
            super().ack_timed_out(now)

    def cancelled(self, cancel: Request, now: float) -> None:
        """Answer the INVITE that was cancelled with 487 (§9.2) and tell the call."""
        if self.state in _UNANSWERED:
            self.over = True
            self.state = ALegState.TERMINATED
            self.endpoint.respond(self.transaction, 487, now=now)
            self.call.a_cancelled(now, cancel)

    def transport_lost(self, now: float) -> None:
        """The response to the INVITE can't be delivered: the caller is gone."""
        if not self.over:
            self.over = True
            self.state = ALegState.TERMINATED
            self.call.a_cancelled(now)


def _reliability(invite: Request, route: Route) -> Reliability:
    """Say which provisional responses go reliably: as the caller can, wants, and is to (RFC 3262 §3)."""
    if names_extension(invite, "Require"):
        return Reliability.REQUIRED
    if route.emergency or not names_extension(invite, "Supported"):
        return Reliability.OFF  # an emergency call waits for nothing that it need not
    return route.peer.reliable
