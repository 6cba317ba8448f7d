"""Totals, reports, statements and corrections against the plain sums of the same calls."""

from __future__ import annotations

import calendar
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import create_engine, event, text

from proxy.cdr.record import CallRecord, Disposition, UsedCode
from proxy.errors import ConfigurationError
from proxy.policy import AccountCode, NumberPlan, User, UserGroup, new_code
from proxy.store import (
    Actor,
    ReportBy,
    ReportOrder,
    ReportsRepository,
    Store,
    UsageFilter,
    UsageRepository,
    VersionConflict,
)
from proxy.store.database import Database
from proxy.store.days import cover, day_of, site_zone
from proxy.store.reports import WrongCodes
from tests.cdr.samples import full_record
from tests.store.calls import CODES, many_calls

CALLS = many_calls(1500)
JANUARY = date(2026, 1, 1), date(2026, 1, 31)


@pytest.fixture(scope="module")
def common(common_url: str) -> Iterator[Store]:
    """A log that is only read."""
    with _log(common_url) as store:
        yield store


@pytest.fixture
def log(url: str) -> Iterator[Store]:
    """A log of the test's own."""
    with _log(url) as store:
        yield store


def _log(url: str) -> Store:
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setenv("TZ", "UTC")
        store = Store(url)
    store.codes.upsert_many(
        [AccountCode(code.key, code.form, code.description) for code in CODES], may_update=False
    )
    store.groups.add(UserGroup("Group 1"))
    store.users.add(User("204", "Group 1", "Anna"))
    store.usage.insert_many(CALLS)
    return store


def _key(by: ReportBy, call: CallRecord) -> str | None:
    if by is ReportBy.CODE:
        return None if call.code is None else call.code.key
    return {
        ReportBy.USER: call.user,
        ReportBy.GROUP: call.group,
        ReportBy.CLASS: call.call_class,
        ReportBy.RESULT: call.disposition.value,
        ReportBy.DAY: datetime.fromtimestamp(call.start_time, UTC).date().isoformat(),
    }[by]


def _sums(by: ReportBy, first: date, last: date) -> dict[str, tuple[int, int, float]]:
    calls, answered, talk = Counter[str](), Counter[str](), Counter[str]()
    for call in CALLS:
        key = _key(by, call)
        if key is None or not first <= datetime.fromtimestamp(call.start_time, UTC).date() <= last:
            continue
        calls[key] += 1
        answered[key] += call.talk_time > 0
        talk[key] += round(call.talk_time * 1000)
    return {key: (calls[key], answered[key], talk[key] / 1000) for key in calls}


@pytest.mark.parametrize("by", ReportBy)
@pytest.mark.parametrize(
    "days",
    [
        JANUARY,
        (date(2026, 1, 1), date(2026, 2, 28)),
        (date(2026, 1, 9), date(2026, 2, 3)),
        (date(2026, 1, 5), date(2026, 1, 5)),
        (date(2026, 1, 4), date(2026, 1, 30)),
        (date(2025, 12, 20), date(2026, 2, 26)),
        (date(2025, 1, 1), date(2025, 12, 31)),
    ],
)
def test_a_report_adds_up_what_the_calls_are(common: Store, by: ReportBy, days: tuple[date, date]) -> None:
    expected = _sums(by, *days)
    report = common.reports.report(by, *days, limit=1000)
    found = {line.key: (line.calls, line.answered, line.talk_time) for line in report.lines}
    assert found == expected
    assert report.count == len(expected)
    assert report.calls == sum(calls for calls, _, _ in expected.values())
    assert report.talk_time == pytest.approx(sum(talk for _, _, talk in expected.values()))


@given(st.dates(date(2023, 11, 1), date(2025, 2, 1)), st.integers(0, 100))
def test_a_range_is_months_and_as_few_days_as_possible(first: date, days: int) -> None:
    last = first + timedelta(days=days)
    whole, more, less = cover(first, last)
    covered = Counter[date]()
    for month in whole:
        begin = date.fromisoformat(f"{month}-01")
        length = calendar.monthrange(begin.year, begin.month)[1]
        covered.update(begin + timedelta(days=number) for number in range(length))
    for sign, ranges in ((1, more), (-1, less)):
        for since, until in ranges:
            length = (until - since).days + 1
            assert 1 <= length <= 15 + (sign > 0)
            covered.update({since + timedelta(days=number): sign for number in range(length)})
    assert {day: 1 for day in covered if covered[day]} == {
        first + timedelta(days=number): 1 for number in range(days + 1)
    }
    assert set(covered.values()) <= {0, 1}


def test_the_lines_of_most_talk_time_come_with_a_report(common: Store) -> None:
    for by in ReportBy:
        report = common.reports.report(by, *JANUARY, order=ReportOrder.KEY, limit=1, most=3)
        assert report.most == common.reports.report(by, *JANUARY, limit=3).lines
        assert len(report.lines) == 1


def test_a_report_is_sorted_and_paged(common: Store) -> None:
    whole = common.reports.report(ReportBy.CODE, *JANUARY, order=ReportOrder.CALLS, limit=1000).lines
    assert [line.calls for line in whole] == sorted((line.calls for line in whole), reverse=True)
    page = common.reports.report(ReportBy.CODE, *JANUARY, order=ReportOrder.CALLS, offset=5, limit=3)
    assert page.lines == whole[5:8]
    assert page.count == len(whole)
    by_key = common.reports.report(ReportBy.CODE, *JANUARY, order=ReportOrder.KEY, descending=False).lines
    assert [line.key for line in by_key] == sorted(line.key for line in by_key)
    with pytest.raises(ConfigurationError, match="first day"):
        common.reports.report(ReportBy.CODE, JANUARY[1], JANUARY[0])


def test_lines_that_are_alike_tell_nothing_of_the_digits_to_who_sees_no_codes(store: Store) -> None:
    forms = ("55", "11", "99", "33")
    for form in forms:
        store.codes.add(new_code(form, plan=NumberPlan()))
    alike = [replace(CALLS[0], record_id=form, code=UsedCode(form, form, form)) for form in sorted(forms)]
    store.usage.insert_many(alike)
    day = datetime.fromtimestamp(CALLS[0].start_time, store.usage.zone).date()
    for days in ((day, day), (day.replace(day=1), date(day.year, 12, 31))):
        masked = store.reports.report(ReportBy.CODE, *days, order=ReportOrder.CALLS, masked=True)
        assert [line.key for line in masked.lines] == list(forms), "by age"
        plain = store.reports.report(ReportBy.CODE, *days, order=ReportOrder.CALLS)
        assert [line.key for line in plain.lines] == sorted(forms)


def test_lines_of_deleted_codes_tell_nothing_of_the_digits_either(store: Store) -> None:
    talks = {"700012": 9.0, "500012": 5.0, "300012": 7.0, "100013": 1.0, "44": 1.0, "22": 3.0}
    calls = [
        replace(CALLS[0], record_id=f"r{form}", code=UsedCode(form, form, form), ended_after=10.0 + talk)
        for form, talk in talks.items()
    ]
    store.usage.insert_many([replace(call, answered_after=10.0) for call in calls])
    day = datetime.fromtimestamp(CALLS[0].start_time, store.usage.zone).date()
    masked = store.reports.report(
        ReportBy.CODE, day, day, order=ReportOrder.CALLS, descending=False, masked=True
    )
    # All have one call. Of what is shown - length, end, talk time - everything is in order, so nothing is
    # left for the digits to decide.
    assert [(line.key, line.talk_time) for line in masked.lines] == [
        ("44", 1.0),
        ("22", 3.0),
        ("500012", 5.0),
        ("300012", 7.0),
        ("700012", 9.0),
        ("100013", 1.0),
    ]


def test_all_lines_of_a_report_are_those_of_its_pages(common: Store) -> None:
    first, last = date(2026, 1, 1), date(2026, 12, 31)
    for by in ReportBy:
        for order in ReportOrder:
            for masked in (False, True):
                view = {"order": order, "descending": masked, "masked": masked}
                pages = common.reports.report(by, first, last, limit=10_000, **view)  # type: ignore[arg-type]
                assert pages.lines
                assert list(common.reports.lines(by, first, last, **view)) == pages.lines  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError):
        list(common.reports.lines(ReportBy.DAY, last, first, order=ReportOrder.KEY, descending=False))


def test_lines_bear_the_names_of_codes_and_users(common: Store) -> None:
    line = common.reports.report(ReportBy.CODE, *JANUARY).lines[0]
    assert line.name == f"C-{line.key[1:]}"
    assert line.description == f"Client {line.key[1:]}"
    users = {line.key: line.name for line in common.reports.report(ReportBy.USER, *JANUARY).lines}
    assert users["204"] == "Anna"
    assert users["205"] == ""
    assert "key=" not in repr(line)
    assert "name=" not in repr(line)


def test_a_statement_is_the_month_of_one_code(log: Store) -> None:
    statement = log.reports.statement("C-7", 2026, 1)
    calls = list(log.usage.stream(statement.wanted))
    expected = [
        call
        for call in CALLS
        if call.code == CODES[7] and datetime.fromtimestamp(call.start_time, UTC).month == 1
    ]
    assert calls == expected
    assert statement.total.calls == len(expected)
    assert statement.total.talk_time == pytest.approx(sum(call.talk_time for call in expected), abs=0.1)
    assert (statement.first, statement.last) == JANUARY
    log.codes.delete_many(["C-7"])
    assert log.reports.statement("27", 2026, 1).total.calls == len(expected)
    assert log.reports.statement("999", 2026, 1).total.calls == 0
    with pytest.raises(ConfigurationError, match="month"):
        log.reports.statement("27", 2026, 13)


ANY_MATTER = "??????"


def _of_matter(name: str, dialled: str, *, day: int = 5) -> CallRecord:
    code = UsedCode(dialled, dialled, ANY_MATTER, "Any matter")
    start = datetime(2026, 1, day, 12, tzinfo=UTC).timestamp()
    return replace(full_record(name), start_time=start, code=code)


def test_calls_of_a_wildcard_code_are_found_billed_and_corrected_by_what_was_dialled(store: Store) -> None:
    store.codes.add(new_code(ANY_MATTER, "Any matter", plan=NumberPlan()))
    store.codes.add(new_code("471000", "A matter of its own", plan=NumberPlan()))
    own = replace(_of_matter("own", "471000"), code=UsedCode("471000", "471000", "471000", "Own"))
    calls = [_of_matter(f"w{n}", dialled) for n, dialled in enumerate(("471147", "471148", "471148"))]
    store.usage.insert_many([*calls, own])
    assert store.usage.count(UsageFilter(code_key="471147")) == 1
    lines = store.reports.report(ReportBy.CODE, *JANUARY, order=ReportOrder.KEY, descending=False).lines
    assert [(line.key, line.calls, line.description) for line in lines] == [
        ("471000", 1, "Own"),
        ("471147", 1, "Any matter"),
        ("471148", 2, "Any matter"),
    ]
    assert store.reports.statement("471148", 2026, 1).total.calls == 2
    whole = store.reports.statement(ANY_MATTER, 2026, 1)
    assert (whole.total.calls, whole.total.answered) == (3, 3)
    assert whole.total.talk_time == pytest.approx(3 * own.talk_time, abs=0.01)
    assert {call.record_id for call in store.usage.stream(whole.wanted)} == {"w0", "w1", "w2"}
    # What the form is filled with is what counts already; other digits of the same code, or another code.
    assert store.corrections.correct("w0", "471147", "the same") is None
    assert store.corrections.correct("w0", "471-148", "a matter's neighbour") is not None
    assert store.corrections.correct("w1", "471000", "of its own") is not None
    with pytest.raises(ConfigurationError, match="does not exist"):
        store.corrections.correct("w2", "47114", "too short")
    lines = store.reports.report(ReportBy.CODE, *JANUARY, order=ReportOrder.KEY, descending=False).lines
    assert [(line.key, line.calls) for line in lines] == [("471000", 2), ("471148", 2)]
    whole = store.reports.statement(ANY_MATTER, 2026, 1)
    assert {call.record_id for call in store.usage.stream(whole.wanted)} == {"w0", "w2"}
    found = store.codes.find(ANY_MATTER)
    assert found is not None
    assert found.value.uses == 3
    store.close()


def test_a_report_says_what_its_digits_were_then_and_when_they_are_anothers_today(store: Store) -> None:
    store.codes.add(new_code("300003", "Client C", plan=NumberPlan()))
    then = UsedCode("300003", "300003", "300003", "Client C")
    calls = [replace(_of_matter(f"c{day}", "", day=day), code=then) for day in (3, 4)]
    store.usage.insert_many(calls)
    before = store.reports.report(ReportBy.CODE, *JANUARY).lines
    assert [(line.description, line.today) for line in before] == [("Client C", "")]
    assert store.reports.statement("300003", 2026, 1).meanings == ()
    store.codes.delete_many(["300003"])
    store.codes.add(new_code("300-003", "Client D", plan=NumberPlan()))
    for line in (
        store.reports.report(ReportBy.CODE, *JANUARY).lines[0],
        store.reports.report(ReportBy.CODE, date(2026, 1, 2), date(2026, 1, 4)).lines[0],
        next(store.reports.lines(ReportBy.CODE, *JANUARY, order=ReportOrder.KEY, descending=True)),
        store.reports.statement("300003", 2026, 1).total,
    ):
        assert (line.name, line.description, line.today) == ("300003", "Client C", "Client D")
        assert line.code_id
    assert store.reports.statement("300003", 2026, 1).meanings == ("Client C", "Client D")
    assert store.reports.statement("300003", 2026, 2).meanings == ()
    # Who corrects a call gives it the code of today, and the call keeps telling what it had.
    assert store.corrections.correct("c4", "", "nobody's") is not None
    assert store.corrections.correct("c4", "300003", "Client D's after all") is not None
    assert store.corrections.of("c4")[0].before == UsedCode("300003", "", "300003", "Client C")
    assert store.reports.report(ReportBy.CODE, *JANUARY).lines[0].description == "Client D"
    store.close()


def test_a_call_past_midnight_belongs_to_the_day_on_which_it_started(store: Store) -> None:
    berlin = ZoneInfo("Europe/Berlin")
    usage = UsageRepository(store.database, zone=berlin)
    start = datetime(2026, 3, 31, 23, 59, 30, tzinfo=berlin).timestamp()
    usage.insert_many([replace(full_record(), start_time=start, ended_after=7200.0, answered_after=0.0)])
    reports = ReportsRepository(store.database, zone=berlin)
    days = reports.report(ReportBy.DAY, date(2026, 3, 1), date(2026, 4, 30)).lines
    assert [(line.key, line.talk_time) for line in days] == [("2026-03-31", 7200.0)]
    assert reports.statement("2263127", 2026, 3).total.calls == 1
    assert list(usage.stream(reports.statement("2263127", 2026, 3).wanted))
    assert reports.statement("2263127", 2026, 4).total.calls == 0
    assert not list(usage.stream(reports.statement("2263127", 2026, 4).wanted))


def test_a_repeated_record_counts_once(log: Store) -> None:
    before = log.reports.report(ReportBy.DAY, *JANUARY)
    assert log.usage.insert_many(CALLS) == 0
    assert log.usage.insert_many([*CALLS[:10], replace(CALLS[0], record_id="new")]) == 1
    after = log.reports.report(ReportBy.DAY, *JANUARY)
    assert after.calls == before.calls + 1


def test_a_time_that_no_calendar_has_is_kept(store: Store) -> None:
    store.usage.insert_many([replace(full_record(), start_time=1e17)])
    assert store.usage.count() == 1
    assert day_of(1e17, site_zone()) == "0001-01-01"


# --- corrections


@pytest.fixture
def anna(log: Store) -> Store:
    return log.acting(Actor("anna", "billing_contact", "192.0.2.7"))


def _with(code: UsedCode | None) -> CallRecord:
    return next(call for call in CALLS if call.code == code and call.start_time < CALLS[700].start_time)


def test_a_corrected_code_counts_and_the_record_stays(anna: Store) -> None:
    call = _with(CODES[3])
    months = (call.start.year, call.start.month)
    before = [anna.reports.statement(code, *months).total for code in ("C-3", "C-9")]
    made = anna.corrections.correct(call.record_id, "C-9", "wrong client", seen=0)
    assert made is not None
    assert (made.who, made.reason) == ("anna", "wrong client")
    entry = anna.usage.entry(call.record_id)
    assert entry is not None
    assert entry.corrected
    assert entry.record == call
    assert entry.shown.code == UsedCode("C-9", "", "29", "Client 9")
    after = [anna.reports.statement(code, *months).total for code in ("C-3", "C-9")]
    assert [line.calls for line in after] == [before[0].calls - 1, before[1].calls + 1]
    assert after[1].talk_time == pytest.approx(before[1].talk_time + call.talk_time, abs=0.001)
    assert call.record_id in {found.record_id for found in anna.usage.stream(UsageFilter(code_key="29"))}
    assert call.record_id not in {found.record_id for found in anna.usage.stream(UsageFilter(code_key="23"))}


def test_corrections_back_and_forth_leave_the_totals_as_they_were(anna: Store) -> None:
    first, last = date(2026, 1, 1), date(2026, 12, 31)
    before = anna.reports.report(ReportBy.CODE, first, last, limit=100)
    with_code, without = _with(CODES[3]), _with(None)
    for record_id, codes in (
        (with_code.record_id, ("C-9", "", "29", "C-3")),
        (without.record_id, ("C-9", "C-4", "")),
    ):
        for code in codes:
            assert anna.corrections.correct(record_id, code, "again") is not None
    assert anna.reports.report(ReportBy.CODE, first, last, limit=100) == before
    history = anna.corrections.of(with_code.record_id)
    assert [None if item.after is None else item.after.key for item in history] == ["29", None, "29", "23"]
    assert history[0].before == UsedCode("C-3", "", "23", "Client 3")
    assert anna.corrections.correct(with_code.record_id, "23", "the same") is None


def test_a_correction_is_audited_without_digits(anna: Store) -> None:
    call = _with(None)
    anna.corrections.correct(call.record_id, "C-9", "forgotten")
    entry = anna.audit.page(limit=1)[0]
    assert (entry.who, entry.action, entry.kind, entry.name) == ("anna", "correct", "record", call.record_id)
    assert entry.before == {"code": None}
    assert entry.after == {"code": "***", "description": "Client 9", "reason": "forgotten"}
    assert "UsedCode" not in repr(anna.corrections.of(call.record_id))


def test_the_second_of_two_correctors_sees_the_first(anna: Store) -> None:
    call = _with(CODES[3])
    anna.corrections.correct(call.record_id, "C-9", "first", seen=0)
    with pytest.raises(VersionConflict) as caught:
        anna.corrections.correct(call.record_id, "C-4", "second", seen=0)
    assert caught.value.current == UsedCode("C-9", "", "29", "Client 9")
    assert anna.corrections.correct(call.record_id, "C-4", "second", seen=1) is not None


@pytest.mark.parametrize(
    ("record_id", "code", "reason", "says"),
    [
        ("nothing", "C-9", "why", "call does not exist"),
        ("r000001", "9999", "why", "code 9999 does not exist"),
        ("r000001", "*#", "why", "code"),
        ("r000001", "C-9", "  ", "reason"),
        ("r000001", "C-9", "a\nb", "reason"),
        ("r000001", "C-9", "x" * 501, "reason"),
    ],
)
def test_what_is_no_correction_is_refused(
    common: Store, record_id: str, code: str, reason: str, says: str
) -> None:
    with pytest.raises(ConfigurationError, match=says):
        common.corrections.correct(record_id, code, reason)
    assert common.corrections.of(record_id) == []


def test_a_correction_is_no_use_of_a_code(anna: Store) -> None:
    before = anna.codes.get("C-9")
    anna.corrections.correct(_with(CODES[3]).record_id, "C-9", "why")
    assert anna.codes.get("C-9") == before


# --- the migration of a log that is there


@pytest.mark.sqlite
def test_a_log_of_before_is_added_up_when_it_is_migrated(
    log: Store, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", "proxy.store:migrations")
    first, last = date(2026, 1, 1), date(2026, 12, 31)
    before = {by: log.reports.report(by, first, last, limit=1000) for by in ReportBy}
    with log.database.write() as connection:
        config.attributes["connection"] = connection
        command.downgrade(config, "0005")
        connection.execute(text("UPDATE call_records SET code_key = NULL WHERE code_key = ''"))
    monkeypatch.setenv("TZ", "UTC")
    with Store(url) as store:
        for by in ReportBy:
            report = store.reports.report(by, first, last, limit=1000)
            assert report.calls == before[by].calls
            assert report.count == before[by].count
            assert report.talk_time == pytest.approx(before[by].talk_time, abs=1)
        assert store.usage.count(UsageFilter(number="5550")) > 0
    engine = create_engine(url)
    with engine.connect() as connection:
        assert connection.execute(text("SELECT count(*) FROM call_numbers")).scalar()
    engine.dispose()


def test_calls_of_wildcard_codes_of_before_are_put_under_what_was_dialled(store: Store, url: str) -> None:
    store.codes.add(new_code(ANY_MATTER, "Any matter", plan=NumberPlan()))
    plain = UsedCode("471148", "471148", "471148", "Once a code of its own")
    calls = [_of_matter(f"w{n}", dialled) for n, dialled in enumerate(("471147", "471148", "471148"))]
    store.usage.insert_many([*calls, replace(_of_matter("own", ""), code=plain)])
    expected = store.reports.report(ReportBy.CODE, *JANUARY)
    store.close()
    _back_to(
        url,
        "0011",
        "UPDATE call_records SET code_key = '??????' WHERE substr(record_id, 1, 1) = 'w'",
        "UPDATE usage_totals SET key = '??????' WHERE dimension = 'code_month' AND key = '471147'",
    )
    with Store(url) as migrated:
        assert migrated.reports.report(ReportBy.CODE, *JANUARY) == expected
        assert migrated.usage.count(UsageFilter(code_key="471148")) == 3


def test_wrong_codes_are_counted_by_caller_in_calls_that_ended_well_too(url: str) -> None:
    def call(number: int, wrong: int, **more: object) -> CallRecord:
        plain = CallRecord(
            f"w{number}", 1000.0 + number, user="204", caller_number="+1555", wrong_tries=wrong
        )
        return replace(plain, **more)  # type: ignore[arg-type]

    with Store(url) as store:
        store.usage.insert_many(
            [
                call(0, 3),
                call(1, 2, disposition=Disposition.ANSWERED),
                call(2, 1, disposition=Disposition.ABANDONED_AT_PROMPT),
                call(3, 3, user=""),
                call(4, 1, user="205", caller_number=""),
                call(5, 2, user="206"),
                call(6, 0, user="207", caller_name='"wrong_tries":9'),
                call(7, 0, user="208", caller_name='wrong_tries\\":9'),
                call(-1, 3, user="209"),
            ]
        )
        found = store.reports.wrong_codes(1000.0)
        assert found == [
            WrongCodes("204", 3, 6),
            WrongCodes("+1555", 1, 3),
            WrongCodes("206", 1, 2),
            WrongCodes("205", 1, 1),
        ]
        assert store.reports.wrong_codes(1000.0, limit=1) == [WrongCodes("204", 3, 6)]
        assert store.reports.wrong_codes(1e9) == []
    _back_to(url, "0013", "UPDATE call_records SET body = 'torn \"wrong_tries\":9' WHERE record_id = 'w7'")
    with Store(url) as migrated:
        assert migrated.reports.wrong_codes(1000.0) == found


def test_wrong_codes_are_read_from_their_index_alone(store: Store, kind: str) -> None:
    asked: list[tuple[str, tuple[object, ...]]] = []
    event.listen(store.database.engine, "before_cursor_execute", lambda *given: asked.append(given[2:4]))
    store.reports.wrong_codes(1000.0)
    statement, values = asked[-1]
    with store.database.read() as connection:
        if kind == "postgresql":
            # A table without a row is read faster than any index.
            connection.exec_driver_sql("SET LOCAL enable_seqscan = off")
        explain = "EXPLAIN QUERY PLAN" if kind == "sqlite" else "EXPLAIN"
        plan = str(connection.exec_driver_sql(f"{explain} {statement}", values).all())
    alone = "USING COVERING INDEX " if kind == "sqlite" else "Scan on "
    assert f"{alone}ix_call_records_wrong_tries_start_time" in plan


def _back_to(url: str, revision: str, *statements: str) -> None:
    """Make a store what it was before, and change it."""
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", "proxy.store:migrations")
    with closing(Database(url)) as database, database.write() as connection:
        config.attributes["connection"] = connection
        command.downgrade(config, revision)
        for statement in statements:
            connection.exec_driver_sql(statement)
