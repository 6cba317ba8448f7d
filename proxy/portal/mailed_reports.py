"""A report as an e-mail: the table itself, or a file with it."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from email.message import EmailMessage
from email.utils import format_datetime
from itertools import islice
from pathlib import Path

import xlsxwriter
from xlsxwriter.exceptions import XlsxWriterException

from proxy.cdr.usage_log import LocalTime, UsageFacts, clock_time, neutralise, quoted_line, usage_log_lines
from proxy.errors import TollgateError
from proxy.policy import AccountCode
from proxy.portal.pages import mail_part
from proxy.portal.permissions import may_see_codes
from proxy.portal.report_lines import report_rows
from proxy.portal.texts import LANGUAGES, Texts, texts_of
from proxy.portal.usage_workbook import write_workbook
from proxy.store import (
    MailedCalls,
    PortalAccount,
    ReportBy,
    ReportFormat,
    ReportMail,
    ReportOrder,
    ReportSchedule,
    Store,
    UsageFilter,
)
from proxy.store.audit import masked_code
from proxy.store.days import midnight
from proxy.store.schedules import covered

__all__ = ["LARGEST", "MOST_ROWS", "NotSendable", "report_mail"]

LARGEST = 15 * 1024 * 1024
"""Octets of a file: encoded for e-mail it is a third larger, and few mail servers take more than 25 MB."""
MOST_ROWS = 250_000
"""Of calls in a workbook: it is as large then, and nobody waits for more to be written."""
_SHOWN = 2_000
"""Lines in the text of an e-mail; a file holds all."""
_TYPES = {
    ReportFormat.CSV: ("text", "csv"),
    ReportFormat.XLSX: ("application", "vnd.openxmlformats-officedocument.spreadsheetml.sheet"),
}
_NUMBERS = frozenset({"Calls", "Answered", "Talk Time in Seconds"})


class NotSendable(TollgateError):  # noqa: N818 - it says what is the case
    """There is nothing that could be sent, and a later try would not change that."""


@dataclass(frozen=True, slots=True)
class _Reader:
    """For whose eyes, in which language, about which days."""

    store: Store
    schedule: ReportSchedule
    texts: Texts
    masked: bool
    first: date
    last: date

    @property
    def title(self) -> str:
        """What the report is called."""
        report = self.schedule.report
        if report is MailedCalls.STATEMENT:
            return self.texts("statement.title")
        if report is MailedCalls.USAGE:
            return self.texts("usage.title")
        return f"{self.texts('report.title')}: {self.texts(f'report.by_{report.value}')}"

    @property
    def days(self) -> str:
        """Which days it is about."""
        return str(self.first) if self.first == self.last else f"{self.first} – {self.last}"

    def rows(self) -> Iterator[tuple[str, ...]]:
        """The rows of a report, its columns first."""
        by = ReportBy(self.schedule.report.value)
        by_day = by is ReportBy.DAY
        lines = self.store.reports.lines(
            by,
            self.first,
            self.last,
            order=ReportOrder.KEY if by_day else ReportOrder.TALK_TIME,
            descending=not by_day,
            masked=self.masked,
        )
        return report_rows(by, lines, self.texts, masked=self.masked)

    def code(self) -> AccountCode:
        """The code that a statement is of. Raises `NotSendable` when it was deleted."""
        found = self.store.codes.by_id(self.schedule.code_id)
        if found is None:
            raise NotSendable("the account code was deleted")
        return found.value

    def calls(self) -> Iterator[UsageFacts]:
        """The calls of a statement or of the usage log, as this reader may see them."""
        schedule, zone = self.schedule, self.store.usage.zone
        wanted = UsageFilter(
            since=midnight(self.first, zone),
            until=midnight(self.last + timedelta(days=1), zone),
            user=schedule.user,
            group=schedule.group,
            call_class=schedule.call_class,
            code_key=self.code().digits if schedule.code_id else "",
        )
        found = self.store.usage.facts(wanted)
        return (fact._replace(code=masked_code(fact.code)) for fact in found) if self.masked else found


def report_mail(
    store: Store, schedule: ReportSchedule, mail: ReportMail, account: PortalAccount
) -> EmailMessage:
    """Write what is due as a message. Its Message-ID is the mail's own: a repetition is known as one.

    Raises `NotSendable`, `StoreUnavailable` and OSError (no room for the file).
    """
    texts = texts_of(schedule.language if schedule.language in LANGUAGES else "en")
    first, last = covered(schedule.rhythm, mail.due_at, store.schedules.zone)
    reader = _Reader(store, schedule, texts, not may_see_codes(account), first, last)
    message = EmailMessage()
    message["To"] = ", ".join(schedule.recipients)
    message["Date"] = format_datetime(datetime.fromtimestamp(mail.due_at, UTC))
    message["Message-ID"] = f"<report-{schedule.id}-{mail.id}@tollgate.invalid>"
    message["Auto-Submitted"] = "auto-generated"
    message["Subject"] = f"{reader.title}, {reader.days}"
    message.set_content(f"{reader.title}\n{reader.days}\n\n{texts('mailed.footer')}\n")
    if schedule.format is ReportFormat.HTML:
        message.add_alternative(_html(reader), subtype="html")
        return message
    kind, subtype = _TYPES[schedule.format]
    name = f"{schedule.report.value}-{first}-{last}.{schedule.format.value}"
    message.add_attachment(_file(reader), maintype=kind, subtype=subtype, filename=name)
    return message


def _html(reader: _Reader) -> str:
    if reader.schedule.report is MailedCalls.STATEMENT:
        return _statement(reader)
    columns, *rows = islice(found := reader.rows(), _SHOWN + 1)
    return _page(reader, columns=columns, rows=rows, missing=sum(1 for _ in found))


def _statement(reader: _Reader) -> str:
    """The calls of one code, and what they add up to."""
    t, local, code = reader.texts, LocalTime(reader.store.usage.zone), reader.code()
    names = ("statement.day", "statement.time", "column.originating", "column.dialled", "column.duration")
    rows: list[tuple[str, ...]] = []
    calls, answered, talked = 0, 0, 0.0
    for fact in reader.calls():
        calls, answered, talked = calls + 1, answered + (fact.talk_time > 0), talked + fact.talk_time
        if calls <= _SHOWN:
            talk = clock_time(fact.talk_time)
            rows.append((*local(fact.start_time), fact.user, fact.dialled_number, talk))
    facts = {
        t("usage.code"): f"{masked_code(code.form) if reader.masked else code.form} {code.description}",
        t("report.calls"): calls,
        t("report.answered"): answered,
        t("report.talk_time"): clock_time(talked),
    }
    columns = [t(name) for name in names]
    return _page(reader, columns=columns, rows=rows, missing=max(0, calls - _SHOWN), facts=facts)


def _page(
    reader: _Reader,
    *,
    columns: Sequence[str],
    rows: Sequence[tuple[str, ...]],
    missing: int,
    facts: Mapping[str, object] | None = None,
) -> str:
    return mail_part(
        "report_mail.html",
        reader.texts,
        title=reader.title,
        days=reader.days,
        columns=columns,
        rows=rows,
        missing=missing,
        facts=facts or {},
    )


def _file(reader: _Reader) -> bytes:
    """Write the file, and read it if an e-mail can carry it."""
    with tempfile.TemporaryDirectory(prefix="tollgate-report-") as folder:
        path = Path(folder) / "report"
        of_calls = isinstance(reader.schedule.report, MailedCalls)
        if reader.schedule.format is ReportFormat.CSV:
            lines = (
                usage_log_lines(reader.calls(), zone=reader.store.usage.zone)
                if of_calls
                else (quoted_line(tuple(neutralise(cell) for cell in row)) for row in reader.rows())
            )
            with path.open("w", encoding="utf-8", errors="replace", newline="") as file:
                for line in lines:
                    file.write(line)
                    if file.tell() > LARGEST:
                        break
        elif of_calls:
            for rows in write_workbook(path, reader.calls(), zone=reader.store.usage.zone):
                if rows > MOST_ROWS:
                    raise _too_large()
        else:
            _write_table(path, reader.rows())
        size = path.stat().st_size
        if size > LARGEST:
            raise _too_large()
        return path.read_bytes()


def _too_large() -> NotSendable:
    return NotSendable(f"the file has more than {LARGEST >> 20} MB, which mail servers don't take")


def _write_table(path: Path, rows: Iterable[tuple[str, ...]]) -> None:
    """Write a report as a workbook. What a spreadsheet would take for a formula is written as text."""
    book = xlsxwriter.Workbook(path, {"constant_memory": True, "tmpdir": str(path.parent)})
    sheet = book.add_worksheet()
    header = book.add_format({"bold": True, "bottom": 1})
    columns: tuple[str, ...] = ()
    for line, row in enumerate(rows):
        columns = row if line == 0 else columns
        for place, cell in enumerate(row):
            if line and columns[place] in _NUMBERS:
                sheet.write_number(line, place, int(cell))
            else:
                sheet.write_string(line, place, cell, header if line == 0 else None)
    try:
        book.close()
    except XlsxWriterException as error:
        raise OSError(str(error)) from error
