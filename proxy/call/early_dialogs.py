"""The early dialogs of one INVITE to the called side: which one speaks, and what acknowledges their 18x.

A proxy beyond may fork the INVITE: then each branch rings in an early dialog of its own (RFC 3261 §12.1.2,
§13.2.2.4), answers the gate's one offer for itself and counts its reliable responses for itself (RFC 3262
§4). The leg has one pair of ports, so one of them speaks: the last that sent a description (RFC 3960 §3.1),
and in the end the one that answers the call. The leg's own fields are those of the dialog that speaks; what
the others negotiated is kept here.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, NamedTuple

from proxy.sip.dialog import Dialog, DialogState
from proxy.sip.events import ClientTransaction

if TYPE_CHECKING:
    from proxy.call.b_leg import BLeg
    from proxy.call.media_security import Agreed
    from proxy.sdp import AudioDescription, ChosenAudio, Codec, Direction, LocalDescription
    from proxy.sip.digest_client import DigestAttempt
    from proxy.sip.endpoint import Endpoint
    from proxy.sip.message import Response

__all__ = ["EarlyDialog", "EarlyDialogs", "Prack"]

_log = logging.getLogger(__name__)


class _Session(NamedTuple):
    """What a leg has negotiated in one dialog."""

    local: LocalDescription | None
    agreed: LocalDescription | None
    remote: AudioDescription | None
    chosen: ChosenAudio | None
    offered: tuple[Codec, ...]
    wish: Direction
    security: Agreed

    @classmethod
    def of(cls, leg: BLeg) -> _Session:
        return cls(leg.local, leg.agreed, leg.remote, leg.chosen, leg.offered, leg.wish, leg.security.agreed)

    def restore(self, leg: BLeg) -> None:
        leg.local, leg.agreed, leg.remote, leg.chosen, leg.offered, leg.wish = self[:6]
        leg.security.agreed = self.security


class EarlyDialog:
    """One branch that rings."""

    __slots__ = ("answer", "dialog", "session", "settled")

    def __init__(self, dialog: Dialog | None, session: _Session) -> None:
        self.dialog = dialog
        """None where a response had no To tag, as RFC 2543 let it."""
        self.session = session
        """What was negotiated when another one began to speak; at first the gate's offer alone."""
        self.answer = b""
        """A description that is not in force yet."""
        self.settled = False
        """The answer came reliably: descriptions in later responses don't count (RFC 3261 §13.2.1)."""

    @property
    def silent(self) -> bool:
        """It has answered nothing yet."""
        return not self.answer and self.session.chosen is None

    def answered(self, description: bytes, *, reliably: bool) -> None:
        """Take the description of a response, if it counts."""
        if description and not self.settled:
            self.answer = description
            self.settled = reliably


class EarlyDialogs:
    """All of one INVITE."""

    __slots__ = ("_begun", "_by_tag", "speaking")

    def __init__(self, leg: BLeg) -> None:
        """Begin when the offer is made: every answer is one to it."""
        self._begun = _Session.of(leg)
        self._by_tag: dict[str, EarlyDialog] = {}
        self.speaking: EarlyDialog | None = None

    def enter(self, dialog: Dialog | None) -> EarlyDialog:
        """Find or make the one of a dialog."""
        tag = "" if dialog is None else dialog.remote_tag
        early = self._by_tag.get(tag)
        if early is None:
            # A response without a tag came from whoever gets one later: RFC 2543 gave it to the 2xx alone.
            early = self._by_tag.pop("", None) or EarlyDialog(None, self._begun)
            early.dialog = dialog
            self._by_tag[tag] = early
        return early

    def listen_to(self, early: EarlyDialog, leg: BLeg) -> None:
        """Let this one speak: put in force on the leg what was negotiated in it.

        Raises `RemoteProtocolError` for an answer that is no use.
        """
        if early is not self.speaking:
            if self.speaking is not None:
                self.speaking.session = _Session.of(leg)
            early.session.restore(leg)
            self.speaking = early
            if leg.chosen is not None and not early.answer:
                leg.configure()
        if early.answer:
            answer, early.answer = early.answer, b""
            leg.take_answer(answer)

    def drop(self, early: EarlyDialog) -> EarlyDialog | None:
        """Forget one that has ended (RFC 6228); returns another that has spoken, if any."""
        self._by_tag = {tag: other for tag, other in self._by_tag.items() if other is not early}
        if early is not self.speaking:
            return None
        self.speaking = None
        spoken = [other for other in self._by_tag.values() if other.session.chosen is not None]
        return spoken[-1] if spoken else None


class Prack:
    """One PRACK, with its repetition where the trunk wants to know who sends it (RFC 3262 §4, RFC 3261
    §22.2).

    Whatever else it is refused with, or should it get no answer at all, the INVITE decides: who did not get
    the acknowledgement ends that with a 5xx (RFC 3262 §3).
    """

    __slots__ = ("_attempt", "_dialog", "_endpoint", "_rack", "transaction")

    transaction: ClientTransaction

    def __init__(
        self, endpoint: Endpoint, dialog: Dialog, rack: str, attempt: DigestAttempt | None, now: float
    ) -> None:
        self._endpoint = endpoint
        self._dialog = dialog
        self._rack = rack
        self._attempt = attempt
        self._send(now)

    def _send(self, now: float) -> None:
        dialog = self._dialog
        headers = [("RAck", self._rack)]
        if self._attempt is not None:
            headers += self._attempt.headers("PRACK", dialog.request_uri)
        self.transaction = self._endpoint.request(dialog, "PRACK", headers=headers, now=now)

    def responded(self, response: Response, now: float) -> bool:
        """Take a response; returns whether the PRACK has come to its end."""
        status = response.status
        if status < 200:
            return False
        if (
            self._attempt is not None
            and self._dialog.state is not DialogState.TERMINATED
            and self._attempt.may_repeat(response)
        ):
            self._send(now)
            return False
        if status >= 300:
            _log.info("PRACK refused with %d", status, extra={"call_id": self._dialog.call_id, "leg": "b"})
        return True
