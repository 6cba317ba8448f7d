"""Events of calls as receivers get them: JSON as Standard Webhooks wants it, with no digits of a code.

An event's id is made of the record's, so that the same event, told twice, is known as such: the outbox keeps
it once. A code is named by its description and its masked form; who may see codes asks the API for the
record.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

from proxy.cdr.record import CallRecord
from proxy.store.audit import masked_code

__all__ = [
    "ANSWERED",
    "EMERGENCY",
    "ENDED",
    "NewEvent",
    "Site",
    "final_events",
    "of_call",
    "of_trunk",
]

ANSWERED = "call.answered"
ENDED = "call.ended"
EMERGENCY = "emergency.dialed"
TRUNK_DOWN = "trunk.down"


@dataclass(frozen=True, slots=True)
class NewEvent:
    """One event on its way into the outbox."""

    id: str
    event: str
    body: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Site:
    """What emergency messages say beside the call's own facts."""

    location: str = ""
    """Where the callers are: street, floor."""
    callback: str = ""
    """Number that reaches the site, for callers who can't be called back."""

    def callback_of(self, caller_number: str, caller_e164: str) -> str:
        """Number that reaches a caller, or the site."""
        return caller_e164 or self.callback or caller_number

    def location_of(self, location: str) -> str:
        """Where a caller is, and the site."""
        return ", ".join(filter(None, (location, self.location)))


def of_call(event: str, record: CallRecord, site: Site, *, at: float) -> NewEvent:
    """Return an event of a call. ``at`` is when it happened, UTC seconds since the epoch."""
    # Of one call several codes may be rejected; all else happens once.
    times = f".{record.wrong_tries}" if event == "code.rejected" else ""
    facts: dict[str, object] = {"call": _call_facts(record)}
    if event == EMERGENCY:
        facts["emergency"] = {
            "number": record.normalised_number or record.dialled_number,
            "caller": record.caller_number,
            "caller_name": record.caller_name,
            "callback": site.callback_of(record.caller_number, record.caller_e164),
            "location": site.location_of(record.location),
        }
    return _event(f"{record.record_id}.{event}{times}", event, at, facts)


def final_events(record: CallRecord, site: Site) -> list[NewEvent]:
    """Return what the final record of a call tells: its end, and an emergency that was told perhaps never,
    because the gate died before it could.
    """
    found = [of_call(ENDED, record, site, at=record.end_time)]
    if record.emergency:
        found.append(of_call(EMERGENCY, record, site, at=record.start_time))
    return found


def of_trunk(name: str, address: str, reason: str, *, at: float) -> NewEvent:
    """Return the event of a trunk that answers no more."""
    facts = {"trunk": {"name": name, "address": address, "reason": reason}}
    # Its id is no wider than the column, however long names are; no trunk goes down twice in a millisecond.
    return _event(f"{int(at * 1000):012x}.{name[:26]}.{TRUNK_DOWN}", TRUNK_DOWN, at, facts)


def _event(event_id: str, event: str, at: float, facts: Mapping[str, object]) -> NewEvent:
    body = {"id": event_id, "type": event, "timestamp": _time(at), "data": facts}
    return NewEvent(event_id, event, json.dumps(body, separators=(",", ":")))


def _call_facts(record: CallRecord) -> dict[str, object]:
    code = record.code
    answered = record.answer_time
    return {
        "record_id": record.record_id,
        "first_record_id": record.first_record_id,
        "direction": record.direction.value,
        "caller": record.caller_number,
        "user": record.user,
        "group": record.group,
        "dialled": record.dialled_number,
        "number": record.normalised_number,
        "destination_user": record.destination_user,
        "class": record.call_class,
        "emergency": record.emergency,
        "location": record.location,
        "code": None if code is None else {"form": masked_code(code.form), "description": code.description},
        "wrong_tries": record.wrong_tries,
        "started_at": _time(record.start_time),
        "answered_at": None if answered is None else _time(answered),
        **(_end_facts(record) if record.final else {}),
    }


def _end_facts(record: CallRecord) -> dict[str, object]:
    return {
        "ended_at": _time(record.end_time),
        "talk_time": round(record.talk_time, 3),
        "result": record.disposition.value,
        "sip_code": record.sip_code,
    }


def _time(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds")
