"""Totals, numbers and corrections beside the call records, and an index for every way to list them."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision: str | None = "0005"
branch_labels: str | None = None
depends_on: str | None = None

INDEXES: dict[str, list[str]] = {
    "ix_call_records_start_time_code_key_talk_time": ["start_time", "code_key", "talk_time"],
    "ix_call_records_code_key_start_time_talk_time": ["code_key", "start_time", "talk_time"],
    "ix_call_records_talk_time_start_time": ["talk_time", "start_time"],
    **{
        f"ix_call_records_{column}_start_time": [column, "start_time"]
        for column in (
            "caller_number",
            "dialled_number",
            "normalised_number",
            "destination_user",
            "group_name",
            "call_class",
            "disposition",
            "direction",
            "emergency",
        )
    },
}
REPLACED = {
    "ix_call_records_start_time": ["start_time"],
    "ix_call_records_code_key_start_time": ["code_key", "start_time"],
}


def upgrade() -> None:
    """Create the tables, and fill them from the records that are there."""
    op.add_column("call_records", sa.Column("day", sa.String(10), nullable=False, server_default=""))
    op.add_column(
        "call_records", sa.Column("corrected", sa.Boolean, nullable=False, server_default=sa.false())
    )
    for name in REPLACED:
        op.drop_index(name, "call_records")
    _create_tables()
    _fill(op.get_bind())
    for name, columns in INDEXES.items():
        op.create_index(name, "call_records", columns)


def _create_tables() -> None:
    op.create_table(
        "usage_totals",
        sa.Column("dimension", sa.String(16), primary_key=True),
        sa.Column("period", sa.String(10), primary_key=True),
        sa.Column("key", sa.String(64), primary_key=True),
        sa.Column("calls", sa.Integer, nullable=False),
        sa.Column("answered", sa.Integer, nullable=False),
        sa.Column("talk_ms", sa.BigInteger, nullable=False),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "call_numbers", sa.Column("number", sa.String(64), primary_key=True), sqlite_with_rowid=False
    )
    op.create_table(
        "corrections",
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=True),
        sa.Column("record_id", sa.String(64), nullable=False),
        sa.Column("at", sa.Float, nullable=False),
        sa.Column("who", sa.String(128), nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("before_key", sa.String(20), nullable=False),
        sa.Column("before_form", sa.String(64), nullable=False),
        sa.Column("before_description", sa.String(255), nullable=False),
        sa.Column("after_key", sa.String(20), nullable=False),
        sa.Column("after_form", sa.String(64), nullable=False),
        sa.Column("after_description", sa.String(255), nullable=False),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_corrections_record_id", "corrections", ["record_id"])


def _fill(connection: sa.Connection) -> None:
    # The site's day, as the database's own idea of local time has it.
    day = (
        "strftime('%Y-%m-%d', start_time, 'unixepoch', 'localtime')"
        if connection.dialect.name == "sqlite"
        else "to_char(to_timestamp(start_time), 'YYYY-MM-DD')"
    )
    op.execute(
        f"UPDATE call_records SET day = {day}, code_key = COALESCE(code_key, ''), "  # noqa: S608 - names only
        "code_form = COALESCE(code_form, '')"
    )
    for dimension, period, key, condition in (
        ("day", "day", "''", ""),
        ("user", "day", '"user"', ""),
        ("user_month", "substr(day, 1, 7)", '"user"', ""),
        ("group", "day", "group_name", ""),
        ("class", "day", "call_class", ""),
        ("result", "day", "disposition", ""),
        ("code_month", "substr(day, 1, 7)", "code_key", "WHERE code_key <> ''"),
    ):
        op.execute(
            f"INSERT INTO usage_totals SELECT '{dimension}', {period}, {key}, COUNT(*), "  # noqa: S608
            "SUM(CASE WHEN talk_time > 0.0005 THEN 1 ELSE 0 END), "
            "SUM(CAST(ROUND(talk_time * 1000) AS BIGINT)) "
            f"FROM call_records {condition} GROUP BY 2, 3"
        )
    op.execute(
        "INSERT INTO call_numbers SELECT caller_number FROM call_records UNION SELECT dialled_number "
        "FROM call_records UNION SELECT normalised_number FROM call_records"
    )


def downgrade() -> None:
    """Drop them."""
    for name in INDEXES:
        op.drop_index(name, "call_records")
    for name, columns in REPLACED.items():
        op.create_index(name, "call_records", columns)
    for table in ("corrections", "call_numbers", "usage_totals"):
        op.drop_table(table)
    op.drop_column("call_records", "corrected")
    op.drop_column("call_records", "day")
