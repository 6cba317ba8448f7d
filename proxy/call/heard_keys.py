"""Keys that come from a party: what they are for. How the other one is told them is `info_keys`' affair.

The digits of the code never reach the callee. After an entry that ended by its length or by time its caller
may still be typing, a digit too many or the ``#`` of habit: so the leg is listened to for a while longer,
which keeps what it hears from the bridge, and nobody takes the keys.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from proxy.call import asking
from proxy.call.info_keys import convert_keys
from proxy.call.state import CallState
from proxy.dtmf.digits import DigitMeans
from proxy.sip.timers import NEVER

if TYPE_CHECKING:
    from proxy.call.call import Call
    from proxy.call.leg import Leg

__all__ = ["drop_leftovers", "pressed"]


def pressed(leg: Leg, digit: str, means: DigitMeans, now: float, duration_ms: int) -> None:
    """Take a key: for the gate, or in talk for the other side, which is told it as it understands.

    A phone may tell each key twice, the second one late: the code's last keys must not reach the callee so,
    nor any key count double.
    """
    call = leg.call
    if (call.gate is not None or now < call.leftovers_until < NEVER) and leg is call.a:
        leg.note_key(means)
        if call.gate is not None:
            asking.go_on(call, call.gate.digit(digit, means, now), now)
    elif call.state is CallState.TALKING and (means is not DigitMeans.INFO or leg.speaks_info):
        leg.note_key(means)
        other = call.partner(leg)
        if other is not None:
            other.tell_key(digit, duration_ms, now)


def drop_leftovers(call: Call) -> None:
    """From now on keys are for the other side."""
    call.leftovers_until = NEVER
    assert call.a.media is not None  # noqa: S101  (who was asked has ports)
    call.a.media.listen_no_more()
    convert_keys(call)
