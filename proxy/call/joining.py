"""Two parties of different calls meet: one takes the place of another in a call (RFC 3891).

Either a transferor has asked for it (REFER with Replaces, RFC 5589 §7), or the newcomer itself (INVITE with
Replaces, `proxy.call.takeover`). The call goes on as another segment, to which a side is handed over whole;
who leaves is released by the segment before.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from proxy.call.call import Call
from proxy.call.config import Side
from proxy.call.leg import Leg
from proxy.call.onward import segment_record
from proxy.call.routing import Caller
from proxy.call.state import CallState
from proxy.cdr.record import Continuation, Direction
from proxy.sip.replaces import Replaces

if TYPE_CHECKING:
    from proxy.call.core import CallCore

__all__ = ["JOINABLE", "find_replaced", "pay_on", "same_party", "segment_beside"]

JOINABLE = frozenset({CallState.DIALLING, CallState.RINGING, CallState.TALKING})
"""States of a call in which a party may be replaced: past the code, and nothing on its way to the disk."""


def find_replaced(core: CallCore, replaces: Replaces) -> Leg | None:
    """Return the leg whose dialog is named, if it is one of the gate's calls and goes on (§3)."""
    dialog = core.endpoint.dialog(replaces.call_id, replaces.to_tag, replaces.from_tag)
    leg = None if dialog is None else dialog.owner
    return leg if isinstance(leg, Leg) and not leg.over else None


def same_party(one: Caller, other: Caller) -> bool:
    """Tell whether two legs have the same user at their end, or the same PBX.

    Who may replace whom: a user only itself, from this phone or another; the phones behind a PBX are the
    affair of that PBX; a trunk nobody.
    """
    if one.peer.side is Side.PHONES:
        return one.peer.side is other.peer.side and bool(one.proved) and one.proved == other.proved
    return one.peer.side is Side.PBX and one.peer.name == other.peer.name


def segment_beside(first: Call, caller: Caller, consultation: Call, how: Continuation, now: float) -> Call:
    """Return the segment in which ``caller`` stands for a party of ``consultation``, to be joined to it.

    Route and decision are those of the consultation, whose caller was asked for a code, unless only the first
    call has gone out: then somebody still pays for that one, and not for who was called, or has called, on
    this side; and an emergency call stays one.
    """
    was, joined = consultation.record, first.record
    outwards = was.answered and joined.direction is Direction.OUTBOUND is not was.direction
    if outwards:
        was, joined = joined, was
    decision = (first if outwards else consultation).route.decision
    caller = first.core.admission.named(caller, decision)
    route = replace(consultation.route, caller=caller, decision=decision)
    record = segment_record(first, caller, decision, how, now)
    for name in _TARGET:
        setattr(record, name, getattr(was, name))
    if outwards:
        record.caller_number, record.caller_e164 = joined.caller_number, joined.caller_e164
    code = was.code or joined.code
    if code is not None:
        # A use that nobody has paid for yet is this segment's.
        record.code_kept(code, reused=was.code is not None and not was.answered)
    return Call(first.core, route, record, consultation.origin, now)


def pay_on(segment: Call, first: Call) -> None:
    """Let a call that has gone out be recorded as one although it goes on with somebody on this side.

    Its user and its code pay for it to the end. An emergency call stays one.
    """
    record = segment.record
    if record.direction is Direction.OUTBOUND:
        return  # its target is paid for as well
    record.caller_number = record.destination_user or record.normalised_number
    record.caller_e164 = segment.core.policy.caller_e164(record.caller_number, None)
    for name in _PAID:
        setattr(record, name, getattr(first.record, name))
    if first.route.emergency:
        segment.route = replace(segment.route, decision=first.route.decision)


_PAID = (
    "call_class",
    "decision",
    "dialled_number",
    "direction",
    "emergency",
    "group",
    "normalised_number",
    "reason",
    "treatment",
    "user",
)
"""What a record says of who pays, and for what."""

_TARGET = (*_PAID, "b_call_id", "codec", "destination_user")
"""What the record of a joined call has from the one in which its callee was called."""
