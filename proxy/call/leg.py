"""What both legs of a call have in common: a dialog, a media leg, SDP, and requests within the dialog.

RFC 3261 §12, §15 (BYE), §22.2 (challenges); RFC 6086 (INFO); RFC 4028 (the session timer). The gate's media
stands between the legs: each has a session of its own, with its own id, versions, ports, payload types and
keys. What an offer of one peer means to the other is `proxy.call.renegotiation`.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from proxy.call import heard_keys
from proxy.call.bye import Bye
from proxy.call.config import DigitForm, Side
from proxy.call.info_keys import InfoKeys, convert_keys
from proxy.call.media_leg import MediaLeg, can_transcode
from proxy.call.media_security import MediaSecurity
from proxy.call.modification import Modification, Outcome
from proxy.call.outcome import reason_header
from proxy.call.ports import Latching
from proxy.call.routing import Caller
from proxy.dtmf.digits import DigitMeans
from proxy.dtmf.info import parse_info
from proxy.errors import RemoteProtocolError
from proxy.sdp import (
    AudioDescription,
    ChosenAudio,
    Codec,
    Direction,
    FaxDescription,
    LocalDescription,
    LocalEnd,
    SessionDescription,
    accept_answer,
    build_answer,
    build_offer,
    gate_codecs,
    parse_sdp,
    renumbered,
)
from proxy.sip.dialog import Dialog
from proxy.sip.digest_client import DigestAttempt
from proxy.sip.endpoint import Endpoint
from proxy.sip.events import AckReceived, RequestReceived, ResponseReceived, ServerTransaction
from proxy.sip.message import Message, Request
from proxy.sip.session_timer import SessionTimer
from proxy.sip.timers import NEVER

if TYPE_CHECKING:
    from proxy.call.call import Call

Stream = TypeVar("Stream", bound=AudioDescription | FaxDescription)

__all__ = ["INFO_TYPES", "Leg", "Offer", "content_type_of"]

_log = logging.getLogger(__name__)

INFO_TYPES = "application/dtmf-relay, application/dtmf"
"""Accept of the 415 to an INFO with any other body (RFC 6086 §4.2.2)."""


def content_type_of(message: Request) -> str:
    """Return the media type of a body in lower case, without parameters; "" when there is none."""
    value = message.headers.get("Content-Type")
    return "" if value is None else value.partition(";")[0].strip().lower()


class Offer(NamedTuple):
    """What a peer offers: the description, and its audio stream as it was read."""

    sdp: SessionDescription
    audio: AudioDescription


class Leg:
    """One side of a call. `ALeg` and `BLeg` add how the dialog comes about."""

    __slots__ = (
        "_byes",
        "_info_heard",
        "_keys",
        "_other_heard",
        "agreed",
        "allows",
        "answer_due",
        "call",
        "chosen",
        "codecs",
        "dialog",
        "digits",
        "endpoint",
        "established",
        "fax",
        "latching",
        "local",
        "lost",
        "media",
        "modification",
        "name",
        "named",
        "offered",
        "over",
        "party",
        "referrals",
        "remote",
        "security",
        "session",
        "signalled_from",
        "talks_until",
        "told",
        "wish",
    )

    def __init__(
        self,
        name: str,
        call: Call,
        endpoint: Endpoint,
        party: Caller,
        *,
        latching: Latching,
        security: MediaSecurity,
    ) -> None:
        self.name = name
        """``"a"`` or ``"b"``, for the log."""
        self.call = call
        self.endpoint = endpoint
        self.latching = latching
        self.security = security
        self.dialog: Dialog | None = None
        self.media: MediaLeg | None = None
        self.offered: tuple[Codec, ...] = ()
        """What the gate's offer named, while and after it stands."""
        self.local: LocalDescription | None = None
        """The gate's latest SDP to this peer, refused ones included: the next one counts on from it."""
        self.agreed: LocalDescription | None = None
        """The gate's SDP that is in force."""
        self.remote: AudioDescription | None = None
        """The peer's latest SDP."""
        self.chosen: ChosenAudio | None = None
        """What this leg speaks, once negotiated."""
        self.fax: FaxDescription | None = None
        """The peer's fax stream, as long as the call is about fax (`proxy.call.fax`)."""
        self.answer_due = False
        """An offer of the gate in a 2xx waits for its answer in the ACK (RFC 3264 §4, RFC 3261 §13.2.1)."""
        self._info_heard = self._other_heard = False
        self._keys = InfoKeys()
        self.digits = DigitForm.AUTO
        """How the peer is told keys."""
        self.signalled_from = ""
        self.talks_until = NEVER
        """When its talk has lasted its longest, in whatever segments of a call (`proxy.call.due`)."""
        self.established = False
        """A 2xx has made the dialog: it is for BYE to end it."""
        self.codecs: tuple[str, ...] = ()
        """Names that the gate takes on this side."""
        self.named: tuple[Codec, ...] = ()
        """What the peer's latest offer named."""
        self.allows: frozenset[str] = frozenset()
        """Methods that the peer takes, as far as it has said."""
        self.party = party
        """Who is at the other end, as if it called: what it asks for within the call is decided by that."""
        self.referrals = 0
        """How many REFERs of the peer were accepted."""
        self.modification: Modification | None = None
        """The gate's re-INVITE or UPDATE that is under way."""
        self.session = SessionTimer(call.config.session_expires, call.config.min_se)
        self._byes: list[Bye] = []
        self.told = Direction.SENDRECV
        """Direction of the gate's latest description."""
        self.wish = Direction.SENDRECV  # what the peer would do if the other side let it
        self.over = self.lost = False
        """Over: the dialog has ended, or is on its way out; nothing more is told to the call. Lost: the peer
        of an emergency call answers no more, its media alone says that it is there."""

    # SDP ----------------------------------------------------------------------------------------------------

    @property
    def end(self) -> LocalEnd:
        """Where the gate takes this leg's media, as its peer is told."""
        assert self.media is not None  # noqa: S101  (the call's own order)
        return self.media.end_towards(self.signalled_from)

    def offer(
        self,
        codecs: Iterable[Codec],
        *,
        ptime_ms: int = 20,
        attributes: tuple[str, ...] = (),
        direction: Direction = Direction.SENDRECV,
    ) -> bytes:
        """Return the gate's offer for this leg's open media leg."""
        assert self.media is not None  # noqa: S101  (the call's own order)
        self.offered, self.told = tuple(codecs), direction
        self.local = build_offer(
            self.offered,
            self.end,
            self.media.id,
            ptime_ms=ptime_ms,
            direction=direction,
            rtcp_mux=self.remote is not None and self.remote.rtcp_mux,
            attributes=attributes,
            crypto=self.security.offer(again=self.remote is not None),
            secure=self.security.secure_profile,
            previous=self.local,
        )
        return self.local.data

    def offer_again(
        self, formats: Iterable[Codec], direction: Direction, attributes: tuple[str, ...] = ()
    ) -> bytes:
        """Return an offer within the session: numbers keep their meaning (RFC 3264 §8.3.2)."""
        assert self.chosen is not None and self.remote is not None  # noqa: S101, PT018
        known = (*self.spoken, *self.offered, *self.remote.codecs, *self.remote.events)
        ptime_ms = self.chosen.ptime_ms
        return self.offer(
            renumbered(tuple(formats), known), ptime_ms=ptime_ms, attributes=attributes, direction=direction
        )

    def take_answer(self, body: bytes) -> None:
        """Take the peer's answer to `offer` and configure the media; raises `RemoteProtocolError`."""
        security = self.security
        assert self.local is not None  # noqa: S101
        negotiated = accept_answer(
            self.offered,
            parse_sdp(body),
            audio_index=self.local.audio_index,
            crypto=security.offered,
            srtp=security.answer_policy,
        )
        remote = self.judged(negotiated.remote)
        security.accepted(negotiated)
        self.answer_due = False
        self.agreed = self.local
        self.remote, self.chosen = remote, negotiated.chosen
        # An answer says nothing about the half that the offer did not leave open (RFC 3264 §6.1).
        said = remote.direction
        self.wish = Direction.of(
            sends=said.sends if self.told.receives else self.wish.sends,
            receives=said.receives if self.told.sends else self.wish.receives,
        )
        self.configure()

    def read_offer(self, body: bytes) -> Offer:
        """Read a peer's offer under the leg's policy; raises `RemoteProtocolError` 400 or 488."""
        sdp = parse_sdp(body)
        return Offer(sdp, self.judged(self.security.read(sdp)))

    def judged(self, stream: Stream) -> Stream:
        """Return what the peer says of its media if the gate may send there; raises `RemoteProtocolError`
        488."""
        call = self.call
        return call.config.own_sockets.judge(stream, self.signalled_from, emergency=call.route.emergency)

    def answer_offer(
        self, offer: Offer, chosen: ChosenAudio, direction: Direction = Direction.SENDRECV
    ) -> bytes:
        """Answer a peer's offer, put what it says in force, and return the answer."""
        assert self.media is not None  # noqa: S101
        local = build_answer(
            offer.sdp,
            offer.audio,
            chosen,
            self.end,
            self.media.id,
            direction=direction,
            crypto=self.security.answer(offer.audio),
            previous=self.local,
        )
        self.local = self.agreed = local
        self.remote, self.chosen, self.wish = offer.audio, chosen, offer.audio.direction
        self.offered, self.told = self.spoken, offer.audio.direction.answered_by(direction)
        self.named = offer.audio.codecs
        self.configure()
        return local.data

    @property
    def spoken(self) -> tuple[Codec, ...]:
        """Codec and telephone-event as they are spoken now, under the numbers that the peer sends."""
        assert self.chosen is not None  # noqa: S101
        codec, event = self.chosen.heard_codec, self.chosen.heard_event
        return (codec,) if event is None else (codec, event)

    def hears(self, other: Leg) -> bool:
        """Say whether what the other side speaks reaches this one, transcoded if need be."""
        assert self.chosen is not None and other.chosen is not None  # noqa: S101, PT018  (both talk)
        return can_transcode(self.chosen.codec.name, other.chosen.codec.name)

    def could_speak(self, name: str) -> bool:
        """Say whether the peer has named a codec that it may be asked to change to."""
        return name in self.codecs and any(
            known.same_format(codec) for codec in gate_codecs((name,)) for known in self.named
        )

    def configure(self) -> None:
        """Give the media engine what is negotiated now."""
        self.fax = None
        assert self.media is not None and self.remote is not None and self.chosen is not None  # noqa: S101, PT018
        self.media.configure(
            self.remote,
            self.chosen,
            latching=self.latching,
            signalled_from=self.signalled_from,
            srtp=self.security.keys,
        )
        convert_keys(self.call)

    @property
    def deadline(self) -> float:
        """When its session or its modification is due; neither outlives the dialog."""
        if self.over or not self.established:
            return NEVER
        at = self.session.deadline
        return at if self.modification is None else min(at, self.modification.deadline)

    def heard(self, message: Message) -> None:
        """Note what the peer says of itself (RFC 3261 §20.5)."""
        if "Allow" in message.headers:
            lines = message.headers.get_all("Allow")
            self.allows = frozenset(method.strip().upper() for line in lines for method in line.split(","))

    def attempt(self, dialog: Dialog | None = None) -> DigestAttempt | None:
        """Begin a request within a dialog (the leg's own, if none is named) to a peer that may ask who the
        gate is; None: there is no answer to that.

        A trunk that has called asks for the account which the gate has there.
        """
        call, peer = self.call, self.party.peer
        for trunk in call.config.trunks:
            if peer.side is Side.TRUNK and trunk.name == peer.name:
                return call.core.accounts.attempt(trunk, dialog or self.dialog)
        return None

    def note_key(self, means: DigitMeans) -> None:
        """Remember by which means this peer tells its keys."""
        if means is DigitMeans.INFO:
            self._info_heard = True
        else:
            self._other_heard = True

    @property
    def speaks_info(self) -> bool:
        """An INFO of this peer is a key of its own: it tells no key otherwise, as far as is known or set.

        A peer that negotiated telephone-event is taken to use it, until it was heard to use INFO alone.
        """
        return not self._other_heard and (
            self._info_heard
            or self.digits is DigitForm.INFO
            or self.chosen is None
            or self.chosen.event is None
        )

    @property
    def has_keys(self) -> bool:
        """Its keys come apart from the audio, so that the other side may be told them as events."""
        events = self.chosen is not None and self.chosen.event is not None
        return events or self._info_heard or self.digits is DigitForm.INFO

    @property
    def takes_info(self) -> bool:
        """Keys go to this peer as INFO: it is set so, or it knows no telephone-event but INFO."""
        if self.digits is not DigitForm.AUTO:
            return self.digits is DigitForm.INFO
        if self._keys.refused or self.chosen is None or self.chosen.event is not None:
            return False
        return self._info_heard or "INFO" in self.allows

    def tell_key(self, digit: str, duration_ms: int, now: float) -> None:
        """Tell the peer a key of the other side, in the form that it understands."""
        if self.takes_info:
            self._keys.send(self, digit, duration_ms, now)
        else:
            self.play_key(digit, duration_ms)

    def play_key(self, digit: str, duration_ms: int) -> None:
        """Send a key with the media: as events, or as a tone where the peer takes none."""
        assert self.media is not None  # noqa: S101  (only who talks is told keys)
        self.media.send_digit(digit, duration_ms)

    # Requests within the dialog -----------------------------------------------------------------------------

    def request(self, event: RequestReceived, now: float) -> None:
        """Answer a request within the dialog."""
        method = event.request.method
        self.lost = False
        if method == "BYE":
            self.endpoint.respond(event.transaction, 200, now=now)
            if not self.over:
                self.over = True
                self.session.stop()
                self.call.leg_hung_up(self, event.request, now)
        elif method == "INFO":
            self._info(event, now)
        elif method in {"INVITE", "UPDATE"}:
            if self.over:
                self.endpoint.respond(event.transaction, 481, now=now)
            else:
                self.heard(event.request)
                self.call.renegotiation.requested(self, event, now)
        else:  # OPTIONS (RFC 3261 §11.2); what the gate does not take, the endpoint has refused
            self.endpoint.respond(event.transaction, 200, headers=self.endpoint.capabilities, now=now)

    def _info(self, event: RequestReceived, now: float) -> None:
        request = event.request
        of_package = "Info-Package" in request.headers
        if not request.body and not of_package:
            self.endpoint.respond(event.transaction, 200, now=now)
            return
        try:
            press = parse_info(content_type_of(request), request.body)
        except RemoteProtocolError as error:
            status, headers = error.status_hint, [("Accept", INFO_TYPES)]
            if of_package:
                # Key presses are taken whatever the package; the gate knows none (RFC 6086 §4.2.2).
                status, headers = 469, [("Recv-Info", "")]
            self.endpoint.respond(
                event.transaction, status, headers=headers if status in {415, 469} else (), now=now
            )
            return
        self.endpoint.respond(event.transaction, 200, now=now)
        if press is not None and not self.over:
            heard_keys.pressed(self, press.digit, DigitMeans.INFO, now, press.duration_ms)

    def accept_within(
        self, transaction: ServerTransaction, request: Request, body: bytes, now: float
    ) -> None:
        """Send the 200 to a re-INVITE or UPDATE: it refreshes the session, whatever else it does."""
        headers = self.session.answered(request, now)
        self.endpoint.respond(transaction, 200, headers=headers, body=body, now=now)

    def modify(self, method: str, body: bytes, outcome: Outcome, now: float) -> None:
        """Send a re-INVITE or UPDATE of the gate's own; one at a time."""
        self.modification = Modification(self, method, body, outcome, now)

    def responded_within(self, event: ResponseReceived, now: float) -> None:
        """Take a response to a request of the gate within the dialog."""
        transaction, response = event.transaction, event.response
        if transaction is self._keys.transaction:
            self._keys.responded(self, response, now)
        elif self.modification is not None and self.modification.transaction is transaction:
            self.modification.responded(response, event.dialog, now)
        elif transaction.method == "INVITE":
            self._responded_late(event, now)
        elif transaction.method == "BYE":
            for bye in self._byes:
                if bye.dialog is event.dialog:
                    bye.responded(response, now)

    def _responded_late(self, event: ResponseReceived, now: float) -> None:
        """Take a response to a re-INVITE that nobody waits for: a BYE has crossed it, or the peer has gone on
        in another call, which may have had to wait for the end of it."""
        status = event.response.status
        if 200 <= status < 300:  # §13.2.2.4: acknowledged all the same
            assert event.dialog is not None  # noqa: S101  (every 2xx to an INVITE comes with it)
            self.endpoint.ack(event.dialog, now=now)
        if status >= 200 and not self.over:
            self.call.renegotiation.reconcile(now)
            self.call.rearm()

    def unanswered_within(self, transaction: object, now: float, *, reached: bool) -> None:
        """Take the news that a request of the gate within the dialog gets no final response; ``reached``: the
        transport did not fail (RFC 3261 §8.1.3.1)."""
        if transaction is self._keys.transaction:
            self._keys.unanswered()
        elif self.modification is not None and self.modification.transaction is transaction:
            self.modification.unanswered(0 if reached else 503, now)

    def acked(self, event: AckReceived, now: float) -> None:
        """Take the ACK of a 2xx to a re-INVITE, with its answer if the 2xx held the offer."""
        self.call.renegotiation.acked(self, event.request, now)

    def reinvite_cancelled(self, transaction: ServerTransaction, now: float) -> None:
        """The peer takes back a re-INVITE that has no final response yet (§9.2)."""
        self.call.renegotiation.cancelled(transaction, now)

    def ack_timed_out(self, now: float) -> None:
        """No ACK came for a 2xx: the session is over (RFC 3261 §13.3.1.4, §14.2)."""
        if not self.over:
            self.call.leg_lost(self, now)

    def dialog_ended(self, dialog: Dialog, now: float) -> None:
        """The endpoint knows the dialog no longer, and nobody said BYE: the peer has forgotten it
        (§12.2.1.2)."""
        if not self.over and dialog is self.dialog and self.established:
            self.over = True
            self.call.leg_lost(self, now)

    # What a call asks of its legs, whichever way they came about -------------------------------------------

    @property
    def unanswered(self) -> bool:
        """It is an INVITE to the gate without a final response."""
        return False

    @property
    def carried_attributes(self) -> tuple[str, ...]:
        """Attributes of the audio stream in the INVITE to the gate that describe it and cross."""
        return ()

    # Ending -------------------------------------------------------------------------------------------------

    def send_bye(self, cause: int, now: float, headers: Iterable[tuple[str, str]] = ()) -> None:
        """End the confirmed dialog (RFC 3261 §15.1.1) and say why (RFC 3326)."""
        self.over = True
        self.session.stop()
        assert self.dialog is not None  # noqa: S101
        self.part_from(self.dialog, tuple(headers) or (reason_header(cause),), now)

    def part_from(self, dialog: Dialog, headers: tuple[tuple[str, str], ...], now: float) -> None:
        """Send the BYE of a dialog of this leg."""
        self._byes.append(Bye(self.endpoint, dialog, headers, self.attempt(dialog), now))
        self.note_way(dialog)

    def note_way(self, dialog: Dialog) -> None:
        """After a request within a dialog: tell the administrator where its way was not the peer's."""
        if dialog.out_of_reach:
            self.call.core.admission.routes.note_out_of_reach(self.party.peer.name, dialog.out_of_reach)
