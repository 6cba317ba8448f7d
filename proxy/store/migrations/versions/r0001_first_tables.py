"""The first tables: policy, its change log, and the usage log.

Written out in full: a migration describes the tables of its day, whatever the models say later.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision: str | None = None
branch_labels: str | None = None
depends_on: str | None = None


def upgrade() -> None:
    """Create everything."""
    op.create_table(
        "settings",
        sa.Column("name", sa.String(64), primary_key=True),
        sa.Column("value", sa.Text, nullable=False),
    )
    op.create_table(
        "policy_changes",
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=True),
        sa.Column("at", sa.Float, nullable=False),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("action", sa.String(16), nullable=False),
        sa.Column("keys", sa.Text, nullable=False),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_policy_changes_kind", "policy_changes", ["kind", "id"])
    op.create_table(
        "groups",
        sa.Column("name", sa.String(64), primary_key=True),
        sa.Column("rules", sa.Text, nullable=False),
    )
    op.create_table(
        "users",
        sa.Column("extension", sa.String(20), primary_key=True),
        sa.Column(
            "group_name",
            sa.String(64),
            sa.ForeignKey("groups.name", onupdate="CASCADE", ondelete="RESTRICT"),
            nullable=False,
        ),
        sa.Column("name", sa.String(128), nullable=False),
        sa.Column("caller_number", sa.String(64), nullable=False),
        sa.Column("digest_name", sa.String(64), nullable=False, unique=True),
        sa.Column("credentials", sa.Text, nullable=False),
        sa.Column("enabled", sa.Boolean, nullable=False),
    )
    op.create_index("ix_users_group_name", "users", ["group_name"])
    _create_account_codes()
    _create_call_records()


def _create_account_codes() -> None:
    op.create_table(
        "account_codes",
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=True),
        sa.Column("digits", sa.String(20), nullable=False, unique=True),
        sa.Column("typed", sa.String(64), nullable=False),
        sa.Column("description", sa.String(255), nullable=False),
        sa.Column("enabled", sa.Boolean, nullable=False),
        sa.Column("valid_from", sa.Date),
        sa.Column("valid_until", sa.Date),
        sa.Column(
            "owner_group",
            sa.String(64),
            sa.ForeignKey("groups.name", onupdate="CASCADE", ondelete="RESTRICT"),
        ),
        sa.Column(
            "owner_user",
            sa.String(20),
            sa.ForeignKey("users.extension", onupdate="CASCADE", ondelete="RESTRICT"),
        ),
        sa.Column("class_of_service", sa.Text),
        sa.Column("max_uses", sa.Integer),
        sa.Column("uses", sa.Integer, nullable=False),
        sa.Column("change_id", sa.Integer, nullable=False),
    )
    for column in ("owner_group", "owner_user", "change_id"):
        op.create_index(f"ix_account_codes_{column}", "account_codes", [column])


def _create_call_records() -> None:
    op.create_table(
        "call_records",
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=True),
        sa.Column("record_id", sa.String(64), nullable=False, unique=True),
        sa.Column("start_time", sa.Float, nullable=False),
        sa.Column("duration", sa.Float, nullable=False),
        sa.Column("talk_time", sa.Float, nullable=False),
        sa.Column("direction", sa.String(16), nullable=False),
        sa.Column("caller_number", sa.String(64), nullable=False),
        sa.Column("user", sa.String(20), nullable=False),
        sa.Column("group_name", sa.String(64), nullable=False),
        sa.Column("dialled_number", sa.String(64), nullable=False),
        sa.Column("normalised_number", sa.String(64), nullable=False),
        sa.Column("destination_user", sa.String(20), nullable=False),
        sa.Column("call_class", sa.String(16), nullable=False),
        sa.Column("disposition", sa.String(24), nullable=False),
        sa.Column("emergency", sa.Boolean, nullable=False),
        sa.Column("code_key", sa.String(20)),
        sa.Column("code_form", sa.String(64)),
        sa.Column("location", sa.String(64), nullable=False),
        sa.Column("body", sa.Text, nullable=False),
    )
    op.create_index("ix_call_records_start_time", "call_records", ["start_time"])
    op.create_index("ix_call_records_code_key_start_time", "call_records", ["code_key", "start_time"])
    op.create_index("ix_call_records_user_start_time", "call_records", ["user", "start_time"])


def downgrade() -> None:
    """Drop everything."""
    for table in ("call_records", "account_codes", "users", "groups", "policy_changes", "settings"):
        op.drop_table(table)
