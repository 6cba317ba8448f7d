"""Whom to tell of events, and what is still to be told."""

from __future__ import annotations

from sqlalchemy import Boolean, Column, Float, ForeignKey, Index, Integer, String, Table, Text

from proxy.store.models import RowNumber, metadata

__all__ = ["webhook_deliveries", "webhook_endpoints"]

webhook_endpoints = Table(
    "webhook_endpoints",
    metadata,
    Column("id", RowNumber, primary_key=True, autoincrement=True),
    Column("url", String(500), nullable=False),
    Column("secret", String(128), nullable=False),
    Column("events", Text, nullable=False),
    Column("enabled", Boolean, nullable=False),
    Column("created_at", Float, nullable=False),
    Column("version", Integer, nullable=False),
    sqlite_autoincrement=True,
)
"""``events`` is a JSON list. The secret is kept as it is: it signs what goes out."""

webhook_deliveries = Table(
    "webhook_deliveries",
    metadata,
    Column("id", RowNumber, primary_key=True, autoincrement=True),
    Column(
        "endpoint_id",
        RowNumber,
        ForeignKey("webhook_endpoints.id", ondelete="CASCADE"),
        nullable=False,
        index=True,
    ),
    Column("event_id", String(64), nullable=False),
    Column("event", String(32), nullable=False),
    Column("body", Text, nullable=False),
    Column("created_at", Float, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("next_try_at", Float, index=True),
    Column("delivered_at", Float),
    Column("last_status", Integer, nullable=False),
    Column("last_error", String(255), nullable=False),
    Index("ux_webhook_deliveries_event", "endpoint_id", "event_id", unique=True),
    sqlite_autoincrement=True,
)
"""One row per event and endpoint. ``next_try_at`` is NULL when nothing is to be done any more: delivered, or
given up."""
