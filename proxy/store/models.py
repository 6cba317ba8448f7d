"""The tables of the store.

Rows of the policy carry the number of the change that wrote them (``change_id``), so that a running gate
reads what is newer than its snapshot and nothing else. ``version`` is another number: only administrators
raise it, and two of them notice each other by it (`proxy.store.versions`). Call records keep their whole JSON
(``body``) beside the few columns that lists filter and sort by.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Date,
    Float,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    false,
    text,
)

__all__ = [
    "RowNumber",
    "account_codes",
    "bindings",
    "call_records",
    "caller_locks",
    "groups",
    "metadata",
    "policy_changes",
    "users",
]

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "pk": "pk_%(table_name)s",
    }
)

RowNumber = BigInteger().with_variant(Integer(), "sqlite")
"""64 bits: SQLite's INTEGER has them, and is the only type that it counts up."""

policy_changes = Table(
    "policy_changes",
    metadata,
    Column("id", RowNumber, primary_key=True, autoincrement=True),
    Column("at", Float, nullable=False),
    Column("kind", String(16), nullable=False),
    Column("action", String(16), nullable=False),
    Column("keys", Text, nullable=False),
    Index("ix_policy_changes_kind", "kind", "id"),
    sqlite_autoincrement=True,
)
"""The change log: one row per change, whose monotonic id is the version of the policy.

``keys`` is a JSON list of what was deleted, [] for additions (their rows carry the id of the change). Old
rows go (`proxy.store.changes`): nobody follows them any more.
"""

groups = Table(
    "groups",
    metadata,
    Column("name", String(64), primary_key=True),
    Column("rules", Text, nullable=False),
    Column("version", Integer, nullable=False, server_default="1"),
)
"""User groups; ``rules`` is JSON (`proxy.store.rows`)."""

users = Table(
    "users",
    metadata,
    Column("extension", String(20), primary_key=True),
    Column(
        "group_name",
        String(64),
        ForeignKey("groups.name", onupdate="CASCADE", ondelete="RESTRICT"),
        nullable=False,
        index=True,
    ),
    Column("name", String(128), nullable=False),
    Column("caller_number", String(64), nullable=False),
    Column("digest_name", String(64), nullable=False, unique=True),
    Column("credentials", Text, nullable=False),
    Column("enabled", Boolean, nullable=False),
    Column("version", Integer, nullable=False, server_default="1"),
)

account_codes = Table(
    "account_codes",
    metadata,
    Column("id", RowNumber, primary_key=True, autoincrement=True),
    Column("digits", String(20), nullable=False, unique=True),
    Column("typed", String(64), nullable=False),
    Column("description", String(255), nullable=False),
    Column("enabled", Boolean, nullable=False),
    Column("valid_from", Date),
    Column("valid_until", Date),
    Column(
        "owner_group",
        String(64),
        ForeignKey("groups.name", onupdate="CASCADE", ondelete="RESTRICT"),
        index=True,
    ),
    Column(
        "owner_user",
        String(20),
        ForeignKey("users.extension", onupdate="CASCADE", ondelete="RESTRICT"),
        index=True,
    ),
    Column("class_of_service", Text),
    Column("max_uses", Integer),
    Column("uses", Integer, nullable=False),
    Column("change_id", RowNumber, nullable=False, index=True),
    Column("version", Integer, nullable=False, server_default="1"),
    sqlite_autoincrement=True,
)
"""``id`` is never given twice: schedules, the audit log and pages that are open name codes by it."""

call_records = Table(
    "call_records",
    metadata,
    Column("id", RowNumber, primary_key=True, autoincrement=True),
    Column("record_id", String(64), nullable=False, unique=True),
    Column("start_time", Float, nullable=False),
    Column("duration", Float, nullable=False),
    Column("talk_time", Float, nullable=False),
    Column("direction", String(16), nullable=False),
    Column("caller_number", String(64), nullable=False),
    Column("user", String(20), nullable=False),
    Column("group_name", String(64), nullable=False),
    Column("dialled_number", String(64), nullable=False),
    Column("normalised_number", String(64), nullable=False),
    Column("destination_user", String(20), nullable=False),
    Column("call_class", String(16), nullable=False),
    Column("disposition", String(24), nullable=False),
    Column("emergency", Boolean, nullable=False),
    Column("code_key", String(20)),
    Column("code_form", String(64)),
    Column("location", String(64), nullable=False),
    Column("body", Text, nullable=False),
    Column("day", String(10), nullable=False, server_default=""),
    Column("corrected", Boolean, nullable=False, server_default=false()),
    Column("wrong_tries", Integer, nullable=False, server_default="0"),
    # Few calls have any: what the overview tells of them is read from this index alone.
    Index(
        "ix_call_records_wrong_tries_start_time",
        "start_time",
        "user",
        "caller_number",
        "wrong_tries",
        sqlite_where=text("wrong_tries > 0"),
        postgresql_where=text("wrong_tries > 0"),
    ),
    # The two that reports read, and read nothing else.
    Index("ix_call_records_start_time_code_key_talk_time", "start_time", "code_key", "talk_time"),
    Index("ix_call_records_code_key_start_time_talk_time", "code_key", "start_time", "talk_time"),
    *(
        Index(f"ix_call_records_{name}_start_time", name, "start_time")
        for name in (
            "talk_time",
            "caller_number",
            "user",
            "dialled_number",
            "normalised_number",
            "destination_user",
            "disposition",
            "emergency",
        )
    ),
    # What many calls have in common: each index holds those that are listed after it too.
    *(
        Index(f"ix_call_records_{name}_start_time_kind", name, "start_time", *others)
        for name, *others in (
            ("group_name", "call_class", "direction", "disposition"),
            ("call_class", "direction", "disposition"),
            ("direction", "disposition"),
        )
    ),
)
"""The usage log. Each column that a list filters or sorts by has its index, which ends with the start, so
that every list comes in order from one of them (`proxy.store.usage_lists`), or with it and the few columns
that are filtered by together. ``day`` is the site's day of the
start; ``code_key`` and ``code_form`` are "" without a code, and tell a corrected one when ``corrected``."""

caller_locks = Table(
    "caller_locks",
    metadata,
    Column("caller", String(128), primary_key=True),
    Column("since", Float, nullable=False),
    Column("until", Float),
    Column("wrong", Integer, nullable=False),
)
"""Who may enter no account code; ``until`` is NULL until somebody unlocks it."""

bindings = Table(
    "bindings",
    metadata,
    Column("id", RowNumber, primary_key=True, autoincrement=True),
    Column("user", String(20), nullable=False, index=True),
    Column("contact", Text, nullable=False),
    Column("expires_at", Float, nullable=False, index=True),
    Column("body", Text, nullable=False),
)
"""Where phones have registered. ``body`` is JSON (`proxy.store.bindings`); it is no policy and has no change
log: the gate that is running is the one that knows."""
