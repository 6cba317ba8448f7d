"""How many wrong codes were typed in a call stands in a column of its own, so that those calls are found."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision: str | None = "0013"
branch_labels: str | None = None
depends_on: str | None = None


def upgrade() -> None:
    """Add the column, fill it from the records, and index the few calls in which it says anything."""
    op.add_column("call_records", sa.Column("wrong_tries", sa.Integer, nullable=False, server_default="0"))
    # A record that can't be read is no reason not to start.
    tries = """CAST(substring(body FROM '^[{].*"wrong_tries":([0-9]{1,9})[,}]') AS INTEGER)"""
    if op.get_bind().dialect.name == "sqlite":
        tries = "CASE WHEN json_valid(body) THEN json_extract(body, '$.wrong_tries') END"
    # Records hold no field that is not set, and a quote within a text is escaped.
    op.execute(
        f"UPDATE call_records SET wrong_tries = COALESCE({tries}, 0) WHERE body LIKE '%\"wrong_tries\":%'"  # noqa: S608
    )
    some = sa.text("wrong_tries > 0")
    op.create_index(
        "ix_call_records_wrong_tries_start_time",
        "call_records",
        ["start_time", "user", "caller_number", "wrong_tries"],
        sqlite_where=some,
        postgresql_where=some,
    )


def downgrade() -> None:
    """Drop it."""
    op.drop_index("ix_call_records_wrong_tries_start_time", "call_records")
    op.drop_column("call_records", "wrong_tries")
