"""The usage log as a file: sixteen columns for spreadsheets.

Its cells can't become formulas there, and all of them are quoted, because a spreadsheet may take another
separator than the comma for one. A row is made of the few facts that the store keeps beside a record, so that
a long log is written without reading a single record whole.
"""

from __future__ import annotations

import datetime
import functools
import re
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from proxy.cdr.places import place_of
from proxy.cdr.record import CallRecord

__all__ = [
    "CORRECTION_COLUMNS",
    "USAGE_LOG_COLUMNS",
    "LocalTime",
    "UsageFacts",
    "clock_time",
    "correction_cells",
    "facts_of",
    "neutralise",
    "quoted_line",
    "usage_log_lines",
    "usage_log_row",
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

CORRECTION_COLUMNS = ("Recorded Account Code", "Corrected By", "Corrected At", "Correction Reason")
"""What stands behind them where both the corrected code and the recorded one are asked for."""


class UsageFacts(NamedTuple):
    """What a row is made of."""

    location: str
    start_time: float
    talk_time: float
    direction: str
    caller_number: str
    caller_e164: str
    user: str
    dialled_number: str
    normalised_number: str
    destination_user: str
    call_class: str
    code: str
    """The form of the code that counts now."""
    recorded_code: str = ""
    """That of the code that the gate recorded; told with the three below."""
    corrected_by: str = ""
    corrected_at: float | None = None
    reason: str = ""


def facts_of(record: CallRecord) -> UsageFacts:
    """The facts of a whole record."""
    return UsageFacts(
        record.location,
        record.start_time,
        record.talk_time,
        record.direction.value,
        record.caller_number,
        record.caller_e164,
        record.user,
        record.dialled_number,
        record.normalised_number,
        record.destination_user,
        record.call_class,
        record.code.form if record.code is not None else "",
    )


def usage_log_lines(
    facts: Iterable[UsageFacts], *, zone: datetime.tzinfo = datetime.UTC, corrections: bool = False
) -> Iterator[str]:
    """The header and the rows, as lines with their line ends. ``zone`` is that of dates and times."""
    local = LocalTime(zone)
    yield quoted_line((*USAGE_LOG_COLUMNS, *(CORRECTION_COLUMNS if corrections else ())))
    for fact in facts:
        row = usage_log_row(fact, local)
        yield quoted_line((*row, *correction_cells(fact, local)) if corrections else row)


def usage_log_row(fact: UsageFacts, local: LocalTime, *, neutral: bool = True) -> tuple[str, ...]:
    """The sixteen cells of one call; not ``neutral`` where a cell is text whatever it looks like."""
    safe = neutralise if neutral else str
    (
        location,
        start_time,
        talk_time,
        direction,
        caller_number,
        caller_e164,
        user,
        dialled_number,
        normalised_number,
        destination_user,
        call_class,
        code,
        *_,
    ) = fact
    caller = caller_number or user
    day, clock = local(start_time)
    from_city, from_state = place_of(caller_e164 or caller)
    to_city, to_state = place_of(normalised_number or dialled_number)
    return (
        safe(location),
        day,
        clock,
        safe(caller),
        _DIRECTIONS.get(direction, direction),
        safe(user),
        from_city,
        from_state,
        safe(dialled_number),
        safe(destination_user),
        to_city,
        to_state,
        _CALL_TYPES.get(call_class) or safe(call_class),
        clock_time(talk_time),
        "",
        safe(code),
    )


def correction_cells(fact: UsageFacts, local: LocalTime, *, neutral: bool = True) -> tuple[str, ...]:
    """The cells of `CORRECTION_COLUMNS`; empty for a call that was not corrected."""
    safe = neutralise if neutral else str
    at = "" if fact.corrected_at is None else " ".join(local(fact.corrected_at))
    return safe(fact.recorded_code), safe(fact.corrected_by), at, safe(fact.reason)


def quoted_line(cells: tuple[str, ...]) -> str:
    """One line of CSV with every cell quoted (RFC 4180 §2)."""
    line = '","'.join(cells)
    if line.count('"') > 2 * (len(cells) - 1):
        line = '","'.join([cell.replace('"', '""') for cell in cells])
    return f'"{line}"\n'


def neutralise(cell: str) -> str:
    """A cell that a spreadsheet would take for a formula gets an apostrophe in front: then it is text.

    So does what stands behind a semicolon: where that separates cells, some spreadsheets split even what is
    quoted.
    """
    if ";" in cell:
        return _FORMULA.sub(r"\1'", cell)
    return f"'{cell}" if cell[:1] in _BEGIN_FORMULAS else cell


_BEGIN_FORMULAS = frozenset("=+-@\t\r\n")
_FORMULA = re.compile(r"(^|;)(?=[=+\-@\t\r\n])")

_DIRECTIONS = {"outbound": "Outbound", "inbound": "Inbound", "internal": "Internal"}

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


def clock_time(seconds: float) -> str:
    """Seconds as ``00:01:05``: the nearest whole one, but no talk looks like none at all."""
    whole = round(seconds) or int(seconds > 0)
    if 0 <= whole < _DAY:
        return _MINUTES[whole // 60] + _SECONDS[whole % 60]
    return f"{whole // 3600:02d}:{whole // 60 % 60:02d}:{whole % 60:02d}"


_DAY = 86_400
_QUARTER = 900
"""No time zone changes its distance from UTC within a quarter of an hour."""
_MINUTES = tuple(f"{minute // 60:02d}:{minute % 60:02d}" for minute in range(1440))
_SECONDS = tuple(f":{second:02d}" for second in range(60))
_EPOCH = datetime.date(1970, 1, 1).toordinal()


class LocalTime:
    """Turns moments into local dates and times: what they need of the calendar is asked once per quarter of
    an hour.
    """

    def __init__(self, zone: datetime.tzinfo) -> None:
        self._zone = zone
        self._distances: dict[int, int] = {}

    def __call__(self, moment: float) -> tuple[str, str]:
        """``2026-07-31`` and ``23:59:59``; "" for a moment that no calendar has."""
        try:
            whole = int(moment // 1)
            quarter = whole // _QUARTER
            distance = self._distances.get(quarter)
            if distance is None:
                distance = self._distance(quarter)
            day, second = divmod(whole + distance, _DAY)
            return _day(day), _MINUTES[second // 60] + _SECONDS[second % 60]
        except (OverflowError, ValueError, OSError):
            return "", ""

    def _distance(self, quarter: int) -> int:
        moment = datetime.datetime.fromtimestamp(quarter * _QUARTER, self._zone)
        offset = moment.utcoffset() or datetime.timedelta()
        if len(self._distances) >= 100_000:
            self._distances.clear()
        distance = self._distances[quarter] = offset // datetime.timedelta(seconds=1)
        return distance


@functools.lru_cache(maxsize=4096)
def _day(number: int) -> str:
    return datetime.date.fromordinal(_EPOCH + number).isoformat()
