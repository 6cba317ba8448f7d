"""Schedules of reports: when they are due, once each, and what becomes of what is due."""

from __future__ import annotations

import threading
from dataclasses import replace
from datetime import UTC, date, datetime
from zoneinfo import ZoneInfo

import pytest

from proxy.errors import ConfigurationError
from proxy.policy import AccountCode
from proxy.store import (
    MailedCalls,
    PortalAccount,
    ReportBy,
    ReportFormat,
    ReportSchedule,
    Rhythm,
    Role,
    Store,
    StoreUnavailable,
    VersionConflict,
)
from proxy.store.models_schedules import report_schedules
from proxy.store.schedules import BACK_OFF, LEASE, SchedulesRepository, covered, next_due

BERLIN = ZoneInfo("Europe/Berlin")
DAY = 86_400.0
PLAIN = ReportSchedule(1, ReportBy.CODE, Rhythm.DAILY, ("a@example.com",), minute=6 * 60 + 30)
NOW = datetime(2026, 7, 15, 12, 0, tzinfo=UTC).timestamp()


def local(at: float, zone: ZoneInfo = BERLIN) -> str:
    return f"{datetime.fromtimestamp(at, zone):%a %Y-%m-%d %H:%M}"


def utc(store: Store) -> SchedulesRepository:
    return SchedulesRepository(store.database, store.schedules._actor, zone=UTC)


@pytest.mark.parametrize(
    ("rhythm", "day", "after", "expected"),
    [
        (Rhythm.DAILY, 0, "2026-07-15T06:29", "Wed 2026-07-15 06:30"),
        (Rhythm.DAILY, 0, "2026-07-15T06:30", "Thu 2026-07-16 06:30"),
        (Rhythm.WEEKLY, 3, "2026-07-15T06:29", "Wed 2026-07-15 06:30"),
        (Rhythm.WEEKLY, 1, "2026-07-15T06:31", "Mon 2026-07-20 06:30"),
        (Rhythm.MONTHLY, 15, "2026-07-15T06:30", "Sat 2026-08-15 06:30"),
        (Rhythm.MONTHLY, 28, "2026-12-28T06:30", "Thu 2027-01-28 06:30"),
        (Rhythm.DAILY, 0, "2026-10-24T06:30", "Sun 2026-10-25 06:30"),
        (Rhythm.DAILY, 0, "2026-03-28T06:30", "Sun 2026-03-29 06:30"),
    ],
)
def test_next_time_by_the_clock_of_the_site(rhythm: Rhythm, day: int, after: str, expected: str) -> None:
    moment = datetime.fromisoformat(after).replace(tzinfo=BERLIN).timestamp()
    assert local(next_due(replace(PLAIN, rhythm=rhythm, day=day), moment, BERLIN)) == expected


def test_hours_that_the_clock_leaves_out_or_has_twice_are_due_once() -> None:
    at_night = replace(PLAIN, minute=2 * 60 + 30)
    for start, expected in (
        ("2026-03-28T12:00", ["Sun 2026-03-29 03:30", "Mon 2026-03-30 02:30"]),
        ("2026-10-24T12:00", ["Sun 2026-10-25 02:30", "Mon 2026-10-26 02:30"]),
    ):
        moment = datetime.fromisoformat(start).replace(tzinfo=BERLIN).timestamp()
        found = []
        for _ in range(2):
            moment = next_due(at_night, moment, BERLIN)
            found.append(local(moment))
        assert found == expected


def test_days_that_a_report_is_about() -> None:
    due = datetime(2026, 3, 2, 0, 30, tzinfo=BERLIN).timestamp()  # still the first of March in UTC
    assert covered(Rhythm.DAILY, due, BERLIN) == (date(2026, 3, 1), date(2026, 3, 1))
    assert covered(Rhythm.WEEKLY, due, BERLIN) == (date(2026, 2, 23), date(2026, 3, 1))
    assert covered(Rhythm.MONTHLY, due, BERLIN) == (date(2026, 2, 1), date(2026, 2, 28))


@pytest.mark.parametrize(
    ("values", "complaint"),
    [
        ({"recipients": ()}, "name 1 to 20"),
        ({"recipients": ("a@example.com",) * 21}, "name 1 to 20"),
        ({"recipients": ("a@example.com, b@example.com",)}, "is no e-mail address"),
        ({"recipients": ("a@example.com\r\nBcc: b@example.com",)}, "is no e-mail address"),
        ({"recipients": ("a@b." + "c" * 251,)}, "is no e-mail address"),
        ({"recipients": ("ä@example.com",)}, "is no e-mail address"),
        ({"day": 1}, "there is no such day"),
        ({"rhythm": Rhythm.WEEKLY, "day": 0}, "there is no such day"),
        ({"rhythm": Rhythm.WEEKLY, "day": 8}, "there is no such day"),
        ({"rhythm": Rhythm.MONTHLY, "day": 29}, "there is no such day"),
        ({"minute": 24 * 60}, "there is no such day or hour"),
        ({"minute": -1}, "there is no such day or hour"),
        ({"code_id": 1}, "a statement, and nothing else"),
        ({"report": MailedCalls.STATEMENT}, "a statement, and nothing else"),
        ({"report": MailedCalls.USAGE, "format": ReportFormat.HTML}, "as CSV or XLSX"),
        ({"user": "204"}, "only the usage log"),
        ({"report": MailedCalls.USAGE, "call_class": "moon"}, "no such class"),
    ],
)
def test_what_is_no_schedule(values: dict[str, object], complaint: str) -> None:
    with pytest.raises(ConfigurationError, match=complaint):
        replace(PLAIN, **values)  # type: ignore[arg-type]


def test_added_changed_deleted_with_versions_and_in_the_audit_log(store: Store) -> None:
    schedules = utc(store)
    added = schedules.add(PLAIN, now=NOW)
    assert schedules.all() == [added]
    assert schedules.all(account_id=2) == []
    assert added.next_at == datetime(2026, 7, 16, 6, 30, tzinfo=UTC).timestamp()
    moved = replace(added, minute=13 * 60, recipients=("b@example.com",), account_id=9)
    changed = schedules.change(moved, version=1, now=NOW)
    assert (changed.version, changed.account_id) == (2, 1), "its owner stays"
    assert changed.next_at == datetime(2026, 7, 15, 13, 0, tzinfo=UTC).timestamp()
    assert schedules.get(added.id) == changed
    assert schedules.change(replace(changed), version=2, now=NOW) == changed
    with pytest.raises(VersionConflict):
        schedules.change(moved, version=1, now=NOW)
    schedules.send_now(added.id, now=NOW)
    schedules.delete(added.id)
    assert schedules.get(added.id) is None
    assert schedules.take_due(now=NOW, limit=9) == []
    for act in (
        lambda: schedules.delete(added.id),
        lambda: schedules.send_now(added.id, now=NOW),
        lambda: schedules.change(moved, version=2, now=NOW),
    ):
        with pytest.raises(ConfigurationError, match="does not exist"):
            act()
    entries = store.audit.page()
    assert [entry.action for entry in entries] == ["delete", "send", "change", "add"]
    assert entries[2].after == {"minute": 780, "recipients": ["b@example.com"]}
    assert store.audit.verify().whole


def test_there_are_not_endlessly_many(store: Store) -> None:
    schedules = utc(store)
    columns = ", ".join(cell.name for cell in report_schedules.c if cell.name != "id")
    row = "INSERT INTO report_schedules SELECT id + {n}, {columns} FROM report_schedules"
    schedules.add(PLAIN, now=NOW)
    with store.database.write() as connection:
        for power in range(9):
            connection.exec_driver_sql(row.format(n=2**power, columns=columns))
    with pytest.raises(ConfigurationError, match="500 schedules already"):
        schedules.add(PLAIN, now=NOW)


def test_each_due_time_is_one_mail_whoever_looks_and_after_whatever_restart(store: Store, url: str) -> None:
    schedules = utc(store)
    added = schedules.add(PLAIN, now=NOW)
    assert schedules.note_due(now=added.next_at - 1) == 0
    with Store(url) as other:
        beside, counts = utc(other), []
        start = threading.Barrier(2)

        def look(repository: SchedulesRepository) -> None:
            start.wait()
            counts.append(
                (repository.note_due(now=added.next_at), len(repository.take_due(now=added.next_at, limit=9)))
            )

        threads = [threading.Thread(target=look, args=(one,)) for one in (schedules, beside)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert [sum(each) for each in zip(*counts, strict=True)] == [1, 1]
    again = utc(store)
    assert again.note_due(now=added.next_at + 60) == 0
    assert again.take_due(now=added.next_at + 60, limit=9) == []
    found = again.get(added.id)
    assert found is not None
    assert found.next_at == added.next_at + DAY


def test_after_a_pause_the_last_week_is_sent_and_always_the_last_time(store: Store) -> None:
    schedules = utc(store)
    daily = schedules.add(PLAIN, now=NOW)
    monthly = schedules.add(replace(PLAIN, rhythm=Rhythm.MONTHLY, day=16), now=NOW)
    stopped = schedules.add(replace(PLAIN, enabled=False), now=NOW)
    assert schedules.note_due(now=NOW + 20 * DAY) == 8
    due = schedules.take_due(now=NOW + 20 * DAY, limit=99)
    by_schedule = {
        one.id: [local(mail.due_at, ZoneInfo("UTC"))[4:14] for at, mail in due if at.id == one.id]
        for one in (daily, monthly, stopped)
    }
    assert by_schedule == {
        daily.id: [f"2026-{day}" for day in ("07-29", "07-30", "07-31", "08-01", "08-02", "08-03", "08-04")],
        monthly.id: ["2026-07-16"],
        stopped.id: [],
    }


def test_a_lease_ends_and_failures_are_tried_again_until_given_up(store: Store) -> None:
    schedules, now = utc(store), NOW
    added = schedules.add(PLAIN, now=now)
    schedules.send_now(added.id, now=now)
    schedules.send_now(added.id, now=now)
    [(_, mail)] = schedules.take_due(now=now, limit=9)
    assert mail.attempts == 1
    assert schedules.take_due(now=now + LEASE - 1, limit=9) == []
    now += LEASE
    [(_, mail)] = schedules.take_due(now=now, limit=9)
    assert mail.attempts == 2
    for delay in BACK_OFF[1:]:
        assert schedules.failed(mail, "421 later\r\n", now=now)
        assert schedules.take_due(now=now + delay - 1, limit=9) == []
        now += delay
        [(_, mail)] = schedules.take_due(now=now, limit=9)
    assert not schedules.failed(mail, "x" * 300, now=now)
    assert schedules.take_due(now=now + 99 * DAY, limit=9) == []
    last = schedules.last_mails()[added.id]
    assert (last.next_try_at, last.sent_at, last.last_error) == (None, None, "x" * 255)
    schedules.send_now(added.id, now=now)
    [(_, mail)] = schedules.take_due(now=now, limit=9)
    assert not schedules.failed(mail, "gone", now=now, for_good=True)
    schedules.send_now(added.id, now=now + 1)
    [(_, mail)] = schedules.take_due(now=now + 1, limit=9)
    schedules.sent(mail.id, now=now + 2, note="not taken for b@example.com")
    assert schedules.last_mails()[added.id].sent_at == now + 2
    assert schedules.forget(before=now + DAY) == 2, "the newest stays"
    assert schedules.last_mails()[added.id].last_error == "not taken for b@example.com"


def test_a_row_that_nobody_has_written_is_named(store: Store) -> None:
    utc(store).add(PLAIN, now=NOW)
    with store.database.write() as connection:
        connection.exec_driver_sql("UPDATE report_schedules SET filters = '[]'")
    with pytest.raises(StoreUnavailable, match="schedule can't be read"):
        utc(store).all()


def test_what_was_deleted_ends_its_schedules_and_nobody_gets_its_number(store: Store) -> None:
    owner, other = (
        store.accounts.add(PortalAccount(name, Role.BILLING_CONTACT, "x"), now=NOW) for name in ("a", "b")
    )
    for digits in ("100001", "200002"):
        store.codes.add(AccountCode(digits))
    kept, gone = (store.codes.find(digits) for digits in ("100001", "200002"))
    assert kept
    assert gone
    statement = replace(PLAIN, report=MailedCalls.STATEMENT, account_id=other.id, code_id=kept.id)
    of_kept = store.schedules.add(statement, now=NOW)
    of_gone = store.schedules.add(replace(statement, code_id=gone.id), now=NOW)
    of_owner = store.schedules.add(replace(PLAIN, account_id=owner.id), now=NOW)
    of_other = store.schedules.add(replace(PLAIN, account_id=other.id), now=NOW)
    store.schedules.send_now(of_gone.id, now=NOW)
    store.codes.delete_many(["200002"])
    store.accounts.delete(owner.id)
    store.codes.add(AccountCode("300003"))
    new = store.codes.find("300003")
    assert new
    assert new.id > gone.id
    with pytest.raises(ConfigurationError, match="do not exist"):
        store.codes.delete_ids([gone.id])
    assert store.accounts.add(PortalAccount("c", Role.BILLING_CONTACT, "x"), now=NOW).id > other.id
    going_on = {schedule.id: schedule.enabled for schedule in store.schedules.all()}
    assert going_on == {of_kept.id: True, of_gone.id: False, of_owner.id: False, of_other.id: True}
    told = [(entry.action, entry.name) for entry in store.audit.page() if entry.kind == "schedule"][:2]
    assert told == [("change", str(of_owner.id)), ("change", str(of_gone.id))]
    with pytest.raises(VersionConflict):
        store.schedules.change(of_gone, version=of_gone.version, now=NOW)
    ((due, _mail),) = store.schedules.take_due(now=NOW, limit=9)
    assert due.id == of_gone.id, "what was due before says that its code is gone"
