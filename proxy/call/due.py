"""What is due in a call, and when: the times of its parts, and what the end of a wait means in each state."""

from __future__ import annotations

from typing import TYPE_CHECKING

from proxy.call import asking, heard_keys
from proxy.call.b_leg import BLeg
from proxy.call.config import Side
from proxy.call.leg import Leg
from proxy.call.limits import limits_of
from proxy.call.outcome import NO_ANSWER, NO_CIRCUIT, NORMAL_CLEARING, Ending
from proxy.call.state import CallState
from proxy.cdr.record import Disposition, HungUpBy
from proxy.sip.timers import NEVER

if TYPE_CHECKING:
    from proxy.call.call import Call

__all__ = ["bound_talk", "handle_timer", "next_deadline", "rings_until"]

_HELP_RINGS = 900.0
"""A call for help rings so long at least; it ends then because its caller may be gone unheard."""

_WARNING = 60.0
"""So long before the end of the longest talk who pays is warned; of a short one, at half of it."""


def next_deadline(call: Call) -> float:
    """Return when something is due next."""
    deadline = call.guard_at
    if call.state is not CallState.ENDED:
        deadline = min(
            deadline, call.bound_at, call.repeat_at, call.leftovers_until, call.renegotiation.deadline
        )
        if call.gate is not None:
            deadline = min(deadline, call.gate.deadline)
        elif call.sides.hunt is not None:
            deadline = min(deadline, call.sides.hunt.deadline)
    return deadline


def handle_timer(call: Call, now: float) -> None:
    """Do what is due."""
    if now >= call.guard_at:
        call.guard_at = NEVER
        _guard(call, now)
    elif now >= call.bound_at:
        call.bound_at = NEVER
        _out_of_time(call, now)
    elif now >= call.repeat_at:
        _repeat(call, now)
    elif now >= call.leftovers_until:
        heard_keys.drop_leftovers(call)
    elif now >= call.renegotiation.deadline:
        call.renegotiation.handle_timer(now)
    elif call.gate is not None:
        asking.go_on(call, call.gate.handle_timer(now), now)
    elif call.sides.hunt is not None and now >= call.sides.hunt.deadline:
        call.sides.hunt.handle_timer(now)


def rings_until(call: Call, now: float) -> float:
    """Return how long a search that begins now may take: no longer than who is there may still talk. No
    setting cuts a call for help short, which may have to wait in a queue."""
    longest = call.config.ring_timeout
    if call.route.emergency:
        return now + max(longest, _HELP_RINGS)
    return min(now + longest, _left_to(call))


def bound_talk(call: Call, now: float) -> None:
    """Let a talk that begins now end some day: as the gate's settings say, or the group's.

    What has begun to count stays with the legs, whatever segment they go on in: the gate's bound with both,
    the group's with the one that is paid for. So no REFER and no takeover begins it anew.
    """
    if call.route.emergency:
        return
    at_most = now + (call.config.max_duration or NEVER)
    paid = now + (limits_of(call.route.decision).talk_seconds or NEVER)
    for leg in (call.a, call.b):
        assert leg is not None  # noqa: S101  (both have answered)
        leg.talks_until = min(leg.talks_until, at_most, paid if _was_called_outside(leg) else NEVER)
    call.bound_at = min(paid, _left_to(call))
    if call.bound_at < NEVER:
        call.repeat_at = call.bound_at - min(_WARNING, (call.bound_at - now) / 2)


def _was_called_outside(leg: Leg) -> bool:
    return isinstance(leg, BLeg) and leg.party.peer.side is Side.TRUNK


def _left_to(call: Call) -> float:
    """Return how long those who are there may still talk."""
    legs = (call.sides.caller.leg, call.b)
    return min((leg.talks_until for leg in legs if leg is not None), default=NEVER)


def _repeat(call: Call, now: float) -> None:
    """Say again that the call is under way; who talks hears that this will be over soon."""
    if call.state not in {CallState.TALKING, CallState.TRANSFERRING}:
        call.repeat_at = now + call.config.early_repeat
        call.incoming.repeat_progress(now)
        return
    call.repeat_at = NEVER
    if call.state is CallState.TALKING:
        # Who was called outside and then transferred to a colleague stands in the caller's place, and does
        # not pay.
        payer = call.b if _was_called_outside(call.a) else call.a
        assert payer is not None and payer.media is not None  # noqa: S101, PT018  (both talk)
        payer.media.play(("time_warning_tone",), group=call.route.prompts)


def _guard(call: Call, now: float) -> None:
    """Journal or engine have not answered."""
    if call.state is CallState.OPENING:
        call.fail(Ending(Disposition.OVERLOADED, 503, NO_CIRCUIT), now)
    elif call.state is CallState.CONFIRMING:
        call.answer_recorded(False, now)
    elif call.failure is not None and call.state is CallState.ANNOUNCING:
        call.end(call.failure, HungUpBy.GATE, now)
    else:
        call.write_final(now)


def _out_of_time(call: Call, now: float) -> None:
    """The asking, the ringing or the talk has lasted its longest."""
    if call.state is CallState.ASKING:
        # Early mode: the gate's time is over; an optional code is then no code (DESIGN 1.6).
        assert call.gate is not None  # noqa: S101
        asking.go_on(call, call.gate.give_up(now), now)
    elif call.state in {CallState.TALKING, CallState.TRANSFERRING}:
        call.end(Ending(Disposition.ANSWERED, 480, NORMAL_CLEARING), HungUpBy.GATE, now)
    else:
        call.fail(Ending(Disposition.NO_ANSWER, 480, NO_ANSWER), now)
