"""Reports that are sent by e-mail again and again, and what of them is still to be sent."""

from __future__ import annotations

from sqlalchemy import Boolean, Column, Float, ForeignKey, Index, Integer, String, Table, Text

from proxy.store.models import RowNumber, metadata

__all__ = ["report_mails", "report_schedules"]

report_schedules = Table(
    "report_schedules",
    metadata,
    Column("id", RowNumber, primary_key=True, autoincrement=True),
    Column("account_id", RowNumber, nullable=False, index=True),
    Column("report", String(16), nullable=False),
    Column("filters", Text, nullable=False),
    Column("format", String(8), nullable=False),
    Column("language", String(8), nullable=False),
    Column("recipients", Text, nullable=False),
    Column("rhythm", String(8), nullable=False),
    Column("day", Integer, nullable=False),
    Column("minute", Integer, nullable=False),
    Column("enabled", Boolean, nullable=False),
    Column("next_at", Float, nullable=False, index=True),
    Column("created_at", Float, nullable=False),
    Column("version", Integer, nullable=False),
    sqlite_autoincrement=True,
)
"""``filters`` is a JSON object, ``recipients`` a JSON list.
``account_id`` is whose eyes the report is for; no key ties it: a
schedule outlives its account and says so. ``minute`` is of the day, by the site's clock."""

report_mails = Table(
    "report_mails",
    metadata,
    Column("id", RowNumber, primary_key=True, autoincrement=True),
    Column(
        "schedule_id",
        RowNumber,
        ForeignKey("report_schedules.id", ondelete="CASCADE"),
        nullable=False,
    ),
    Column("due_at", Float, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("next_try_at", Float, index=True),
    Column("sent_at", Float),
    Column("last_error", String(255), nullable=False),
    Index("ux_report_mails_due", "schedule_id", "due_at", unique=True),
    sqlite_autoincrement=True,
)
"""One row per schedule and time at which it is due: what is due is due once, however many processes look.
``next_try_at`` is NULL when nothing is to be done any more: sent, or given up."""
