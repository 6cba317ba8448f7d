"""What stands beside the call records: their totals, their numbers, and corrections of their codes."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Float, Integer, String, Table, Text

from proxy.store.models import RowNumber, metadata

__all__ = ["call_numbers", "corrections", "usage_totals"]

usage_totals = Table(
    "usage_totals",
    metadata,
    Column("dimension", String(16), primary_key=True),
    Column("period", String(10), primary_key=True),
    Column("key", String(64), primary_key=True),
    Column("calls", Integer, nullable=False),
    Column("answered", Integer, nullable=False),
    Column("talk_ms", BigInteger, nullable=False),
    sqlite_with_rowid=False,
)
"""Calls and talk time by day or month (`proxy.store.totals`), written in the transaction of the records: a
report of a month reads some thousand of these rows instead of some hundred thousand records."""

call_numbers = Table(
    "call_numbers",
    metadata,
    Column("number", String(64), primary_key=True),
    sqlite_with_rowid=False,
)
"""Every number that a record holds, once: a part of a number is looked for here, not in all records."""

corrections = Table(
    "corrections",
    metadata,
    Column("id", RowNumber, primary_key=True, autoincrement=True),
    Column("record_id", String(64), nullable=False, index=True),
    Column("at", Float, nullable=False),
    Column("who", String(128), nullable=False),
    Column("reason", Text, nullable=False),
    Column("before_key", String(20), nullable=False),
    Column("before_form", String(64), nullable=False),
    Column("before_description", String(255), nullable=False),
    Column("after_key", String(20), nullable=False),
    Column("after_form", String(64), nullable=False),
    Column("after_description", String(255), nullable=False),
    sqlite_autoincrement=True,
)
"""Codes that were set or changed on finished calls. The record's ``body`` stays as the gate wrote it; its
columns ``code_key`` and ``code_form`` hold what counts now."""
