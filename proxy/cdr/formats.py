"""How records leave the gate: the 16-column usage log, Asterisk's and FreeSWITCH's CSV, and JSON lines.

All exports are streams: a row is made when it is asked for. The usage log is meant for spreadsheets, so its
cells can't become formulas there; the other formats are read by programs and are left as they are.
"""

from __future__ import annotations

import csv
import dataclasses
import datetime
import enum
import functools
import io
import json
import re
from collections.abc import Iterable, Iterator
from typing import Literal

import phonenumbers

from proxy.cdr.record import CallRecord, Direction, Disposition

__all__ = [
    "USAGE_LOG_COLUMNS",
    "ExportFormat",
    "export_lines",
    "header_row",
    "neutralise",
    "record_object",
    "record_row",
]

USAGE_LOG_COLUMNS = (
    "Location",
    "Start of Call Date",
    "Start of Call Time",
    "Calling Number",
    "Call Direction",
    "Originating User",
    "Originating City",
    "Originating State",
    "Dialed Number",
    "Destination User",
    "Destination City",
    "Destination State",
    "Call Type",
    "Duration",
    "Call Charge",
    "Account Code",
)


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
        # The usage log too: a spreadsheet may take another separator than the comma for one.
        return csv.QUOTE_NONNUMERIC if self is ExportFormat.ASTERISK else csv.QUOTE_ALL


def export_lines(
    form: ExportFormat, records: Iterable[CallRecord], *, zone: datetime.tzinfo = datetime.UTC
) -> Iterator[str]:
    """The export as lines with their line ends. ``zone`` is that of the dates and times in CSV formats."""
    if form is ExportFormat.JSON_LINES:
        for record in records:
            yield json.dumps(record_object(record), ensure_ascii=False) + "\n"
        return
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n", quoting=form.quoting)
    if header := header_row(form):
        writer.writerow(header)
        yield _taken(text)
    for record in records:
        writer.writerow(record_row(form, record, zone=zone))
        yield _taken(text)


def _taken(text: io.StringIO) -> str:
    line = text.getvalue()
    text.seek(0)
    text.truncate()
    return line


def header_row(form: ExportFormat) -> tuple[str, ...]:
    """The header row, or () for a format without one."""
    return USAGE_LOG_COLUMNS if form is ExportFormat.USAGE_LOG else ()


def record_row(
    form: ExportFormat, record: CallRecord, *, zone: datetime.tzinfo = datetime.UTC
) -> tuple[str | int, ...]:
    """One record as a row of a CSV format (all but JSON lines)."""
    if form is ExportFormat.USAGE_LOG:
        return tuple(neutralise(cell) for cell in _usage_log_row(record, zone))
    if form is ExportFormat.ASTERISK:
        return _asterisk_row(record, zone)
    return _freeswitch_row(record, zone)


def record_object(record: CallRecord) -> dict[str, object]:
    """One record as a JSON object: every field by its name, set or not, times in seconds."""
    found = {item.name: getattr(record, item.name) for item in dataclasses.fields(record)}
    # The usage log holds final records only.
    del found["phase"]
    for name in ("code", "a_media", "b_media"):
        if found[name] is not None:
            found[name] = dataclasses.asdict(found[name])
    found["trunks"] = [dataclasses.asdict(trunk) for trunk in record.trunks]
    return {"start": record.start.isoformat(timespec="milliseconds"), **found, "talk_time": record.talk_time}


def neutralise(cell: str) -> str:
    """A cell that a spreadsheet would take for a formula gets an apostrophe in front: then it is text.

    So does what stands behind a semicolon: where that separates cells, some spreadsheets split even what is
    quoted.
    """
    return _FORMULA.sub(r"\1'", cell)


_FORMULA = re.compile(r"(^|;)(?=[=+\-@\t\r\n])")


# --- usage log
# -----------------------------------------------------------------------------------------------


def _usage_log_row(record: CallRecord, zone: datetime.tzinfo) -> tuple[str, ...]:
    start = record.start.astimezone(zone)
    caller = record.caller_number or record.user
    dialled = record.normalised_number or record.dialled_number
    from_city, from_state = _place(record.caller_e164 or caller)
    to_city, to_state = _place(dialled)
    return (
        record.location,
        start.strftime("%Y-%m-%d"),
        start.strftime("%H:%M:%S"),
        caller,
        _DIRECTIONS[record.direction],
        record.user,
        from_city,
        from_state,
        record.dialled_number,
        record.destination_user,
        to_city,
        to_state,
        _CALL_TYPES.get(record.call_class, record.call_class),
        _clock_time(record.talk_time),
        "",
        record.code.form if record.code is not None else "",
    )


_DIRECTIONS = {
    Direction.OUTBOUND: "Outbound",
    Direction.INBOUND: "Inbound",
    Direction.INTERNAL: "Internal",
}

_CALL_TYPES = {
    "emergency": "Emergency",
    "internal": "Internal",
    "toll_free": "Toll-free",
    "local": "Local",
    "national": "National",
    "mobile": "Mobile",
    "international": "International",
    "premium": "Premium",
    "special": "Special",
}


def _clock_time(seconds: float) -> str:
    whole = round(seconds)
    return f"{whole // 3600:02d}:{whole // 60 % 60:02d}:{whole % 60:02d}"


@functools.lru_cache(maxsize=4096)
def _place(number: str) -> tuple[str, str]:
    """City and state of a number in E.164 with ``+``, as far as its prefix tells.

    The data say "City, ST" in North America, and a city or a region elsewhere; a country's own name is
    neither.
    """
    if not number.startswith("+"):
        return "", ""
    try:
        parsed = phonenumbers.parse(number, None)
    except phonenumbers.NumberParseException:
        return "", ""
    from phonenumbers import geocoder  # 100 MB of places: only a process that exports pays for them

    description = geocoder.description_for_number(parsed, "en")
    if not description or description == geocoder.country_name_for_number(parsed, "en"):
        return "", ""
    city, _, state = description.rpartition(", ")
    if city:
        return city, state
    if parsed.country_code == phonenumbers.country_code_for_region("US"):
        return "", description
    return description, ""


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


def _asterisk_row(record: CallRecord, zone: datetime.tzinfo) -> tuple[str | int, ...]:
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
        _stamp(record.start_time, zone),
        _stamp(record.answer_time, zone),
        _stamp(record.end_time, zone),
        round(record.ended_after),
        round(record.talk_time),
        disposition,
        "DOCUMENTATION",
        record.record_id,
        record.reason,
    )


def _stamp(seconds: float | None, zone: datetime.tzinfo) -> str:
    if seconds is None:
        return ""
    return datetime.datetime.fromtimestamp(seconds, zone).strftime("%Y-%m-%d %H:%M:%S")


# --- FreeSWITCH
# ----------------------------------------------------------------------------------------------


def _freeswitch_row(record: CallRecord, zone: datetime.tzinfo) -> tuple[str | int, ...]:
    return (
        record.caller_name,
        record.caller_number or record.user,
        record.dialled_number,
        record.group or "default",
        _stamp(record.start_time, zone),
        _stamp(record.answer_time, zone),
        _stamp(record.end_time, zone),
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
