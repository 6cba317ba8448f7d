"""The portal's own tables: who may log in, what is open, which programs may ask, and the audit log."""

from __future__ import annotations

from sqlalchemy import BigInteger, Boolean, Column, Float, ForeignKey, Index, Integer, String, Table, Text

from proxy.store.models import RowNumber, metadata

__all__ = ["api_tokens", "audit_head", "audit_log", "login_failures", "portal_accounts", "portal_sessions"]

portal_accounts = Table(
    "portal_accounts",
    metadata,
    Column("id", RowNumber, primary_key=True, autoincrement=True),
    Column("name", String(64), nullable=False),
    Column("name_key", String(64), nullable=False, unique=True),
    Column("role", String(20), nullable=False),
    Column("extension", String(20), nullable=False),
    Column("password_hash", Text, nullable=False),
    Column("must_change", Boolean, nullable=False),
    Column("totp_secret", String(128), nullable=False),
    Column("totp_step", BigInteger, nullable=False),
    Column("groups_write", Boolean, nullable=False),
    Column("see_codes", Boolean, nullable=False),
    Column("disabled", Boolean, nullable=False),
    Column("created_at", Float, nullable=False),
    Column("password_changed_at", Float, nullable=False),
    Column("version", Integer, nullable=False),
    Column("sign_on", String(64), nullable=False, server_default="", index=True),
    sqlite_autoincrement=True,
)
"""``name_key`` is the name without case: two accounts can't differ by it alone. ``sign_on`` is its
owner at a provider of single sign-on (`proxy.store.accounts.sign_on_key`), or "". ``totp_step`` is the last
time step whose password was taken (RFC 6238 §5.2: none is taken twice)."""

portal_sessions = Table(
    "portal_sessions",
    metadata,
    Column("session_hash", String(64), primary_key=True),
    Column(
        "account_id",
        RowNumber,
        ForeignKey("portal_accounts.id", ondelete="CASCADE"),
        nullable=False,
        index=True,
    ),
    Column("csrf_secret", String(64), nullable=False),
    Column("source", String(64), nullable=False),
    Column("created_at", Float, nullable=False),
    Column("last_seen_at", Float, nullable=False),
    Column("expires_at", Float, nullable=False, index=True),
)
"""Who reads this table can't use what he finds: the cookie's value is not in it, only its hash."""

login_failures = Table(
    "login_failures",
    metadata,
    Column("key", String(64), primary_key=True),
    Column("failures", Integer, nullable=False),
    Column("last_at", Float, nullable=False, index=True),
    Column("locked_until", Float, nullable=False),
)
"""``key`` is a hash of name and source: people type passwords where the name belongs."""

api_tokens = Table(
    "api_tokens",
    metadata,
    Column("id", RowNumber, primary_key=True, autoincrement=True),
    Column("name", String(64), nullable=False, unique=True),
    Column("token_hash", String(64), nullable=False, unique=True),
    Column("scopes", Text, nullable=False),
    Column("created_by", String(128), nullable=False),
    Column("created_at", Float, nullable=False),
    Column("expires_at", Float),
    Column("last_used_at", Float),
    sqlite_autoincrement=True,
)

audit_log = Table(
    "audit_log",
    metadata,
    Column("id", RowNumber, primary_key=True, autoincrement=False),
    Column("at_ms", BigInteger, nullable=False),
    Column("who", String(128), nullable=False),
    Column("role", String(20), nullable=False),
    Column("source", String(64), nullable=False),
    Column("action", String(32), nullable=False),
    Column("kind", String(16), nullable=False),
    Column("object", String(255), nullable=False),
    Column("before", Text),
    Column("after", Text),
    Column("previous_hash", String(64), nullable=False),
    Column("hash", String(64), nullable=False),
    Index("ix_audit_log_who", "who", "id"),
    Index("ix_audit_log_kind_object", "kind", "object", "id"),
)
"""One row per change, numbered without a hole and chained by hashes (`proxy.store.audit`). Triggers refuse
UPDATE and DELETE."""

audit_head = Table(
    "audit_head",
    metadata,
    Column("id", RowNumber, primary_key=True, autoincrement=False),
    Column("last_id", RowNumber, nullable=False),
    Column("last_hash", String(64), nullable=False),
)
"""One row: where the chain ends, so that rows missing from its end are noticed."""
