"""A call that is sent on: a new target, under the policy of the user who sends it there.

Whoever forwards (3xx) or transfers (REFER) reaches what he could dial himself, no more. Where the policy
asks for an account code, the code that is on the call already counts if it unlocks the target; otherwise a
required code fails and an optional one is gone without, since nobody can be asked. Each try has its record,
linked to the first of the call, a refused one too.
"""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import TYPE_CHECKING

from proxy.call.call import Call
from proxy.call.origin import Origin
from proxy.call.outcome import cause_of_status
from proxy.call.ports import JournalRecord
from proxy.call.routing import Caller
from proxy.cdr.builder import RecordBuilder
from proxy.cdr.record import Continuation, Disposition, HungUpBy
from proxy.policy import CallRequest, Decision, Treatment, decide
from proxy.sip.headers import Headers
from proxy.sip.message import Request

if TYPE_CHECKING:
    from proxy.call.core import CallCore

__all__ = ["plain_invite", "referred_origin", "segment_record", "send_on"]

_log = logging.getLogger(__name__)

_LIMIT = 5
"""So often one call is forwarded or transferred; the next one is refused as a loop."""


def send_on(
    first: Call,
    target: str,
    how: Continuation,
    *,
    sender: Caller,
    caller: Caller,
    origin: Origin,
    now: float,
) -> Call | int:
    """Return the next segment of a call, to be given its caller, or the status that refuses it.

    ``sender`` is who sends the call on, ``caller`` who then calls. An emergency number may be transferred to
    (somebody dials it this moment), but nothing is forwarded there: no person in need has asked for that.
    """
    core = first.core
    dialled, gruu = core.admission.dialled(target)
    decision = decide(
        CallRequest(dialled, sender.proved, sender.asserted, sender.peer.default_group), core.policy
    )
    caller = core.admission.named(caller, decision)
    record = segment_record(first, caller, decision, how, now)
    refused = 404 if core.admission.names_nobody(gruu) else _refusal(core, decision, how, origin)
    route = None
    if not refused:
        route = core.admission.route(caller, decision, record, gruu)
        if route is None:
            refused = 480 if record.destination_user else 404
    if route is not None and not core.limits.admit(record, decision, now):
        refused = 403
    elif route is not None and not _unlocked(first, decision, record):
        core.limits.give_back(record.record_id)
        refused = 603
    if refused or route is None:
        _refuse(core, record, decision, refused, now)
        return refused
    if decision.asks:
        # Nobody is asked any more: the code of the call has done, or it goes without.
        route = replace(route, decision=replace(decision, treatment=Treatment.ALLOW))
    return Call(core, route, record, origin, now)


def _refusal(core: CallCore, decision: Decision, how: Continuation, origin: Origin) -> int:
    """Return the status for what nobody may be sent to, or 0."""
    if origin.forwards > _LIMIT:
        return 482
    if decision.treatment is Treatment.BLOCK:
        return 603 if decision.status_hint == 403 else decision.status_hint
    if decision.emergency:
        return 603 if how is Continuation.FORWARD else 0
    return 0 if core.recording else 500


def _unlocked(first: Call, decision: Decision, record: RecordBuilder) -> bool:
    """Let the code of the call unlock the target where a code is asked; False: one is required and is not
    there."""
    code = first.record.code
    if code is None or decision.emergency:
        return decision.treatment is not Treatment.REQUIRED_CODE
    if not decision.asks:
        record.code_kept(code, reused=False)
        return True
    if first.core.desk.reuse(first.id, record.record_id, decision, code.dialled):
        record.code_kept(code, reused=True)
        return True
    return decision.treatment is not Treatment.REQUIRED_CODE


def _refuse(core: CallCore, record: RecordBuilder, decision: Decision, status: int, now: float) -> None:
    _log.info("a call is not sent on: %d", status, extra={"call_id": record.record_id, "leg": "a"})
    if decision.treatment is Treatment.REQUIRED_CODE and status == 603:
        what = Disposition.CODE_REFUSED
    elif decision.treatment is Treatment.BLOCK or decision.emergency or status == 403:
        what = Disposition.BLOCKED
    elif status == 480:
        what = Disposition.NO_ANSWER
    else:
        what = Disposition.OVERLOADED if status == 500 else Disposition.REJECTED
    record.decision = "block"
    cause = cause_of_status(status)
    record.ended(what, now=now, sip_code=status, q850_cause=cause, hung_up_by=HungUpBy.GATE)
    core.emit(JournalRecord(record.final(now=now)))


def segment_record(
    first: Call, caller: Caller, decision: Decision, how: Continuation, now: float
) -> RecordBuilder:
    """Begin the record of a further segment."""
    record = first.core.admission.record_of(caller, decision, now)
    record.continues(first.record, how)
    # The user of the record answers for the segment; who calls is somebody else.
    record.caller_number = caller.number
    record.caller_e164 = first.core.policy.caller_e164(caller.number, None)
    record.a_call_id = first.record.a_call_id
    record.source_address = first.record.source_address
    return record


def plain_invite(target: str) -> Request:
    """Stand for the INVITE of a caller who sent none: somebody else has asked for this call."""
    return Request("INVITE", target, Headers())


def referred_origin(first: Origin, target: str, by: Caller) -> Origin:
    """Return where a call to the target of a transfer comes from."""
    return replace(first, invite=plain_invite(target), referred_by=by.number, forwards=first.forwards + 1)
