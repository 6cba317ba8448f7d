"""What both legs of a call have in common: a dialog, a media leg, SDP, and requests within the dialog.

RFC 3261 §12, §14 (re-INVITE), §15 (BYE); RFC 3311 (UPDATE); RFC 6086 (INFO). The gate's media stands
between the legs, so an offer of one peer is answered here and the other peer does not notice.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import TYPE_CHECKING

from proxy.call.media_leg import MediaLeg
from proxy.call.media_security import MediaSecurity
from proxy.call.outcome import reason_header
from proxy.call.ports import Latching
from proxy.dtmf.digits import DigitMeans
from proxy.dtmf.info import parse_info
from proxy.errors import RemoteProtocolError
from proxy.sdp import (
    AudioDescription,
    ChosenAudio,
    Codec,
    LocalDescription,
    accept_answer,
    build_answer,
    build_offer,
    choose_codec,
    parse_sdp,
)
from proxy.sip.body import session_description
from proxy.sip.dialog import Dialog
from proxy.sip.endpoint import Endpoint
from proxy.sip.events import AckReceived, RequestReceived
from proxy.sip.message import Request

if TYPE_CHECKING:
    from proxy.call.call import Call

__all__ = ["INFO_TYPES", "Leg", "content_type_of"]

_log = logging.getLogger(__name__)

INFO_TYPES = "application/dtmf-relay, application/dtmf"
"""Accept of the 415 to an INFO with any other body (RFC 6086 §4.2.2)."""


def content_type_of(message: Request) -> str:
    """Return the media type of a body in lower case, without parameters; "" when there is none."""
    value = message.headers.get("Content-Type")
    return "" if value is None else value.partition(";")[0].strip().lower()


class Leg:
    """One side of a call. `ALeg` and `BLeg` add how the dialog comes about."""

    __slots__ = (
        "_info_heard",
        "_other_heard",
        "answer_due",
        "call",
        "chosen",
        "dialog",
        "endpoint",
        "established",
        "latching",
        "local",
        "media",
        "name",
        "offered",
        "over",
        "remote",
        "security",
        "session_id",
        "signalled_from",
    )

    def __init__(
        self, name: str, call: Call, endpoint: Endpoint, *, latching: Latching, security: MediaSecurity
    ) -> None:
        self.name = name
        """``"a"`` or ``"b"``, for the log."""
        self.call = call
        self.endpoint = endpoint
        self.latching = latching
        self.security = security
        self.dialog: Dialog | None = None
        self.media: MediaLeg | None = None
        self.session_id = 0
        self.offered: tuple[Codec, ...] = ()
        """What the gate's offer named, while and after it stands."""
        self.local: LocalDescription | None = None
        """The gate's latest SDP to this peer."""
        self.remote: AudioDescription | None = None
        """The peer's latest SDP."""
        self.chosen: ChosenAudio | None = None
        """What this leg speaks, once negotiated."""
        self.answer_due = False
        """An offer of the gate in a 2xx waits for its answer in the ACK (RFC 3264 §4, RFC 3261 §13.2.1)."""
        self._info_heard = False
        self._other_heard = False
        self.signalled_from = ""
        self.established = False
        """A 2xx has made the dialog: it is for BYE to end it."""
        self.over = False
        """The dialog has ended, or is on its way out; nothing more is told to the call."""

    # SDP ----------------------------------------------------------------------------------------------------

    def offer(
        self, codecs: tuple[Codec, ...], *, ptime_ms: int = 20, attributes: tuple[str, ...] = ()
    ) -> bytes:
        """Return the gate's offer for this leg's open media leg."""
        assert self.media is not None and self.media.end is not None  # noqa: S101, PT018  (the call's own order)
        self.offered = codecs
        self.local = build_offer(
            codecs,
            self.media.end,
            self.session_id,
            ptime_ms=ptime_ms,
            attributes=attributes,
            crypto=self.security.offer(again=self.remote is not None),
            secure=self.security.secure_profile,
            previous=self.local,
        )
        return self.local.data

    def take_answer(self, body: bytes) -> None:
        """Take the peer's answer to `offer` and configure the media; raises `RemoteProtocolError`."""
        security = self.security
        negotiated = accept_answer(
            self.offered, parse_sdp(body), crypto=security.offered, srtp=security.answer_policy
        )
        security.accepted(negotiated)
        self.answer_due = False
        self.remote, self.chosen = negotiated.remote, negotiated.chosen
        self.configure()

    def configure(self) -> None:
        """Give the media engine what is negotiated now."""
        assert self.media is not None and self.remote is not None and self.chosen is not None  # noqa: S101, PT018
        self.media.configure(
            self.remote,
            self.chosen,
            latching=self.latching,
            signalled_from=self.signalled_from,
            srtp=self.security.keys,
        )

    def note_key(self, means: DigitMeans) -> None:
        """Remember by which means this peer tells its keys."""
        if means is DigitMeans.INFO:
            self._info_heard = True
        else:
            self._other_heard = True

    @property
    def speaks_info(self) -> bool:
        """An INFO of this peer is a key of its own: it tells no key otherwise, as far as is known.

        A peer that negotiated telephone-event is taken to use it, until it was heard to use INFO alone.
        """
        return not self._other_heard and (
            self._info_heard or self.chosen is None or self.chosen.event is None
        )

    # Requests within the dialog -----------------------------------------------------------------------------

    def request(self, event: RequestReceived, now: float) -> None:
        """Answer a request within the dialog."""
        method = event.request.method
        if method == "BYE":
            self.endpoint.respond(event.transaction, 200, now=now)
            if not self.over:
                self.over = True
                self.call.leg_hung_up(self, event.request, now)
        elif method == "INFO":
            self._info(event, now)
        elif method in {"INVITE", "UPDATE"}:
            self._reoffer(event, now)
        elif method in {"SUBSCRIBE", "NOTIFY"}:
            # RFC 6665 §4.5.2: the dialog of a call holds no subscription.
            self.endpoint.respond(event.transaction, 481, now=now)
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
            if (
                of_package
            ):  # key presses are taken whatever the package; the gate knows none (RFC 6086 §4.2.2)
                status, headers = 469, [("Recv-Info", "")]
            self.endpoint.respond(
                event.transaction, status, headers=headers if status in {415, 469} else (), now=now
            )
            return
        self.endpoint.respond(event.transaction, 200, now=now)
        if press is not None and not self.over:
            self.call.digit_pressed(self, press.digit, DigitMeans.INFO, now)

    def _reoffer(self, event: RequestReceived, now: float) -> None:
        """Answer a re-INVITE or UPDATE from the gate's own media (RFC 3261 §14.2, RFC 3311 §5.2)."""
        transaction, request = event.transaction, event.request
        if self.over:
            self.endpoint.respond(transaction, 481, now=now)
            return
        if self.answer_due:
            self.endpoint.respond(transaction, 491, now=now)
            return
        if self.chosen is None or self.media is None or self.media.end is None:
            # The peer's own first offer has no answer yet (RFC 3311 §5.2).
            self.endpoint.respond(transaction, 500, headers=[("Retry-After", "2")], now=now)
            return
        description = session_description(request)
        if not description:
            if request.method == "UPDATE":  # target or session refresh only
                self.endpoint.respond(transaction, 200, now=now)
                return
            codecs = self._spoken()
            body = self.offer(codecs)
            self.answer_due = True
            self.endpoint.respond(transaction, 200, body=body, now=now)
            return
        try:
            sdp = parse_sdp(description)
            offered = self.security.read(sdp)
            name = self.chosen.codec.name
            chosen = choose_codec(offered, (name,), (name,))
            if chosen is None:
                raise RemoteProtocolError("no common codec", status_hint=488)
        except RemoteProtocolError as error:
            # The call stays as it was (RFC 3261 §14.2).
            self.endpoint.respond(transaction, error.status_hint, now=now)
            return
        local = build_answer(
            sdp,
            offered,
            chosen,
            self.media.end,
            self.session_id,
            crypto=self.security.answer(offered),
            previous=self.local,
        )
        self.local, self.remote, self.chosen = local, offered, chosen
        self.endpoint.respond(transaction, 200, body=local.data, now=now)
        self.configure()

    def _spoken(self) -> tuple[Codec, ...]:
        """Return codec and telephone-event as they are spoken now, for an offer of the gate."""
        assert self.chosen is not None  # noqa: S101
        # Under the gate's own numbers: a payload type keeps its meaning in a session (RFC 3264 §8.3.2).
        codec, event = self.chosen.heard_codec, self.chosen.heard_event
        return (codec,) if event is None else (codec, event)

    def acked(self, event: AckReceived, now: float) -> None:
        """Take the ACK of a 2xx to a re-INVITE, with its answer if the 2xx held the offer."""
        if self.answer_due:
            try:
                self.take_answer(session_description(event.request))
            except RemoteProtocolError:
                # The peer broke its own re-offer: media goes on as it was.
                self.answer_due = False
                _log.info("unusable answer in ACK", extra={"call_id": self.call.id, "leg": self.name})

    def ack_timed_out(self, now: float) -> None:
        """No ACK came for a 2xx: the session is over (RFC 3261 §13.3.1.4, §14.2)."""
        if not self.over:
            self.call.leg_lost(now)

    def dialog_ended(self, dialog: Dialog, now: float) -> None:
        """The endpoint knows the dialog no longer, and nobody said BYE: the peer has forgotten it
        (§12.2.1.2)."""
        if not self.over and dialog is self.dialog and self.established:
            self.over = True
            self.call.leg_lost(now)

    # Ending -------------------------------------------------------------------------------------------------

    def send_bye(self, cause: int, now: float, headers: Iterable[tuple[str, str]] = ()) -> None:
        """End the confirmed dialog (RFC 3261 §15.1.1) and say why (RFC 3326)."""
        self.over = True
        assert self.dialog is not None  # noqa: S101
        self.endpoint.request(self.dialog, "BYE", headers=headers or (reason_header(cause),), now=now)
