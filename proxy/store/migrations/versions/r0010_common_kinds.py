"""Indexes of what calls have in common hold each other's columns: they tell alone what never meets."""

from __future__ import annotations

from alembic import op

revision = "0010"
down_revision: str | None = "0009"
branch_labels: str | None = None
depends_on: str | None = None

INDEXES = {
    "group_name": ["call_class", "direction", "disposition"],
    "call_class": ["direction", "disposition"],
    "direction": ["disposition"],
}


def upgrade() -> None:
    """Put them in the place of those without."""
    for column, others in INDEXES.items():
        op.drop_index(f"ix_call_records_{column}_start_time", "call_records")
        op.create_index(
            f"ix_call_records_{column}_start_time_kind", "call_records", [column, "start_time", *others]
        )


def downgrade() -> None:
    """Put the old ones back."""
    for column in INDEXES:
        op.drop_index(f"ix_call_records_{column}_start_time_kind", "call_records")
        op.create_index(f"ix_call_records_{column}_start_time", "call_records", [column, "start_time"])
