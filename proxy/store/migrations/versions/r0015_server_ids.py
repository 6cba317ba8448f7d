"""PostgreSQL: numbers of rows as wide as SQLite's, and an audit log that only grows."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision: str | None = "0014"
branch_labels: str | None = None
depends_on: str | None = None

NUMBERS = (
    ("policy_changes", "id"),
    ("account_codes", "id"),
    ("account_codes", "change_id"),
    ("call_records", "id"),
    ("corrections", "id"),
    ("bindings", "id"),
    ("portal_accounts", "id"),
    ("portal_sessions", "account_id"),
    ("api_tokens", "id"),
    ("audit_log", "id"),
    ("audit_head", "id"),
    ("audit_head", "last_id"),
    ("webhook_endpoints", "id"),
    ("webhook_deliveries", "id"),
    ("webhook_deliveries", "endpoint_id"),
    ("report_schedules", "id"),
    ("report_schedules", "account_id"),
    ("report_mails", "id"),
    ("report_mails", "schedule_id"),
)

UNCOUNTED = {"audit_log", "audit_head"}
"""Their rows get no number of a sequence."""


def upgrade() -> None:
    """Widen them; in SQLite each integer is wide, and the audit log has its triggers."""
    if op.get_bind().dialect.name != "postgresql":
        return
    for table, column in NUMBERS:
        op.alter_column(table, column, type_=sa.BigInteger)
        if column == "id" and table not in UNCOUNTED:
            op.execute(f"ALTER SEQUENCE {table}_id_seq AS BIGINT")
    op.execute(
        "CREATE FUNCTION audit_log_only_grows() RETURNS trigger LANGUAGE plpgsql AS "
        "$$ BEGIN RAISE EXCEPTION 'the audit log only grows'; END $$"
    )
    op.execute(
        "CREATE TRIGGER audit_log_only_grows BEFORE UPDATE OR DELETE OR TRUNCATE ON audit_log "
        "EXECUTE FUNCTION audit_log_only_grows()"
    )


def downgrade() -> None:
    """Make them as they were."""
    if op.get_bind().dialect.name != "postgresql":
        return
    op.execute("DROP TRIGGER audit_log_only_grows ON audit_log")
    op.execute("DROP FUNCTION audit_log_only_grows()")
    for table, column in NUMBERS:
        op.alter_column(table, column, type_=sa.Integer)
        if column == "id" and table not in UNCOUNTED:
            op.execute(f"ALTER SEQUENCE {table}_id_seq AS INTEGER")
