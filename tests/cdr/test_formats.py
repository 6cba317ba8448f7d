"""Export formats: column orders of the usage log, Asterisk and FreeSWITCH, and cells that stay text."""

from __future__ import annotations

import csv
import dataclasses
import datetime
import json
from dataclasses import replace
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.call.outcome import cause_of_status
from proxy.cdr.formats import ExportFormat, export_lines, record_row
from proxy.cdr.record import CallRecord, Direction, Disposition
from proxy.cdr.usage_log import (
    CORRECTION_COLUMNS,
    USAGE_LOG_COLUMNS,
    LocalTime,
    clock_time,
    facts_of,
    neutralise,
    quoted_line,
    usage_log_lines,
)
from tests.cdr.samples import START, full_record

EAST = datetime.timezone(datetime.timedelta(hours=-5))


def _rows(form: ExportFormat, *records: CallRecord) -> list[list[str]]:
    return list(csv.reader("".join(export_lines(form, records)).splitlines()))


def test_usage_log_has_the_sixteen_columns() -> None:
    header, row = _rows(ExportFormat.USAGE_LOG, full_record())
    assert header == list(USAGE_LOG_COLUMNS)
    assert len(header) == 16
    assert dict(zip(header, row, strict=True)) == {
        "Location": "Main site",
        "Start of Call Date": "2026-01-01",
        "Start of Call Time": "00:00:00",
        "Calling Number": "'+12125550123",
        "Call Direction": "Outbound",
        "Originating User": "204",
        "Originating City": "New York",
        "Originating State": "NY",
        "Dialed Number": "901144201234567",
        "Destination User": "",
        "Destination City": "London",
        "Destination State": "",
        "Call Type": "International",
        "Duration": "00:01:00",
        "Call Charge": "",
        "Account Code": "ACME-12/7",
    }


def test_usage_log_of_a_bare_record_is_empty_where_nothing_is_known() -> None:
    record = CallRecord("r1", START, Direction.INBOUND, call_class="odd", normalised_number="+1", user="201")
    row = record_row(ExportFormat.USAGE_LOG, record, zone=EAST)
    assert row[:6] == ("", "2025-12-31", "19:00:00", "201", "Inbound", "201")
    assert row[12:] == ("odd", "00:00:00", "", "")


@pytest.mark.parametrize(
    ("number", "place"),
    [
        ("+12125550123", ("New York", "NY")),
        ("+13105550123", ("", "California")),
        ("+442012345678", ("London", "")),
        ("+493012345678", ("Berlin", "")),
        ("+4915112345678", ("", "")),
        ("+999", ("", "")),
        ("+", ("", "")),
        ("204", ("", "")),
    ],
)
def test_places_are_known_from_the_prefix(number: str, place: tuple[str, str]) -> None:
    row = record_row(ExportFormat.USAGE_LOG, CallRecord("r1", START, normalised_number=number))
    assert row[10:12] == place


@pytest.mark.parametrize("cell", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "\n=1"])
def test_formulas_become_text(cell: str) -> None:
    assert neutralise(cell) == "'" + cell


def test_a_formula_behind_a_semicolon_becomes_text_too() -> None:
    assert neutralise("A;=1+1") == "A;'=1+1"


@given(st.text())
def test_no_cell_of_the_usage_log_begins_a_formula(text: str) -> None:
    record = replace(full_record(), caller_number=text, location=text, dialled_number=text, user=text)
    for cell in record_row(ExportFormat.USAGE_LOG, record):
        assert str(cell)[:1] not in {"=", "+", "-", "@", "\t", "\r", "\n"}


def test_asterisk_master_csv_order() -> None:
    [row] = _rows(ExportFormat.ASTERISK, full_record())
    assert row == [
        "ACME-12/7",
        "+12125550123",
        "901144201234567",
        "Consultants",
        '"Desk" <+12125550123>',
        "SIP/pbx",
        "SIP/second",
        "Dial",
        "SIP/second/+442012345678",
        "2026-01-01 00:00:00",
        "2026-01-01 00:00:06",
        "2026-01-01 00:01:06",
        "66",
        "60",
        "ANSWERED",
        "DOCUMENTATION",
        "r1",
        "outside the permissions of Consultants",
    ]


@pytest.mark.parametrize("disposition", Disposition)
def test_every_disposition_is_one_of_asterisks(disposition: Disposition) -> None:
    unanswered = CallRecord("r1", START, disposition=disposition)
    words = {"ANSWERED", "NO ANSWER", "BUSY", "FAILED"}
    assert record_row(ExportFormat.ASTERISK, unanswered)[14] in words
    answered = replace(unanswered, answered_after=1.0, ended_after=2.0)
    assert record_row(ExportFormat.ASTERISK, answered)[14] == "ANSWERED"
    assert str(record_row(ExportFormat.FREESWITCH, unanswered)[9]).isupper()


def test_asterisk_row_of_a_call_without_answer_or_trunk() -> None:
    record = CallRecord("r1", START, user="204", disposition=Disposition.BLOCKED)
    row = record_row(ExportFormat.ASTERISK, record)
    assert row[4:11] == ("204", "SIP/204", "", "", "", "2026-01-01 00:00:00", "")
    assert row[14] == "FAILED"


def test_freeswitch_default_template_order() -> None:
    [line] = export_lines(ExportFormat.FREESWITCH, [full_record()])
    assert line == (
        '"Desk","+12125550123","901144201234567","Consultants","2026-01-01 00:00:00","2026-01-01 00:00:06",'
        '"2026-01-01 00:01:06","66","60","NORMAL_CLEARING","r1","b@192.0.2.9","ACME-12/7","PCMU","PCMU"\n'
    )


@pytest.mark.parametrize(
    ("record", "cause"),
    [
        (CallRecord("r1", START, disposition=Disposition.BUSY), "USER_BUSY"),
        (
            CallRecord("r1", START, disposition=Disposition.ABANDONED_RINGING, q850_cause=16),
            "ORIGINATOR_CANCEL",
        ),
        (
            CallRecord("r1", START, disposition=Disposition.ABANDONED_AT_PROMPT, q850_cause=16),
            "ORIGINATOR_CANCEL",
        ),
        (CallRecord("r1", START, disposition=Disposition.ANSWERED, q850_cause=16), "NORMAL_CLEARING"),
        (CallRecord("r1", START, q850_cause=21), "CALL_REJECTED"),
        (CallRecord("r1", START, q850_cause=99), "NORMAL_UNSPECIFIED"),
    ],
)
def test_freeswitch_hangup_cause(record: CallRecord, cause: str) -> None:
    assert record_row(ExportFormat.FREESWITCH, record)[9] == cause


@pytest.mark.parametrize("status", [*range(400, 500), *range(500, 507), *range(600, 609)])
def test_every_cause_that_the_gate_gives_has_its_name(status: int) -> None:
    record = CallRecord("r1", START, disposition=Disposition.REJECTED, q850_cause=cause_of_status(status))
    assert record_row(ExportFormat.FREESWITCH, record)[9] != "NORMAL_UNSPECIFIED"


def test_json_lines_name_every_field() -> None:
    [line] = export_lines(ExportFormat.JSON_LINES, [full_record()])
    found = json.loads(line)
    names = {item.name for item in dataclasses.fields(CallRecord)} - {"phase"}
    assert set(found) == names | {"start", "talk_time"}
    assert found["start"] == "2026-01-01T00:00:00.250+00:00"
    assert found["talk_time"] == pytest.approx(60.4)
    assert set(found["code"]) == {"form", "dialled", "key", "description"}
    assert found["code"]["form"] == "ACME-12/7"
    assert found["trunks"][-1]["trunk"] == "second"
    assert found["a_media"]["packets_received"] >= 0
    assert found["disposition"] == "answered"


def test_json_lines_name_what_is_not_set_too() -> None:
    [line] = export_lines(ExportFormat.JSON_LINES, [CallRecord("r1", START)])
    found = json.loads(line)
    assert (found["code"], found["trunks"], found["a_media"], found["user"]) == (None, [], None, "")
    assert found["answered_after"] is None


def test_every_cell_of_the_usage_log_is_quoted() -> None:
    [header, _] = export_lines(ExportFormat.USAGE_LOG, [full_record()])
    assert header.startswith('"Location","Start of Call Date"')


def test_the_place_of_a_caller_is_that_of_its_public_number() -> None:
    record = CallRecord("r1", START, caller_number="204", caller_e164="+12125550123")
    assert record_row(ExportFormat.USAGE_LOG, record)[3:8] == ("204", "Outbound", "", "New York", "NY")


def test_an_export_is_made_as_it_is_read() -> None:
    def records() -> list[CallRecord]:
        return [full_record("r1"), full_record("r2")]

    lines = export_lines(ExportFormat.ASTERISK, iter(records()))
    assert '"r1"' in next(lines)
    assert '"r2"' in next(lines)


@given(
    st.floats(min_value=-2e9, max_value=4e9), st.sampled_from(["Europe/Berlin", "America/St_Johns", "UTC"])
)
def test_local_times_are_those_of_the_calendar(moment: float, name: str) -> None:
    expected = datetime.datetime.fromtimestamp(moment // 1, ZoneInfo(name))
    assert " ".join(LocalTime(ZoneInfo(name))(moment)) == expected.strftime("%Y-%m-%d %H:%M:%S")


@pytest.mark.parametrize("moment", [1e300, -1e300, float("inf"), float("nan")])
def test_a_moment_that_no_calendar_has_is_empty_in_every_format(moment: float) -> None:
    assert LocalTime(EAST)(moment) == ("", "")
    for form in ExportFormat:
        if form is not ExportFormat.JSON_LINES:
            assert record_row(form, CallRecord("r1", moment))


def test_the_hour_that_summer_time_takes_or_gives_is_told_right() -> None:
    berlin = LocalTime(ZoneInfo("Europe/Berlin"))
    for utc, local in (
        ("2026-03-29T00:59:59", "01:59:59"),
        ("2026-03-29T01:00:00", "03:00:00"),
        ("2026-10-25T00:59:59", "02:59:59"),
        ("2026-10-25T01:00:00", "02:00:00"),
    ):
        moment = datetime.datetime.fromisoformat(utc + "+00:00").timestamp()
        assert berlin(moment)[1] == local


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0, "00:00:00"),
        (0.004, "00:00:01"),
        (0.5, "00:00:01"),
        (1.4, "00:00:01"),
        (59.6, "00:01:00"),
        (86_399.0, "23:59:59"),
        (360_000.0, "100:00:00"),
    ],
)
def test_durations_are_hours_minutes_seconds(seconds: float, text: str) -> None:
    assert clock_time(seconds) == text


@given(st.lists(st.text(), min_size=2, max_size=5))
def test_rfc4180_2_quoted_cells_come_back_as_they_were(cells: list[str]) -> None:
    assert next(csv.reader([quoted_line(tuple(cells))])) == cells or "\r" in "".join(cells)


def test_recorded_code_and_who_corrected_it_stand_behind_the_sixteen_columns() -> None:
    fact = facts_of(full_record())._replace(
        recorded_code="OLD-1", corrected_by="=anna", corrected_at=START, reason="wrong client"
    )
    header, row = csv.reader(usage_log_lines([fact], corrections=True))
    assert tuple(header) == USAGE_LOG_COLUMNS + CORRECTION_COLUMNS
    assert row[15:] == ["ACME-12/7", "OLD-1", "'=anna", "2026-01-01 00:00:00", "wrong client"]
    _, row = csv.reader(usage_log_lines([facts_of(full_record())], corrections=True))
    assert row[16:] == ["", "", "", ""]
