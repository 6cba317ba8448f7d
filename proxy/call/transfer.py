"""Transfer: a party of a call refers the other one to somebody else (REFER), and leaves.

RFC 3515, RFC 5589 (blind §6, attended §7), RFC 4488. The gate terminates the REFER and acts on it itself::

    X --REFER--> gate 202       the other party Y leaves the call for a segment that looks for the target Z
    Z rings                     NOTIFY 18x to X; Y hears it ring
    Z answers                   NOTIFY 200, BYE to X; Y and Z talk
    Z does not                  NOTIFY with the refusal; Y is back with X, or released if X has gone meanwhile
    X goes at once (BYE)        the segment lives on alone; X is told all the same
    Y goes                      all ends

With Replaces (attended) X has called Z already, so Y takes X's place in that call: what it may cost was
decided there. Whom X could not dial he can't refer anybody to (`proxy.call.onward`).
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from proxy.call import segments
from proxy.call.call import Call
from proxy.call.config import Side
from proxy.call.identity import asserted_caller
from proxy.call.joining import JOINABLE, find_replaced, pay_on, same_party, segment_beside
from proxy.call.leg import Leg
from proxy.call.onward import referred_origin, send_on
from proxy.call.outcome import NORMAL_CLEARING, Ending
from proxy.call.passed_refer import is_passing, pass_on
from proxy.call.refer_notifier import ReferNotifier
from proxy.call.routing import Caller
from proxy.call.state import CallState
from proxy.cdr.record import Continuation, Direction, Disposition
from proxy.errors import RemoteProtocolError
from proxy.sip.events import RequestReceived
from proxy.sip.message import Request
from proxy.sip.refer import Referral, parse_referral
from proxy.sip.replaces import Replaces

if TYPE_CHECKING:
    from proxy.call.two_sides import Side as CallSide

__all__ = ["Transfer", "referred"]

_log = logging.getLogger(__name__)

_LEAVES = Ending(Disposition.ANSWERED, 480, NORMAL_CLEARING)


def referred(call: Call, leg: Leg, event: RequestReceived, now: float) -> None:
    """Take a REFER within the dialog of a leg."""
    endpoint, transaction, request = leg.endpoint, event.transaction, event.request
    if leg.over:
        endpoint.respond(transaction, 481, now=now)
        return
    side = call.sides.beside(leg)
    if call.state is not CallState.TALKING or side is None or not _is_settled(side) or is_passing(leg):
        # One at a time; and there is nobody to be referred while a call is being built up or transferred.
        endpoint.respond(transaction, 491, now=now)
        return
    sender = _sender(leg, side, request)
    if sender is None:
        endpoint.respond(transaction, 403, now=now)
        return
    try:
        referral = parse_referral(request)
    except RemoteProtocolError as error:
        endpoint.respond(transaction, error.status_hint, now=now)
        return
    assert side.leg is not None  # noqa: S101  (it is settled)
    if pass_on(leg, side.leg, event, referral, sender, now):
        return
    transfer = Transfer(call, leg, request, now, wanted=referral.subscribes)
    if referral.subscribes:
        endpoint.respond(transaction, 202, now=now)
    else:
        # RFC 4488 §4: no subscription comes of it.
        endpoint.respond(transaction, 202, headers=(("Refer-Sub", "false"),), now=now)
    transfer.begin(referral, sender, side, now)


def _is_settled(side: CallSide) -> bool:
    """Say whether a party may leave: not before its 200, which may wait for a PRACK (RFC 3262 §3), nor before
    the ACK that says how a caller without an offer is heard."""
    leg = side.leg
    return leg is not None and not leg.unanswered and leg.chosen is not None


def _sender(leg: Leg, side: CallSide, refer: Request) -> Caller | None:
    """Return under whose policy a party may refer the other one; None: it may not.

    A trunk has no policy. Where it is allowed to transfer, it reaches what the other party could dial. Who
    was let in for an emergency call without a proof has none: no other call is its to place.
    """
    peer = leg.party.peer
    if peer.side is Side.PBX:
        return asserted_caller(peer, refer)
    answerable: Leg | None = leg
    if peer.side is Side.TRUNK:
        answerable = side.leg if peer.allow_refer else None
    if answerable is None or answerable.party.peer.side is Side.TRUNK:
        return None
    party = answerable.party
    return None if party.peer.side is Side.PHONES and not party.proved else party


class Transfer:
    """One REFER, from its 202 until the transferor is released and has heard what came of it."""

    __slots__ = ("_call", "_leg", "_notifier", "_paid", "_side", "over")

    def __init__(self, call: Call, leg: Leg, refer: Request, now: float, *, wanted: bool) -> None:
        self._call = call
        self._leg = leg
        """The transferor's."""
        self._side: CallSide | None = None
        """The other party's."""
        self._paid: Call | None = None
        """The call that the other party was called in, if somebody pays for it."""
        self.over = False
        """The transferor's call is over: nobody is there to take the other party back."""
        self._notifier = ReferNotifier(leg, refer, self._told, now, wanted=wanted)

    @property
    def transferor(self) -> Leg:
        """The leg of the party that has referred the other one."""
        return self._leg

    def begin(self, referral: Referral, sender: Caller, side: CallSide, now: float) -> None:
        """Do what the REFER asks for."""
        self._notifier.tell(100, now)
        if referral.replaces is None:
            refused = self._blind(referral.target, sender, side, now)
        else:
            refused = self._attended(referral.replaces, side, now)
        if refused:
            self._notifier.tell(refused, now, final=True)

    def _lead(self, segment: Call, side: CallSide, now: float) -> None:
        """Let the other party go on in another segment."""
        call = self._call
        _log.info("transfer as %s", segment.id, extra={"call_id": call.id, "leg": self._leg.name})
        self._side = side
        assert side.leg is not None  # noqa: S101
        if call.record.direction is Direction.OUTBOUND and side.leg.party.peer.side is Side.TRUNK:
            self._paid = call
        call.transfer = segment.referred_by = self
        segments.part(call, now)
        segments.take_caller(segment, call, now, side)

    def _blind(self, target: str, sender: Caller, side: CallSide, now: float) -> int:
        """Call the target for the other party; returns the status that refuses it, or 0."""
        call = self._call
        assert side.leg is not None  # noqa: S101  (`TwoSides.beside` gives none without)
        referrer = call.core.admission.named(sender, call.route.decision)
        origin = referred_origin(call.origin, target, referrer)
        how, caller = Continuation.TRANSFER, side.leg.party
        found = send_on(call, target, how, sender=sender, caller=caller, origin=origin, now=now)
        if not isinstance(found, Call):
            return found
        self._lead(found, side, now)
        segments.resume(found, now)
        return 0

    def _attended(self, replaces: Replaces, side: CallSide, now: float) -> int:
        """Let the other party take the transferor's place in its consultation call."""
        call, leg = self._call, self._leg
        found = find_replaced(call.core, replaces)
        if found is None or found.call is call or not same_party(found.party, leg.party):
            return 481
        consultation = found.call
        if consultation.state not in JOINABLE or consultation.sides.beside(found) is None:
            return 481
        if found is not consultation.a and not found.established:
            return 481  # the transferor's own phone is still ringing (RFC 3891 §3)
        if replaces.early_only and consultation.state is CallState.TALKING:
            return 486
        assert side.leg is not None  # noqa: S101
        segment = segment_beside(call, side.leg.party, consultation, Continuation.TRANSFER, now)
        self._lead(segment, side, now)
        segments.join(segment, consultation, found, now)
        return 0

    # The segment tells --------------------------------------------------------------------------------------

    def progressed(self, status: int, now: float) -> None:
        """The target has sent a provisional response."""
        self._notifier.tell(status, now)

    def answered(self, segment: Call) -> None:
        """The target has answered. If the other party is outside, the call to it goes on and is paid for."""
        if self._paid is not None:
            pay_on(segment, self._paid)

    def succeeded(self, now: float) -> None:
        """The other party talks with the target."""
        self._notifier.tell(200, now, final=True)

    def failed(self, ending: Ending, now: float) -> bool:
        """The target was not reached: the other party comes back, if somebody is there to come back to."""
        call, side = self._call, self._side
        if not self.over:
            assert side is not None  # noqa: S101  (there was a segment)
            # First: who can't be told any more is not to be taken for one that may go.
            segments.reunite(call, side, now)
        self._notifier.tell(ending.status, now, final=True)
        return not self.over

    def other_left(self, ending: Ending, now: float) -> None:
        """The other party has gone while the target was looked for."""
        self._notifier.tell(487, now, final=True)
        call = self._call
        if call.state is CallState.TRANSFERRING:
            call.end(
                Ending(Disposition.ANSWERED, ending.status, ending.cause, ending.headers),
                segments.who(self._call, self._leg),
                now,
            )

    # The transferor -----------------------------------------------------------------------------------------

    def left(self) -> None:
        """The transferor's call is over."""
        self.over = True
        self._side = None

    def _told(self, now: float) -> None:
        """The transferor has heard the end of it: it is released, unless the other party is back."""
        if self._call.transfer is self and self._call.state is CallState.TRANSFERRING:
            self._call.end(_LEAVES, segments.who(self._call, self._leg), now)
