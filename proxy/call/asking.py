"""A caller is asked for a code: how the gate begins within a call, and what its last word means there."""

from __future__ import annotations

from typing import TYPE_CHECKING

from proxy.call.gate import CodeGate, GateEnd, GateResult
from proxy.call.outcome import CALL_REJECTED, TEMPORARY_FAILURE, Ending
from proxy.call.state import CallState
from proxy.cdr.record import Disposition
from proxy.dtmf.collector import GRACE_S
from proxy.sip.timers import NEVER

if TYPE_CHECKING:
    from proxy.call.call import Call

__all__ = ["begin", "go_on"]


def begin(call: Call, now: float) -> None:
    """Ask the caller for a code."""
    call.enter(CallState.ASKING, now)
    call.gate = CodeGate(call)
    call.gate.begin(now)
    # The called side's ports are asked for now, so that its INVITE can leave the moment the code is there.
    call.called.open()
    call.rearm()


def go_on(call: Call, result: GateResult | None, now: float) -> None:
    """Ask on (None), or do what the gate's last word says."""
    if result is None:
        call.rearm()
        return
    assert call.gate is not None and call.a.media is not None  # noqa: S101, PT018  (who has said it)
    passed = result.end is GateEnd.PASSED and result.emergency is None
    if passed and call.gate.leaves_keys:
        # The leg is listened to a moment more, which keeps their sound and their events from the bridge.
        call.leftovers_until = now + GRACE_S
    else:
        call.a.media.listen_no_more()
    call.gate = None
    call.bound_at = NEVER
    if result.end is GateEnd.REFUSED:
        call.fail(Ending(Disposition.CODE_REFUSED, 403, CALL_REJECTED), now, prompt="too_many_tries")
        return
    if result.emergency is not None:
        call.route = call.core.emergency_route(call, result.emergency)
    elif not call.core.recording:
        call.fail(Ending(Disposition.OVERLOADED, 500, TEMPORARY_FAILURE), now)
        return
    if call.core.uses.holds(call.id):
        # The use is on the disk before it can be paid for.
        call.write_setup(now)
    call.dial(now)
