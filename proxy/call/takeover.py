"""INVITE with Replaces: a newcomer takes the place of one of the parties of a call (RFC 3891).

Who may is in `proxy.call.joining`; anybody else learns nothing, not even whether there is such a call. A
party that talks is replaced and gets a BYE. A phone that only rings is replaced by who picks the call up, and
then the call is answered; a caller's own call that still rings is nobody's to take (§3).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from proxy.call import segments
from proxy.call.a_leg import ALeg
from proxy.call.call import Call
from proxy.call.caller_side import CallerSide
from proxy.call.joining import find_replaced, same_party, segment_beside
from proxy.call.leg import Leg
from proxy.call.opening import OPEN_GUARD
from proxy.call.outcome import NORMAL_CLEARING, Ending, cause_of_status
from proxy.call.state import CallState
from proxy.cdr.record import Continuation, Disposition, HungUpBy
from proxy.errors import RemoteProtocolError

if TYPE_CHECKING:
    from proxy.call.core import CallCore
    from proxy.call.routing import Caller
    from proxy.sip.replaces import Replaces

__all__ = ["Takeover", "find_place"]


def find_place(core: CallCore, replaces: Replaces, caller: Caller) -> Leg | int:
    """Return the leg whose place is taken, or the status that refuses the INVITE (§3)."""
    leg = find_replaced(core, replaces)
    if leg is None or not same_party(leg.party, caller) or leg.call.sides.beside(leg) is None:
        return 481
    talking = leg.call.state is CallState.TALKING
    if talking and replaces.early_only:
        return 486
    rings = leg.call.state in {CallState.DIALLING, CallState.RINGING} and leg is not leg.call.a
    return leg if talking or rings else 481


class Takeover:
    """A newcomer on its way into a call, until its ports are there."""

    __slots__ = ("_before", "_leg", "_segment")

    def __init__(self, leg: Leg, segment: Call) -> None:
        self._leg = leg
        """Whose place is taken."""
        self._before = leg.call
        self._segment = segment

    @staticmethod
    def of(leg: Leg, caller: Caller, now: float) -> Takeover:
        """Begin the segment that the call is to go on as."""
        before = leg.call
        segment = segment_beside(before, caller, before, Continuation.TAKEOVER, now)
        if leg is not before.a:  # it was called, and so is who takes its place
            segment.record.caller_number = before.record.caller_number
            segment.record.caller_e164 = before.record.caller_e164
        takeover = segment.takeover = Takeover(leg, segment)
        return takeover

    @property
    def segment(self) -> Call:
        """The call of the newcomer."""
        return self._segment

    def begin(self, newcomer: ALeg, now: float) -> None:
        """Choose a codec, best the one that is spoken, and ask for ports."""
        segment = self._segment
        segment.core.calls[segment.id] = segment
        segment.sides.caller = CallerSide(segment, newcomer)
        chosen = self._leg.call.a.chosen
        spoken = () if chosen is None else (chosen.codec.name,)
        try:
            if not newcomer.late_offer:
                newcomer.choose(newcomer.codecs, (*spoken, *newcomer.codecs))
            elif self._leg.call.state is not CallState.TALKING:
                raise RemoteProtocolError("who picks up a call has to offer", status_hint=488)
        except RemoteProtocolError as error:
            status = error.status_hint
            ending = Ending(Disposition.NOT_ACCEPTABLE, status, cause_of_status(status))
            segment.end(ending, HungUpBy.GATE, now)
            return
        newcomer.open_media(ipv6=newcomer.ipv6)
        segment.guard_at = now + OPEN_GUARD
        segment.rearm()

    def ports_opened(self, now: float) -> None:
        """Take the place, if it is still there to be taken."""
        segment, leg = self._segment, self._leg
        segment.takeover = None
        before = self._before
        # A party that was transferred meanwhile talks to somebody else, whom nobody has decided about here.
        side = None if leg.over or leg.call is not before else before.sides.beside(leg)
        if side is None or before.state not in {CallState.DIALLING, CallState.RINGING, CallState.TALKING}:
            segment.end(Ending(Disposition.FAILED, 481, NORMAL_CLEARING), HungUpBy.GATE, now)
            return
        newcomer = segment.incoming
        if not newcomer.late_offer:
            newcomer.answer()
        if before.state is not CallState.TALKING:
            # Who called goes on as the caller; the newcomer is the callee that has answered.
            picked_up = segment.sides.caller
            segments.take_caller(segment, before, now, side)
            segment.sides.called = picked_up
            segments.hand_over(segment, before, leg, now)
            segment.confirm(now)
        else:
            segments.join(segment, before, leg, now)
