"""The segments of a call: how a side leaves one `Call` and goes on in another, or comes back.

A segment pairs two parties and has its own record. A forward, a transfer or a takeover begins the next one;
the side that goes on is handed over whole, with its leg, its ports and the search that found it, while the
segment before ends and releases who is left.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from proxy.call import due
from proxy.call.a_leg import ALeg
from proxy.call.outcome import ELSEWHERE, NORMAL_CLEARING, Ending, not_acceptable
from proxy.call.state import CallState
from proxy.cdr.record import Disposition, HungUpBy
from proxy.errors import RemoteProtocolError

if TYPE_CHECKING:
    from proxy.call.call import Call
    from proxy.call.leg import Leg
    from proxy.call.two_sides import Side

__all__ = ["hand_over", "join", "part", "resume", "reunite", "take_caller", "who"]


def take_caller(segment: Call, before: Call, now: float, side: Side | None = None) -> None:
    """Give a segment the side that calls; `resume` follows. What bounds count of the call before, they count
    of it."""
    segment.core.limits.share(before.id, segment.id)
    side = side or before.sides.caller
    _move(side, before, segment, now)
    segment.sides.caller = side
    assert side.media is not None  # noqa: S101  (somebody was called for it)
    side.media.unbridge()  # it has heard early media of who sends it on
    segment.answers_first = not segment.a.unanswered
    segment.early = before.early
    if before.referred_by is not None:
        # Picked up by another phone, or sent on by the target's: the same transfer.
        segment.referred_by, before.referred_by = before.referred_by, None


def _move(side: Side, before: Call, segment: Call, now: float) -> None:
    """Hand a side over. What was asked of it was the call's before, where nobody waits for the answer any
    more."""
    before.renegotiation.end(now)
    side.move(segment)


def resume(segment: Call, now: float) -> None:
    """Go on with the caller in search of somebody."""
    segment.core.calls[segment.id] = segment
    if isinstance(segment.a, ALeg) and segment.a.unanswered:
        try:
            segment.a.choose_again()
        except RemoteProtocolError as error:
            segment.fail(not_acceptable(error.status_hint), now)
            return
    segment.dial(now)


def join(segment: Call, consultation: Call, leaving: Leg, now: float) -> None:
    """Go on with the caller in the place of who leaves another call."""
    segment.core.calls[segment.id] = segment
    state, side = consultation.state, consultation.sides.beside(leaving)
    assert side is not None and side.media is not None  # noqa: S101, PT018  (asked for before)
    side.media.unbridge()
    _move(side, consultation, segment, now)
    segment.sides.called = side
    hand_over(segment, consultation, leaving, now)
    if state is CallState.TALKING:
        segment.confirm(now)
        return
    segment.enter(state, now)
    segment.bound_at = due.rings_until(segment, now)
    assert segment.a.media is not None  # noqa: S101  (it has talked)
    if state is CallState.RINGING:
        segment.a.media.play(("ringback",), repeat=True, group=segment.route.prompts)
    segment.rearm()


def hand_over(segment: Call, before: Call, leaving: Leg, now: float) -> None:
    """End the segment before, which releases who leaves; a use of a code that is not paid for goes over."""
    segment.core.uses.move(before.id, segment.id)
    segment.core.limits.share(before.id, segment.id)
    if before.record.answered:
        ending = Ending(Disposition.ANSWERED, 487, NORMAL_CLEARING)
    else:
        ending = Ending(Disposition.CONTINUED, 487, NORMAL_CLEARING, ELSEWHERE)
    before.end(ending, who(before, leaving), now)


def part(call: Call, now: float) -> None:
    """Let the other party of a transfer go to look for its target."""
    assert call.a.media is not None  # noqa: S101  (they talk)
    call.a.media.unbridge()
    call.enter(CallState.TRANSFERRING, now)
    call.rearm()


def reunite(call: Call, side: Side, now: float) -> None:
    """Take the other party back: it could not be transferred."""
    side.move(call)
    call.transfer = None
    call.enter(CallState.TALKING, now)
    assert side.media is not None  # noqa: S101  (they have talked)
    side.media.stop()
    call.sides.bridge()
    call.renegotiation.begin(now)
    call.rearm()


def who(call: Call, leg: Leg) -> HungUpBy:
    """Return which side of a call a leg is, for its record."""
    return HungUpBy.A_LEG if leg is call.a else HungUpBy.B_LEG
