"""What is due in a call, and when: the times of its parts, and what the end of a wait means in each state."""

from __future__ import annotations

from typing import TYPE_CHECKING

from proxy.call import asking
from proxy.call.outcome import NO_ANSWER, NO_CIRCUIT, NORMAL_CLEARING, Ending
from proxy.call.state import CallState
from proxy.cdr.record import Disposition, HungUpBy
from proxy.sip.timers import NEVER

if TYPE_CHECKING:
    from proxy.call.call import Call

__all__ = ["handle_timer", "next_deadline"]


def next_deadline(call: Call) -> float:
    """Return when something is due next."""
    deadline = call.guard_at
    if call.state is not CallState.ENDED:
        deadline = min(deadline, call.bound_at, call.repeat_at, call.renegotiation.deadline)
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
        call.repeat_at = now + call.config.early_repeat
        call.incoming.repeat_progress(now)
    elif now >= call.renegotiation.deadline:
        call.renegotiation.handle_timer(now)
    elif call.gate is not None:
        asking.go_on(call, call.gate.handle_timer(now), now)
    elif call.sides.hunt is not None and now >= call.sides.hunt.deadline:
        call.sides.hunt.handle_timer(now)


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
