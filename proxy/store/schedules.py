"""Reports by e-mail: when which is sent to whom, and what of it is still to be sent.

What is due becomes a row, in the transaction that moves the schedule on: so each due time has one, however
many processes look, and whenever they were started. Who sends a row takes it with a lease, as deliveries of
webhooks are taken (`proxy.store.webhooks`). Times are UTC seconds since the epoch and given in; days and
hours are the site's.
"""

from __future__ import annotations

import enum
import json
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from datetime import date, datetime, time, timedelta, tzinfo

from sqlalchemy import Connection, RowMapping, Select, delete, insert, or_, select, update

from proxy.errors import ConfigurationError
from proxy.policy import CallClass
from proxy.store.audit import Actor, changed_only, write_audit
from proxy.store.database import Database, StoreUnavailable
from proxy.store.days import site_zone
from proxy.store.models_schedules import report_mails, report_schedules
from proxy.store.reports import ReportBy
from proxy.store.versions import VersionConflict

__all__ = [
    "MAILED",
    "MailedCalls",
    "ReportFormat",
    "ReportMail",
    "ReportSchedule",
    "Rhythm",
    "SchedulesRepository",
    "covered",
    "end_schedules",
    "mailed",
    "next_due",
]

BACK_OFF = (60.0, 300.0, 1_800.0, 7_200.0, 6 * 3_600.0)
"""Seconds until the next try; after the last one a mail is given up."""
LEASE = 1_800.0
"""Longer than a large report takes to be written, and a mail server to take it."""
_LATE = 7 * 86_400.0
"""What was due longer ago, while nothing ran, is left out; the last one never is."""
_MOST_RECIPIENTS = 20
_MOST_SCHEDULES = 500
_ADDRESS = re.compile(
    r"[A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]{1,64}@[A-Za-z0-9](?:[A-Za-z0-9.-]{0,250}[A-Za-z0-9])?"
)


class MailedCalls(enum.StrEnum):
    """What is sent that tells of calls one by one; else it is a report by something (`ReportBy`)."""

    STATEMENT = "statement"
    """Of one code."""
    USAGE = "usage"
    """The usage log."""


MAILED: tuple[ReportBy | MailedCalls, ...] = (*ReportBy, *MailedCalls)
"""All that can be sent."""


class ReportFormat(enum.StrEnum):
    """As what it is sent."""

    HTML = "html"
    CSV = "csv"
    XLSX = "xlsx"


class Rhythm(enum.StrEnum):
    """How often, and about how long before."""

    DAILY = "daily"
    """About the day before."""
    WEEKLY = "weekly"
    """About the seven days before."""
    MONTHLY = "monthly"
    """About the month before."""


_DAYS = {Rhythm.DAILY: range(1), Rhythm.WEEKLY: range(1, 8), Rhythm.MONTHLY: range(1, 29)}


@dataclass(frozen=True, slots=True)
class ReportSchedule:
    """What is sent when to whom."""

    account_id: int
    """Whose report it is: it shows what they may see."""
    report: ReportBy | MailedCalls
    rhythm: Rhythm
    recipients: tuple[str, ...]
    day: int = 0
    """Of the week (1: Monday) or of the month (to 28); 0 for each day."""
    minute: int = 6 * 60
    """Of the day."""
    format: ReportFormat = ReportFormat.CSV
    code_id: int = 0
    """Of the code that a statement is of."""
    user: str = ""
    """Of the usage log only these calls: of a user, a group, a class."""
    group: str = ""
    call_class: str = ""
    language: str = "en"
    enabled: bool = True
    id: int = 0
    version: int = 0
    next_at: float = 0.0

    def __post_init__(self) -> None:
        if not self.recipients or len(self.recipients) > _MOST_RECIPIENTS:
            message = f"recipients: name 1 to {_MOST_RECIPIENTS} e-mail addresses"
            raise ConfigurationError(message)
        for address in self.recipients:
            if len(address) > 254 or not _ADDRESS.fullmatch(address):
                message = f"recipients: {address[:100]!r} is no e-mail address"
                raise ConfigurationError(message)
        if self.day not in _DAYS[self.rhythm] or self.minute not in range(24 * 60):
            raise ConfigurationError("time: there is no such day or hour in each week or month")
        if (self.report is MailedCalls.STATEMENT) is not bool(self.code_id):
            raise ConfigurationError("code: a statement, and nothing else, is of an account code")
        if self.report is MailedCalls.USAGE:
            if self.format is ReportFormat.HTML:
                raise ConfigurationError("format: the usage log is sent as CSV or XLSX")
        elif self.user or self.group or self.call_class:
            raise ConfigurationError("filters: only the usage log has them")
        if self.call_class and self.call_class not in set(CallClass):
            raise ConfigurationError("filters: there is no such class")


@dataclass(frozen=True, slots=True)
class ReportMail:
    """One report that is due, or was."""

    id: int
    schedule_id: int
    due_at: float
    attempts: int
    next_try_at: float | None
    sent_at: float | None
    last_error: str


def mailed(word: str) -> ReportBy | MailedCalls:
    """Return what is sent by its word. Raises ValueError."""
    return MailedCalls(word) if word in set(MailedCalls) else ReportBy(word)


def next_due(schedule: ReportSchedule, after: float, zone: tzinfo) -> float:
    """When a schedule is due next. An hour that the clock leaves out in spring is the one after it."""
    day = datetime.fromtimestamp(after, zone).date()
    while True:
        if (
            schedule.rhythm is Rhythm.DAILY
            or (schedule.rhythm is Rhythm.WEEKLY and day.isoweekday() == schedule.day)
            or (schedule.rhythm is Rhythm.MONTHLY and day.day == schedule.day)
        ):
            clock = time(schedule.minute // 60, schedule.minute % 60)
            found = datetime.combine(day, clock, zone).timestamp()
            if found > after:
                return found
        day += timedelta(days=1)


def covered(rhythm: Rhythm, due_at: float, zone: tzinfo) -> tuple[date, date]:
    """The first and the last day that a report is about which is due at a time."""
    today = datetime.fromtimestamp(due_at, zone).date()
    yesterday = today - timedelta(days=1)
    if rhythm is Rhythm.DAILY:
        return yesterday, yesterday
    if rhythm is Rhythm.WEEKLY:
        return today - timedelta(days=7), yesterday
    last = today.replace(day=1) - timedelta(days=1)
    return last.replace(day=1), last


class SchedulesRepository:
    """All schedules, and what is due of them."""

    def __init__(self, database: Database, actor: Actor, *, zone: tzinfo | None = None) -> None:
        self._database = database
        self._actor = actor
        self.zone = zone or site_zone()

    def all(self, *, account_id: int | None = None) -> list[ReportSchedule]:
        """All schedules by age, or those of one account."""
        statement = select(report_schedules).order_by(report_schedules.c.id)
        if account_id is not None:
            statement = statement.where(report_schedules.c.account_id == account_id)
        with self._database.read() as connection:
            return [_read_schedule(row) for row in connection.execute(statement).mappings()]

    def get(self, schedule_id: int) -> ReportSchedule | None:
        """The schedule of this id, or None."""
        with self._database.read() as connection:
            row = connection.execute(_one(schedule_id)).mappings().first()
        return None if row is None else _read_schedule(row)

    def add(self, schedule: ReportSchedule, *, now: float) -> ReportSchedule:
        """Add a schedule, which is due for the first time after now."""
        new = replace(schedule, version=1, next_at=next_due(schedule, now, self.zone))
        with self._database.write() as connection:
            if len(connection.execute(select(report_schedules.c.id)).all()) >= _MOST_SCHEDULES:
                message = f"there are {_MOST_SCHEDULES} schedules already: delete some"
                raise ConfigurationError(message)
            result = connection.execute(insert(report_schedules).values(**_row(new), created_at=now))
            key = result.inserted_primary_key
            if key is None:
                raise StoreUnavailable("store: the database gave a schedule no id")
            new = replace(new, id=int(key[0]))
            write_audit(connection, self._actor, "add", "schedule", str(new.id), after=_facts(new))
        return new

    def change(self, schedule: ReportSchedule, *, version: int, now: float) -> ReportSchedule:
        """Change a schedule; its owner stays. Raises `VersionConflict`."""
        with self._database.write() as connection:
            old = _expect(connection, schedule.id)
            if version != old.version:
                raise VersionConflict(f"schedule {old.id}", old)
            new = replace(
                schedule,
                account_id=old.account_id,
                version=version + 1,
                next_at=next_due(schedule, now, self.zone),
            )
            before, after = changed_only(_facts(old), _facts(new))
            if not after:
                return old
            statement = update(report_schedules).where(report_schedules.c.id == old.id)
            connection.execute(statement.values(**_row(new)))
            write_audit(
                connection, self._actor, "change", "schedule", str(old.id), before=before, after=after
            )
        return new

    def delete(self, schedule_id: int) -> None:
        """Delete a schedule and what is still to be sent of it."""
        with self._database.write() as connection:
            old = _expect(connection, schedule_id)
            connection.execute(delete(report_mails).where(report_mails.c.schedule_id == schedule_id))
            connection.execute(delete(report_schedules).where(report_schedules.c.id == schedule_id))
            write_audit(connection, self._actor, "delete", "schedule", str(old.id), before=_facts(old))

    def send_now(self, schedule_id: int, *, now: float) -> None:
        """Send what would be due now, besides what is due otherwise."""
        with self._database.write() as connection:
            _expect(connection, schedule_id)
            _put(connection, schedule_id, now, now)
            write_audit(connection, self._actor, "send", "schedule", str(schedule_id))

    def note_due(self, *, now: float) -> int:
        """Write a row for each time at which something was due until now; returns how many.

        After a pause each of the last week has one; of those before only the last, if it was the last of all.
        """
        column = report_schedules.c
        due = select(report_schedules).where(column.enabled, column.next_at <= now)
        with self._database.read() as connection:
            if not connection.execute(due.limit(1)).first():
                return 0
        noted = 0
        with self._database.write() as connection:
            for row in connection.execute(due.with_for_update(skip_locked=True)).mappings().all():
                schedule = _read_schedule(row)
                moment = schedule.next_at
                while moment <= now:
                    following = next_due(schedule, moment, self.zone)
                    if moment > now - _LATE or following > now:
                        noted += _put(connection, schedule.id, moment, now)
                    moment = following
                statement = update(report_schedules).where(column.id == schedule.id)
                connection.execute(statement.values(next_at=moment))
        return noted

    def take_due(self, *, now: float, limit: int) -> list[tuple[ReportSchedule, ReportMail]]:
        """What is to be sent now, the longest due first. Nobody else gets it for `LEASE` seconds."""
        column = report_mails.c
        due = select(report_mails).where(column.next_try_at <= now).order_by(column.next_try_at, column.id)
        with self._database.read() as connection:
            if not connection.execute(due.limit(1)).first():
                return []
        with self._database.write() as connection:
            rows = connection.execute(due.limit(limit).with_for_update(skip_locked=True)).mappings()
            found = [_read_mail(row) for row in rows]
            leased = update(report_mails).where(column.id.in_([mail.id for mail in found]))
            connection.execute(leased.values(attempts=column.attempts + 1, next_try_at=now + LEASE))
            return [
                (_expect(connection, mail.schedule_id), replace(mail, attempts=mail.attempts + 1))
                for mail in found
            ]

    def sent(self, mail_id: int, *, now: float, note: str = "") -> None:
        """The mail server took it; ``note`` says what it did not take all the same."""
        self._write(mail_id, next_try_at=None, sent_at=now, last_error=_clean(note))

    def failed(self, mail: ReportMail, error: str, *, now: float, for_good: bool = False) -> bool:
        """A try failed; False when it was the last one, as it is when no other can do better."""
        again = not for_good and mail.attempts <= len(BACK_OFF)
        next_try_at = now + BACK_OFF[mail.attempts - 1] if again else None
        self._write(mail.id, next_try_at=next_try_at, last_error=_clean(error))
        return again

    def last_mails(self) -> Mapping[int, ReportMail]:
        """What became of each schedule's newest mail."""
        column = report_mails.c
        statement = select(report_mails).order_by(column.due_at, column.id)
        with self._database.read() as connection:
            return {
                int(row["schedule_id"]): _read_mail(row) for row in connection.execute(statement).mappings()
            }

    def forget(self, *, before: float) -> int:
        """Delete what is done and older, but of each schedule the newest; what is to be sent stays."""
        column = report_mails.c
        kept = [mail.id for mail in self.last_mails().values()]
        statement = delete(report_mails).where(
            column.next_try_at.is_(None), column.due_at < before, column.id.not_in(kept)
        )
        with self._database.write() as connection:
            return connection.execute(statement).rowcount

    def _write(self, mail_id: int, **values: float | str | None) -> None:
        with self._database.write() as connection:
            connection.execute(update(report_mails).where(report_mails.c.id == mail_id).values(**values))


def end_schedules(
    connection: Connection, actor: Actor, *, account_id: int | None = None, code_ids: Collection[int] = ()
) -> None:
    """Switch off the schedules of an account or of codes that go; what is due already says so."""
    column = report_schedules.c
    theirs = or_(column.account_id == account_id, column.report == MailedCalls.STATEMENT.value)
    for row in connection.execute(select(report_schedules).where(column.enabled, theirs)).mappings().all():
        old = _read_schedule(row)
        if old.account_id != account_id and old.code_id not in code_ids:
            continue
        statement = update(report_schedules).where(column.id == old.id)
        connection.execute(statement.values(enabled=False, version=old.version + 1))
        write_audit(
            connection,
            actor,
            "change",
            "schedule",
            str(old.id),
            before={"enabled": True},
            after={"enabled": False},
        )


_FILTERS = ("code_id", "user", "group", "call_class")
_PLAIN = ("account_id", "report", "format", "language", "rhythm", "day", "minute", "enabled")


def _clean(text: str) -> str:
    return "".join(letter for letter in text if letter.isprintable())[:255]


def _put(connection: Connection, schedule_id: int, due_at: float, now: float) -> int:
    """Write a row of what is due, unless it is there."""
    column = report_mails.c
    known = select(column.id).where(column.schedule_id == schedule_id, column.due_at == due_at)
    if connection.execute(known).first():
        return 0
    row = {"schedule_id": schedule_id, "due_at": due_at, "attempts": 0, "next_try_at": now, "last_error": ""}
    connection.execute(insert(report_mails).values(row))
    return 1


def _one(schedule_id: int) -> Select[*tuple[object, ...]]:
    return select(report_schedules).where(report_schedules.c.id == schedule_id)


def _expect(connection: Connection, schedule_id: int) -> ReportSchedule:
    row = connection.execute(_one(schedule_id)).mappings().first()
    if row is None:
        raise ConfigurationError("the schedule does not exist (any more)")
    return _read_schedule(row)


def _row(schedule: ReportSchedule) -> dict[str, object]:
    return {
        **{name: getattr(schedule, name) for name in _PLAIN},
        "filters": json.dumps({name: getattr(schedule, name) for name in _FILTERS}),
        "recipients": json.dumps(schedule.recipients),
        "next_at": schedule.next_at,
        "version": schedule.version,
    }


def _facts(schedule: ReportSchedule) -> dict[str, object]:
    """What the audit log tells."""
    facts = {name: getattr(schedule, name) for name in (*_PLAIN, *_FILTERS)}
    return {name: value for name, value in facts.items() if value != ""} | {
        "recipients": list(schedule.recipients)
    }


def _read_schedule(row: RowMapping) -> ReportSchedule:
    try:
        filters = json.loads(str(row["filters"]))
        return ReportSchedule(
            account_id=int(row["account_id"]),
            report=mailed(str(row["report"])),
            rhythm=Rhythm(row["rhythm"]),
            recipients=tuple(str(address) for address in json.loads(str(row["recipients"]))),
            day=int(row["day"]),
            minute=int(row["minute"]),
            format=ReportFormat(row["format"]),
            code_id=int(filters["code_id"]),
            user=str(filters["user"]),
            group=str(filters["group"]),
            call_class=str(filters["call_class"]),
            language=str(row["language"]),
            enabled=bool(row["enabled"]),
            id=int(row["id"]),
            version=int(row["version"]),
            next_at=float(row["next_at"]),
        )
    except (ConfigurationError, ValueError, TypeError, KeyError) as error:
        raise StoreUnavailable(f"store: a report's schedule can't be read: {type(error).__name__}") from error


def _read_mail(row: RowMapping) -> ReportMail:
    return ReportMail(
        int(row["id"]),
        int(row["schedule_id"]),
        float(row["due_at"]),
        int(row["attempts"]),
        None if row["next_try_at"] is None else float(row["next_try_at"]),
        None if row["sent_at"] is None else float(row["sent_at"]),
        str(row["last_error"]),
    )
