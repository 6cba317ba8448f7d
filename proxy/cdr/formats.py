"""How records leave the gate: the 16-column usage log, Asterisk's and FreeSWITCH's CSV, and JSON lines.

All exports are streams: a row is made when it is asked for. The usage log is meant for spreadsheets
(`proxy.cdr.usage_log`); the other formats are read by programs, and their cells are left as they are.
"""

from __future__ import annotations

import csv
import dataclasses
import datetime
import enum
import io
import json
from collections.abc import Iterable, Iterator
from typing import Literal

from proxy.cdr.record import CallRecord, Disposition, LegMedia, UsedCode
from proxy.cdr.usage_log import LocalTime, facts_of, usage_log_lines, usage_log_row

__all__ = ["ExportFormat", "export_lines", "record_object", "record_row"]


class ExportFormat(enum.StrEnum):
    """The export formats by their names on the command line."""

    USAGE_LOG = "usage-log"
    ASTERISK = "asterisk"
    """Master.csv of cdr_csv with ``loguniqueid`` and ``loguserfield`` on: no header row."""
    FREESWITCH = "freeswitch"
    """mod_cdr_csv with its default template ("example"): no header row, every cell quoted."""
    JSON_LINES = "jsonl"

    @property
    def quoting(self) -> Literal[0, 1, 2]:
        """Which cells the format quotes."""
        return csv.QUOTE_NONNUMERIC if self is ExportFormat.ASTERISK else csv.QUOTE_ALL


def export_lines(
    form: ExportFormat, records: Iterable[CallRecord], *, zone: datetime.tzinfo = datetime.UTC
) -> Iterator[str]:
    """The export as lines with their line ends. ``zone`` is that of the dates and times in CSV formats."""
    if form is ExportFormat.USAGE_LOG:
        yield from usage_log_lines(map(facts_of, records), zone=zone)
        return
    if form is ExportFormat.JSON_LINES:
        for record in records:
            yield _json(record_object(record)) + "\n"
        return
    local = LocalTime(zone)
    make = _asterisk_row if form is ExportFormat.ASTERISK else _freeswitch_row
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n", quoting=form.quoting)
    for record in records:
        writer.writerow(make(record, local))
        yield text.getvalue()
        text.seek(0)
        text.truncate()


def record_row(
    form: ExportFormat, record: CallRecord, *, zone: datetime.tzinfo = datetime.UTC
) -> tuple[str | int, ...]:
    """One record as a row of a CSV format (all but JSON lines)."""
    local = LocalTime(zone)
    if form is ExportFormat.USAGE_LOG:
        return usage_log_row(facts_of(record), local)
    return _asterisk_row(record, local) if form is ExportFormat.ASTERISK else _freeswitch_row(record, local)


def record_object(record: CallRecord) -> dict[str, object]:
    """One record as a JSON object: every field by its name, set or not, times in seconds."""
    found: dict[str, object] = {"start": _start(record)}
    for name in _FIELDS:
        found[name] = getattr(record, name)
    if record.code is not None:
        found["code"] = {name: getattr(record.code, name) for name in _CODE_FIELDS}
    for name, media in (("a_media", record.a_media), ("b_media", record.b_media)):
        if media is not None:
            found[name] = {name: getattr(media, name) for name in _MEDIA_FIELDS}
    found["trunks"] = [{"trunk": tried.trunk, "sip_code": tried.sip_code} for tried in record.trunks]
    found["talk_time"] = record.talk_time
    return found


# The usage log holds final records only: their phase says nothing.
_FIELDS = tuple(item.name for item in dataclasses.fields(CallRecord) if item.name != "phase")
_CODE_FIELDS = tuple(item.name for item in dataclasses.fields(UsedCode))
_MEDIA_FIELDS = tuple(item.name for item in dataclasses.fields(LegMedia))
_json = json.JSONEncoder(ensure_ascii=False, check_circular=False).encode


def _start(record: CallRecord) -> str:
    try:
        return record.start.isoformat(timespec="milliseconds")
    except (OverflowError, ValueError, OSError):
        return ""  # a moment that no calendar has


# --- Asterisk
# ------------------------------------------------------------------------------------------------

_ASTERISK_DISPOSITIONS = {
    Disposition.ANSWERED: "ANSWERED",
    Disposition.NO_ANSWER: "NO ANSWER",
    Disposition.ABANDONED_AT_PROMPT: "NO ANSWER",
    Disposition.ABANDONED_RINGING: "NO ANSWER",
    Disposition.CONTINUED: "NO ANSWER",
    Disposition.BUSY: "BUSY",
}


def _asterisk_row(record: CallRecord, local: LocalTime) -> tuple[str | int, ...]:
    number = record.caller_number or record.user
    disposition = _ASTERISK_DISPOSITIONS.get(record.disposition, "FAILED")
    if record.answered_after is not None:
        # Asterisk calls answered whatever was answered, however it ended.
        disposition = "ANSWERED"
    trunk = record.trunks[-1].trunk if record.trunks else record.destination_user
    return (
        record.code.form if record.code is not None else "",
        number,
        record.dialled_number,
        record.group,
        f'"{record.caller_name}" <{number}>' if record.caller_name else number,
        f"SIP/{record.peer or record.user}" if record.peer or record.user else "",
        f"SIP/{trunk}" if trunk else "",
        "Dial" if trunk else "",
        f"SIP/{trunk}/{record.normalised_number}" if trunk else "",
        _stamp(record.start_time, local),
        _stamp(record.answer_time, local),
        _stamp(record.end_time, local),
        round(record.ended_after),
        round(record.talk_time),
        disposition,
        "DOCUMENTATION",
        record.record_id,
        record.reason,
    )


def _stamp(moment: float | None, local: LocalTime) -> str:
    return "" if moment is None else " ".join(local(moment)).strip()


# --- FreeSWITCH
# ----------------------------------------------------------------------------------------------


def _freeswitch_row(record: CallRecord, local: LocalTime) -> tuple[str | int, ...]:
    return (
        record.caller_name,
        record.caller_number or record.user,
        record.dialled_number,
        record.group or "default",
        _stamp(record.start_time, local),
        _stamp(record.answer_time, local),
        _stamp(record.end_time, local),
        round(record.ended_after),
        round(record.talk_time),
        _hangup_cause(record),
        record.record_id,
        record.b_call_id,
        record.code.form if record.code is not None else "",
        record.codec,
        record.codec,
    )


_Q850_NAMES = {
    1: "UNALLOCATED_NUMBER",
    3: "NO_ROUTE_DESTINATION",
    16: "NORMAL_CLEARING",
    17: "USER_BUSY",
    18: "NO_USER_RESPONSE",
    19: "NO_ANSWER",
    20: "SUBSCRIBER_ABSENT",
    21: "CALL_REJECTED",
    22: "NUMBER_CHANGED",
    25: "EXCHANGE_ROUTING_ERROR",
    27: "DESTINATION_OUT_OF_ORDER",
    28: "INVALID_NUMBER_FORMAT",
    29: "FACILITY_REJECTED",
    31: "NORMAL_UNSPECIFIED",
    34: "NORMAL_CIRCUIT_CONGESTION",
    38: "NETWORK_OUT_OF_ORDER",
    41: "NORMAL_TEMPORARY_FAILURE",
    42: "SWITCH_CONGESTION",
    50: "FACILITY_NOT_SUBSCRIBED",
    52: "OUTGOING_CALL_BARRED",
    57: "BEARERCAPABILITY_NOTAUTH",
    58: "BEARERCAPABILITY_NOTAVAIL",
    63: "SERVICE_UNAVAILABLE",
    65: "BEARERCAPABILITY_NOTIMPL",
    79: "SERVICE_NOT_IMPLEMENTED",
    88: "INCOMPATIBLE_DESTINATION",
    102: "RECOVERY_ON_TIMER_EXPIRE",
    127: "INTERWORKING",
}

_ABANDONED = frozenset({Disposition.ABANDONED_AT_PROMPT, Disposition.ABANDONED_RINGING})
_CAUSES_OF_DISPOSITIONS = {
    Disposition.ANSWERED: 16,
    Disposition.NO_ANSWER: 19,
    Disposition.BUSY: 17,
    Disposition.REJECTED: 21,
    Disposition.TRUNK_FAILED: 38,
    Disposition.BLOCKED: 52,
    Disposition.CODE_REFUSED: 21,
    Disposition.CONTINUED: 16,
    Disposition.NOT_ACCEPTABLE: 88,
    Disposition.OVERLOADED: 42,
    Disposition.FAILED: 41,
    Disposition.INTERRUPTED: 41,
}


def _hangup_cause(record: CallRecord) -> str:
    if record.disposition in _ABANDONED:
        return "ORIGINATOR_CANCEL"
    cause = record.q850_cause or _CAUSES_OF_DISPOSITIONS[record.disposition]
    return _Q850_NAMES.get(cause, "NORMAL_UNSPECIFIED")
